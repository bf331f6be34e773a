"""What tries `.keras` files, kept alive from one bundle to the next: TensorFlow takes seconds to start.

Talks as `tests.loading_process` does. A crash or a hang of it is what the process of `rakuten_models.trust` would have
suffered in place of the one that trains.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from rakuten_models.bundle import CONFIG_FILE
from rakuten_models.product import RakutenModelsError
from training.keras_trial import attempt


def answer(folder: str, products: str) -> dict[str, Any]:
    """How the trial of a folder's `.keras` files ends."""
    digest = hashlib.sha256((Path(folder) / CONFIG_FILE).read_bytes()).hexdigest()
    try:
        attempt(Path(folder), digest)
    except RakutenModelsError as error:
        return {"outcome": "refused", "sentence": str(error)}
    # As `trial_process`: Keras raises nearly anything, and all of it is a sentence.
    except Exception as error:
        return {"outcome": "refused by Keras", "sentence": f"{type(error).__name__}: {error}"[:500]}
    return {"outcome": "loaded"}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)
