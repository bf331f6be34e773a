"""What a catalog of 100 million products would take on a cluster, on paper, from rates that were measured here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rakuten_models import ProductClassifier
from rakuten_models.batch.output import OutputFormat, ScoredOutput, encoded
from rakuten_models.batch.scorer import ScoreSettings, TableScorer
from rakuten_models.catalog.columns import recognise_columns
from rakuten_models.catalog.source import CatalogSource

PRODUCTS = 100_000_000

_CHUNK_ROWS = 2048


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
    table = next(catalog.chunks(_CHUNK_ROWS))
    settings = ScoreSettings(recognise_columns(catalog.names))
    with TableScorer(ProductClassifier.from_pretrained(bundle), settings) as scorer:
        part = encoded(scorer(table).table, OutputFormat(csv=False), first=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        output = ScoredOutput(Path(folder) / "out", {})
        with output.open(overwrite=False):
            started = time.perf_counter()
            for _ in range(rounds):
                output.append(part, len(table), {})
            write_rate = rounds * len(table) / (time.perf_counter() - started)
    return Writer(plan_rate, write_rate, len(part) / len(table))


def cost_per_million(rate: float, cores: int, price: float) -> float:
    """What a million products cost.

    Args:
        rate: Products a second of a machine.
        cores: Of that machine.
        price: Of a core for an hour.
    """
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
    lines = [
        "### Cost, and 100 million products on paper",
        "",
        f"From the rates above (Ray, one worker, without the start), nodes like this machine with {cores} cores, "
        f"{price:g} an hour for a core. Linear in the nodes as long as nothing is saturated; not run on a cluster.",
        "",
        "| what | cost of a million | 10 nodes | 100 nodes | the writer is saturated at | pictures, 100 nodes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rate, picture_bytes in rates:
        cells = [f"{cost_per_million(rate, cores, price):.3f}"]
        for nodes in (10, 100):
            reached = min(nodes * rate, writer.write_rate)
            share = nodes * rate / writer.write_rate
            cells.append(
                f"{PRODUCTS / reached / 3600:.1f} h, {reached:,.0f} a second, writer {min(share, 1):.0%} busy"
            )
        cells.append(f"{writer.write_rate / rate:,.0f} nodes")
        traffic = 100 * rate * picture_bytes * 8 / 1e9
        cells.append(f"{traffic:.2f} Gbit/s from the store" if picture_bytes else "none")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    write_megabytes = writer.write_rate * writer.row_bytes / 1e6
    lines += [
        "",
        f"Saturated first: the one process that writes. Here it writes {writer.write_rate:,.0f} scored rows a second "
        f"({writer.row_bytes:,.0f} bytes each, {write_megabytes:,.0f} MB a second, each part and the state synced). "
        "Beyond that, split the catalog by globs into runs of their own. Before it begins it finds the chunks of a CSV "
        f"at {writer.plan_rate:,.0f} rows a second ({PRODUCTS / writer.plan_rate / 60:,.0f} min for 100 million), and "
        "reads all local files once for their fingerprint; of Parquet it reads the footers. Not measured: Ray's own "
        "scheduling on so many nodes, and what a picture store allows.",
        "",
    ]
    return lines
