"""Scores a catalog in a process of its own and says how much memory that took at most.

python -m benchmarks.speed.memory_probe BUNDLE CATALOG OUTPUT
"""

from __future__ import annotations

import json
import sys

from benchmarks.machine import peak_memory
from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog


def main() -> int:
    """Score; prints {"rows": scored, "peak": bytes}."""
    bundle, source, output = sys.argv[1:]
    done = score_catalog(source, output, classifier=ProductClassifier.from_pretrained(bundle))
    print(json.dumps({"rows": done.scored, "peak": peak_memory()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
