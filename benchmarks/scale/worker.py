"""Scores a made-up catalog in one way, in a process of its own, and says what that took.

    python -m benchmarks.scale.worker local|ray-1|ray-2|predict|keras BUNDLE CATALOG OUTPUT [IMAGES]

`predict` and `keras` are what people write first: the catalog read with pandas, `predict` in batches (of this
package's classifier, or of the bundle's Keras models), and one file written at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path

from benchmarks.machine import peak_memory
from benchmarks.report import BenchmarkError
from rakuten_models import Product, ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.bundle.folder import read_config
from rakuten_models.cli import run_command

_BATCH = 256


def main(arguments: Sequence[str] | None = None) -> None:
    """Score; prints {"rows", "seconds", "first": (seconds, rows) of the first rows, "peak": bytes}."""
    way, bundle, source, output, *rest = sys.argv[1:] if arguments is None else arguments
    images = rest[0] if rest else None
    started = time.perf_counter()
    first: list[float] = []

    def note(rows: int) -> None:
        if rows and not first:
            first.extend((time.perf_counter() - started, rows))

    if way in ("predict", "keras"):
        rows = _plain_loop(way, Path(bundle), source, output, images, note)
    else:
        options = {"engine": "ray", "workers": int(way[-1])} if way.startswith("ray") else {}
        classifier = ProductClassifier.from_pretrained(bundle)
        options |= {"images": images, "progress": lambda each: note(each.done)}
        done = score_catalog(source, output, classifier=classifier, **options)
        if done.scored != done.rows:
            raise BenchmarkError("benchmark.rows_not_scored", rows=done.rows - done.scored)
        rows = done.rows
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "seconds": seconds, "first": first, "peak": peak_memory()}))


def _plain_loop(
    way: str, bundle: Path, source: str, output: str, images: str | None, note: Callable[[int], None]
) -> int:
    import pandas

    catalog = pandas.read_csv(source, keep_default_na=False)
    if way == "keras":
        from benchmarks.speed.keras_baseline import KerasBaseline

        baseline = KerasBaseline(bundle)
        categories = [category.prdtypecode for category in read_config(bundle).categories]

        def answer(products: list[Product]) -> list[int]:
            answers = (baseline if images else baseline.texts)(products, _BATCH)
            return [categories[each] for each in answers.argmax(axis=1)]

    else:
        classifier = ProductClassifier.from_pretrained(bundle)

        def answer(products: list[Product]) -> list[int]:
            return [each.category.prdtypecode for each in classifier.predict(products)]

    codes: list[int] = []
    for start in range(0, len(catalog), _BATCH):
        part = catalog.iloc[start : start + _BATCH]
        pictures = [Path(images, name).read_bytes() for name in part["image"]] if images else repeat(None)
        rows = zip(part["designation"], part["description"], pictures, strict=False)
        codes += answer([Product(*row) for row in rows])
        note(len(codes))
    catalog.assign(predicted_prdtypecode=codes).to_parquet(f"{output}.parquet")
    return len(catalog)


if __name__ == "__main__":
    sys.exit(run_command(main))
