"""What tries `.keras` files, kept alive from one bundle to the next: TensorFlow takes seconds to start.

Talks as `tests.support.loading_process` does. A crash or a hang of it is what the process of
`rakuten_models.bundle.sandbox` would have suffered in place of the one that trains.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from rakuten_models.bundle.config import CONFIG_FILE
from rakuten_models.errors import RakutenModelsError
from training.pipeline.keras_sandbox import verify_bundle


def answer(folder: str, products: str) -> dict[str, Any]:
    """How the trial of a folder's `.keras` files ends."""
    digest = hashlib.sha256((Path(folder) / CONFIG_FILE).read_bytes()).hexdigest()
    try:
        verify_bundle(Path(folder), digest)
    except RakutenModelsError as error:
        return {"outcome": "refused", "sentence": str(error)}
    # As `sandbox_process`: Keras raises nearly anything, and all of it is a sentence.
    except Exception as error:
        return {"outcome": "refused by Keras", "sentence": f"{type(error).__name__}: {error}"[:500]}
    return {"outcome": "loaded"}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)
