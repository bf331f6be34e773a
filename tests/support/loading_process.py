"""A caller of the package in a process of its own, which loads one bundle after the other and must survive them all.

Told a folder a line on standard input; answers a line of JSON: {"outcome": "refused" with the "sentence", "loaded" with
"probabilities" of the bundle's first products and of others, or "traceback" with the "sentence"}.
"""

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Timer
from typing import Any

from rakuten_models.errors import RakutenModelsError
from rakuten_models.product import Product

ROOT = Path(__file__).resolve().parents[2]

OTHER_PRODUCTS = (
    Product("Lot de 3 coussins brodés", "Housse en coton, 40 x 40 cm"),
    Product("Manette sans fil pour console", ""),
    Product("", "Roman policier d'occasion, très bon état"),
)


class Caller:
    """The process; a new one after it died or was stopped."""

    def __init__(self, code: str = "tests.support.loading_process") -> None:
        self._code = code
        self._process: Popen | None = None

    def load(self, folder: Path, products: Path, seconds: float) -> dict[str, Any]:
        """Have a folder loaded.

        Args:
            folder: The bundle's.
            products: A JSON file with the products to ask about, as a self-check holds them.
            seconds: After which the process is killed.

        Returns:
            Its answer; {"outcome": "crashed" or "hung"} if there is none.
        """
        if self._process is None:
            self._process = Popen([sys.executable, "-m", self._code], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True)
        process, stopped = self._process, []
        timer = Timer(seconds, lambda: (stopped.append(True), process.kill()))
        timer.start()
        try:
            process.stdin.write(json.dumps([str(folder), str(products)]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        self.close()
        return {"outcome": "hung" if stopped else "crashed"}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


@contextmanager
def caller(code: str = "tests.support.loading_process") -> Iterator[Caller]:
    """A caller that is ended with the block."""
    each = Caller(code)
    try:
        yield each
    finally:
        each.close()


def answer(folder: str, products: str) -> dict[str, Any]:
    """What a caller makes of a folder."""
    from rakuten_models import ProductClassifier

    entries = json.loads(Path(products).read_bytes())
    asked = [
        Product(each["designation"], each["description"], base64.b64decode(each["image"] or "") or None)
        for each in entries
    ]
    try:
        classifier = ProductClassifier.from_pretrained(folder)
        predictions = classifier.predict([*asked, *OTHER_PRODUCTS])
    except RakutenModelsError as error:
        return {"outcome": "refused", "sentence": str(error)}
    except Exception as error:
        return {"outcome": "traceback", "sentence": f"{type(error).__name__}: {error}"[:500]}
    return {"outcome": "loaded", "probabilities": [prediction.probabilities.tolist() for prediction in predictions]}


def main() -> None:
    """Answer line by line."""
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
