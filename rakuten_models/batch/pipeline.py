"""A whole catalog in, the same catalog with predictions out.

    python -m rakuten_models.batch catalog.csv scored.csv
    python -m rakuten_models.batch catalog.parquet scored --images pictures.zip --top 5

`score_catalog` is the one function behind the command and the app. Every row of the input is a row of the output,
in the same order and with the same values; predictions come in columns that begin with `predicted_`, and a row that
could not be scored has the reason in `predicted_error`. A run that was stopped or killed goes on where it was when
it is started again. Memory stays the same however long the catalog is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rakuten_models import __version__
from rakuten_models.batch.engine import JobSpec, local_chunks
from rakuten_models.batch.output import OutputFormat, ScoredOutput, encoded, is_csv
from rakuten_models.batch.progress import BatchProgress, BatchSummary, Counts, Event, Run
from rakuten_models.batch.scorer import ScoreSettings, TableScorer, added_fields, bundle_digest, free_prefix
from rakuten_models.catalog.columns import Columns, check_columns, recognise_columns
from rakuten_models.catalog.image_store import PICTURE_SECONDS
from rakuten_models.catalog.locations import is_url, path_of
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import BatchError

# Rows that a kill can cost at most, and rows of one Parquet part.
CHUNK_ROWS = 2048

ENGINES = ("local", "ray")


def score_catalog(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classifier: ProductClassifier,
    images: str | os.PathLike[str] | None = None,
    columns: Columns | None = None,
    label_column: str | None = None,
    top: int = 3,
    progress: Callable[[BatchProgress], None] | None = None,
    cancelled: Callable[[], bool] | Event | None = None,
    spreadsheet_safe: bool = False,
    overwrite: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    picture_seconds: float = PICTURE_SECONDS,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
) -> BatchSummary:
    """Score a catalog.

    Args:
        source: A CSV, JSON Lines or Parquet file, a folder of files of one kind, or a glob; local, or under a URL that
            fsspec knows (s3, gs, hf, https).
        output: A name that ends in .csv, or a folder for Parquet parts. What a killed run has left is taken up;
            what is finished is left alone.
        classifier: From `ProductClassifier.from_pretrained`. A wrapper around one that answers otherwise (at another
            threshold, say) tells runs apart by an attribute `variant`, any plain value.
        images: The folder or ZIP file with the pictures, or a URL; None: only texts are looked at, and pictures whose
            bytes are in the catalog.
        columns: Which column is what; None recognises them by name. Given columns are taken as they are, save that
            productid and imageid are recognised where no image column is given.
        label_column: The column with the true codes, for `evaluate_scored`.
        top: How many of the most probable categories to write for each row.
        progress: Called after every few hundred rows.
        cancelled: A function or an Event, asked as often.
        spreadsheet_safe: In a CSV output, put an apostrophe before texts that a spreadsheet would take for formulas.
            Off, every value stays exactly as it was.
        overwrite: Replace an output that is finished or of another run.
        chunk_rows: Rows of a Parquet part, and rows that a kill can cost at most.
        picture_seconds: That one picture under a URL may take, more than 0.
        engine: "local", which is this process; or "ray", Ray Data on this machine or a cluster (`batch_ray`). The
            output is the same, and either goes on where the other was stopped.
        address: Of the Ray cluster; None: one of this machine's own.
        workers: Ray actors that score; None: by the cluster's size.

    Returns:
        What was done.

    Raises:
        BatchCancelled: `cancelled` said so.
        BatchError: The catalog, the columns, the pictures or the output cannot be used, or the output is of
            another run.
    """
    started = time.monotonic()
    if top < 1 or chunk_rows < 1:
        raise BatchError(f"top is {top} and chunk_rows is {chunk_rows}; both must be at least 1.")
    _check_engine(engine, address, workers, picture_seconds)
    catalog = CatalogSource(source)
    columns = _complete(columns, catalog.names)
    if label_column is not None:
        columns = dataclasses.replace(columns, label=label_column)
    check_columns(columns, catalog.names)
    if is_url(output):
        raise BatchError(
            f"{output} is a URL; give a local folder or file, and copy it from there when it is finished."
        )
    destination = path_of(output)
    _check_places(catalog, destination)
    top = min(top, len(classifier.categories))
    if images is not None:
        # Workers have other working folders.
        images = os.fspath(images) if is_url(images) else os.path.abspath(path_of(images))
    settings = ScoreSettings(columns, images, top, free_prefix(catalog.names, top), picture_seconds)
    form = OutputFormat(is_csv(destination), spreadsheet_safe)
    work = JobSpec(catalog, settings, form, chunk_rows)
    identity = {
        "input": catalog.fingerprint(),
        "bundle": bundle_digest(classifier),
        "revision": classifier.revision,
        "variant": getattr(classifier, "variant", None),
        "columns": dataclasses.asdict(columns),
        "images": _images_identity(images),
        "label_column": columns.label,
        "top": top,
        "spreadsheet_safe": spreadsheet_safe and is_csv(destination),
        "chunk_rows": chunk_rows,
        "prdtypecodes": [category.prdtypecode for category in classifier.categories],
        "version": __version__,
    }
    scored = ScoredOutput(destination, identity)
    with TableScorer(classifier, settings) as scorer, scored.open(overwrite=overwrite) as state:
        counts = Counts(state["counts"])
        run = Run(state["rows"], catalog.rows, progress, cancelled)
        if state["finished"]:
            return counts.summary(run, started, destination, already_finished=True)
        run.report()
        place = {"chunks": state["chunks"], "done": run.advance}
        if engine == "ray":
            from rakuten_models.batch.ray_data.engine import ray_chunks

            pieces = ray_chunks(work, classifier, address=address, workers=workers, **place)
        else:
            pieces = local_chunks(work, scorer, rows=state["rows"], **place)
        with contextlib.closing(pieces):
            for piece in pieces:
                counts.include(piece.counts)
                scored.append(piece.content, piece.rows, counts.to_json())
        if not state["chunks"]:
            empty = catalog.schema
            for each in added_fields(settings):
                empty = empty.append(each)
            scored.append(encoded(empty.empty_table(), form, first=True), 0, counts.to_json())
        if state["rows"] != catalog.rows:
            raise BatchError(f"{source} was changed while it was scored; score it again with another output.")
        scored.finish()
    return counts.summary(run, started, destination)


def _complete(columns: Columns | None, names: list[str]) -> Columns:
    found = recognise_columns(names)
    if columns is None:
        return found
    if columns.image is None and columns.imageid is None and columns.productid is None:
        columns = dataclasses.replace(columns, imageid=found.imageid, productid=found.productid)
    return dataclasses.replace(
        columns,
        label=found.label if columns.label is None else columns.label,
        index=found.index if columns.index is None else columns.index,
    )


def _check_engine(engine: str, address: str | None, workers: int | None, picture_seconds: float) -> None:
    if engine not in ENGINES:
        raise BatchError(f"There is no engine {engine!r}; expected {' or '.join(ENGINES)}.")
    if engine != "ray" and (address is not None or workers is not None):
        raise BatchError(
            "An address or a number of workers was given to the engine local; choose the engine ray."
        )
    if (workers is not None and workers < 1) or picture_seconds <= 0:
        raise BatchError(
            f"There are {workers} workers and {picture_seconds:g} s for a picture; give at least 1, and more than 0."
        )


def _check_places(catalog: CatalogSource, output: Path) -> None:
    """Refuse to write where it reads, and what a CSV file cannot hold."""
    real = output.resolve()
    local = [] if is_url(catalog.files[0]) else [file.resolve() for file in catalog.files]
    if real in local:
        raise BatchError(f"{output} is a file of the catalog; give another output.")
    if local and catalog.folder is not None and real.parent == catalog.folder.resolve() and is_csv(output):
        raise BatchError(
            f"{output} lies in the catalog's folder and would become a part of it; give another place."
        )
    if real.is_dir() and any(file.parent == real for file in local):
        raise BatchError(f"{output} is the catalog's folder; give another output.")
    if is_csv(output):
        for each in catalog.schema:
            if "binary" in str(each.type):
                raise BatchError(
                    f"The column {each.name!r} holds bytes, which a CSV file cannot; give a folder as output."
                )


def _images_identity(images: str | os.PathLike[str] | None) -> str | list[Any] | None:
    if images is None or is_url(images):
        return None if images is None else str(images)
    path = Path(images).resolve()
    if not path.is_file():
        return str(path)
    facts = path.stat()
    return [str(path), facts.st_size, facts.st_mtime_ns]
