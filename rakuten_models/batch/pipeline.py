"""A whole catalog in, the same catalog with predictions out.

    python -m rakuten_models.batch catalog.csv scored.csv
    python -m rakuten_models.batch catalog.parquet scored --images pictures.zip --top 5

Every row of the input is a row of the output, in the same order and with the same values; predictions come in columns
that begin with `predicted_`, and a row that could not be scored has the reason in `predicted_error`. A run that was
stopped or killed goes on where it was. Memory stays the same however long the catalog is.
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
from rakuten_models.batch.settings import BatchSettings
from rakuten_models.catalog.columns import Columns, check_columns, recognise_columns
from rakuten_models.catalog.locations import is_url, path_of
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import BatchError, Message


def score_catalog(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classifier: ProductClassifier,
    images: str | os.PathLike[str] | None = None,
    settings: BatchSettings | None = None,
    progress: Callable[[BatchProgress], None] | None = None,
    noted: Callable[[int, Message], None] | None = None,
    cancelled: Callable[[], bool] | Event | None = None,
    **choices: Any,
) -> BatchSummary:
    """Score a catalog.

    Args:
        source: See `CatalogSource`.
        output: A name that ends in .csv, or a folder for Parquet parts. What a killed run has left is taken up;
            what is finished is left alone.
        classifier: From `ProductClassifier.from_pretrained`.
        images: The folder or ZIP file with the pictures, or a URL; None: only texts are looked at, and pictures whose
            bytes are in the catalog.
        settings: The choices; None takes the defaults.
        progress: Called after every few hundred rows.
        noted: Called with a row's number, from 1, and why it was not scored or its picture left out; in order, and
            not again for rows of an earlier run.
        cancelled: A function or an Event, asked as often.
        **choices: Single fields of `BatchSettings`, such as top=5, instead of those in `settings`.

    Raises:
        BatchCancelled: `cancelled` said so.
        BatchError: The catalog, the columns, the pictures or the output cannot be used, or the output is of
            another run.
    """
    started = time.monotonic()
    settings = dataclasses.replace(settings or BatchSettings(), **choices)
    settings.check()
    catalog = CatalogSource(source)
    columns = _complete(settings, catalog.names)
    check_columns(columns, catalog.names)
    if is_url(output):
        raise BatchError("batch.output_url", output=output)
    destination = path_of(output)
    _check_output(catalog, destination)
    if images is not None:
        # Workers have other working folders.
        images = os.fspath(images) if is_url(images) else os.path.abspath(path_of(images))
    top = min(settings.top, len(classifier.categories))
    job = JobSpec(
        catalog,
        ScoreSettings(
            columns, images, top, settings.threshold, free_prefix(catalog.names, top), settings.picture_seconds
        ),
        OutputFormat(is_csv(destination), settings.spreadsheet_safe),
        settings.chunk_rows,
    )
    scored = ScoredOutput(destination, _identity(job, classifier))
    with TableScorer(classifier, job.settings) as scorer, scored.open(overwrite=settings.overwrite) as state:
        counts = Counts.from_json(state["counts"])
        run = Run(state["rows"], catalog.rows, progress, cancelled)
        if state["finished"]:
            return _summary(counts, run, started, destination, already_finished=True)
        run.report()
        if settings.engine == "ray":
            from rakuten_models.batch.ray_data.engine import ray_chunks

            chunks = ray_chunks(job, classifier, state["chunks"], run.advance, settings)
        else:
            chunks = local_chunks(job, scorer, state["chunks"], state["rows"], run.advance)
        with contextlib.closing(chunks):
            for chunk in chunks:
                if noted is not None:
                    for row, problem in chunk.problems.items():
                        noted(state["rows"] + row + 1, problem)
                counts += chunk.counts
                scored.append(chunk.content, chunk.rows, counts.to_json())
        if not state["chunks"]:
            empty = catalog.schema
            for each in added_fields(job.settings):
                empty = empty.append(each)
            scored.append(encoded(empty.empty_table(), job.form, first=True), 0, counts.to_json())
        if state["rows"] != catalog.rows:
            raise BatchError("catalog.changed", file=source)
        scored.finish()
    return _summary(counts, run, started, destination)


def _summary(counts: Counts, run: Run, started: float, output: Path, *, already_finished: bool = False) -> BatchSummary:
    seconds = time.monotonic() - started
    rate = (run.done - run.before) / max(1e-9, seconds)
    return BatchSummary(
        **vars(counts), output=output, seconds=seconds, rows_per_second=rate, already_finished=already_finished
    )


def _complete(settings: BatchSettings, names: list[str]) -> Columns:
    found = recognise_columns(names)
    columns = settings.columns or found
    if columns.image is None and columns.imageid is None and columns.productid is None:
        columns = dataclasses.replace(columns, imageid=found.imageid, productid=found.productid)
    return dataclasses.replace(
        columns,
        label=settings.label_column or columns.label or found.label,
        index=found.index if columns.index is None else columns.index,
    )


def _check_output(catalog: CatalogSource, output: Path) -> None:
    """Refuse to write where it reads, and what a CSV file cannot hold."""
    real = output.resolve()
    local = [] if is_url(catalog.files[0]) else [file.resolve() for file in catalog.files]
    if real in local:
        raise BatchError("batch.output_is_input", output=output)
    if local and catalog.folder is not None and real.parent == catalog.folder.resolve() and is_csv(output):
        raise BatchError("batch.output_in_input", output=output)
    if real.is_dir() and any(file.parent == real for file in local):
        raise BatchError("batch.output_is_input_folder", output=output)
    if is_csv(output):
        for each in catalog.schema:
            if "binary" in str(each.type):
                raise BatchError("batch.bytes_in_csv", name=each.name)


def _identity(job: JobSpec, classifier: ProductClassifier) -> dict[str, Any]:
    """What the output depends on, as plain values."""
    settings = job.settings
    return {
        "input": job.catalog.fingerprint(),
        "bundle": bundle_digest(classifier),
        "revision": classifier.revision,
        "threshold": settings.threshold,
        "columns": dataclasses.asdict(settings.columns),
        "images": _images_identity(settings.images),
        "label_column": settings.columns.label,
        "top": settings.top,
        "spreadsheet_safe": job.form.safe and job.form.csv,
        "chunk_rows": job.chunk_rows,
        "prdtypecodes": [category.prdtypecode for category in classifier.categories],
        "version": __version__,
    }


def _images_identity(images: str | None) -> str | list[Any] | None:
    if images is None or is_url(images):
        return images
    path = Path(images).resolve()
    if not path.is_file():
        return str(path)
    facts = path.stat()
    return [str(path), facts.st_size, facts.st_mtime_ns]
