"""What a catalog of 100 million products would take on a cluster, on paper, from rates that were measured here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import table
from rakuten_models import ProductClassifier
from rakuten_models.batch.output import OutputFormat, ScoredOutput, encoded
from rakuten_models.batch.scorer import ScoreSettings, TableScorer
from rakuten_models.catalog.columns import recognise_columns
from rakuten_models.catalog.source import CatalogSource

PRODUCTS = 100_000_000
_CHUNK_ROWS = 2048
_HEAD = (
    "what", "cost of a million", "10 nodes", "100 nodes", "the writer is saturated at", "pictures, 100 nodes",
)  # fmt: skip


@dataclass(frozen=True)
class Writer:
    """What the one process that plans and writes can do.

    Attributes:
        plan_rate: CSV rows a second that it finds the chunks of.
        write_rate: Scored rows a second that it writes, each part and the state synced to the disk.
        row_bytes: Of a scored row as Parquet.
    """

    plan_rate: float
    write_rate: float
    row_bytes: float


def measure_writer(bundle: Path, source: Path, rounds: int) -> Writer:
    """Time planning over a catalog, and writing one of its chunks so many times."""
    catalog = CatalogSource(source)
    started = time.perf_counter()
    plan = catalog.plan(_CHUNK_ROWS)
    plan_rate = sum(chunk.rows for chunk in plan) / (time.perf_counter() - started)
    rows = next(catalog.chunks(_CHUNK_ROWS))
    settings = ScoreSettings(recognise_columns(catalog.names))
    with TableScorer(ProductClassifier.from_pretrained(bundle), settings) as scorer:
        part = encoded(scorer(rows).table, OutputFormat(csv=False), first=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        output = ScoredOutput(Path(folder) / "out", {})
        with output.open(overwrite=False):
            started = time.perf_counter()
            for _ in range(rounds):
                output.append(part, len(rows), {})
            write_rate = rounds * len(rows) / (time.perf_counter() - started)
    return Writer(plan_rate, write_rate, len(part) / len(rows))


def cost_per_million(rate: float, cores: int, price: float) -> float:
    """What a million products cost, at `rate` a second on a machine of so many cores, each at `price` an hour."""
    return 1e6 / rate / 3600 * cores * price


def format_paper(
    rates: Sequence[tuple[str, float, float]], writer: Writer, cores: int, price: float
) -> list[str]:
    """Cost, and time on 10 and 100 nodes like this machine, as lines of Markdown.

    Args:
        rates: What was scored, products a second of one node, and picture bytes of a product.
        writer: From `measure_writer`.
        cores: Of a node.
        price: Of a core for an hour.
    """

    def on_nodes(nodes: int, rate: float) -> str:
        reached, share = min(nodes * rate, writer.write_rate), nodes * rate / writer.write_rate
        return f"{PRODUCTS / reached / 3600:.1f} h, {reached:,.0f} a second, writer {min(share, 1):.0%} busy"

    rows = [
        (
            name,
            f"{cost_per_million(rate, cores, price):.3f}",
            on_nodes(10, rate),
            on_nodes(100, rate),
            f"{writer.write_rate / rate:,.0f} nodes",
            f"{100 * rate * size * 8 / 1e9:.2f} Gbit/s from the store" if size else "none",
        )
        for name, rate, size in rates
    ]
    return [
        "### Cost, and 100 million products on paper",
        "",
        f"From the rates above (Ray, one worker, without the start), nodes like this machine with {cores} cores, "
        f"{price:g} an hour for a core. Linear in the nodes as long as nothing is saturated; not run on a cluster.",
        "",
        *table(_HEAD, rows),
        "",
        f"Saturated first: the one process that writes. Here it writes {writer.write_rate:,.0f} scored rows a second "
        f"({writer.row_bytes:,.0f} bytes each, {writer.write_rate * writer.row_bytes / 1e6:,.0f} MB a second, each "
        "part and the state synced). Beyond that, split the catalog by globs into runs of their own. Before it begins "
        f"it finds the chunks of a CSV at {writer.plan_rate:,.0f} rows a second "
        f"({PRODUCTS / writer.plan_rate / 60:,.0f} min for 100 million), and reads all local files once for their "
        "fingerprint; of Parquet it reads the footers. Not measured: Ray's own scheduling on so many nodes, and what a "
        "picture store allows.",
        "",
    ]
