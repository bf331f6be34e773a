"""The engine for catalogs larger than one machine: the same chunks through Ray Data, on this machine or a cluster.

The catalog's plan (where each chunk lies, a few numbers each) goes through three steps: tasks read chunks, actors that
each hold the bundle once score them and encode them as they stand in the output, and this process writes them in
order, which is all it does with them. Ray Data lets no step run further ahead than the next can take, starts again
what was lost with a worker or a node, and the output's own state (`batch/output.py`) survives the death of all.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

import pyarrow

from rakuten_models import __version__
from rakuten_models.batch.engine import JobSpec, ScoredChunk, score_chunk
from rakuten_models.batch.progress import Counts
from rakuten_models.batch.ray_data.cluster import cluster, last_line
from rakuten_models.batch.ray_data.worker import ActorSize, actor_size, bundle_on_this_machine, take_cores
from rakuten_models.batch.scorer import TableScorer
from rakuten_models.batch.settings import BatchSettings
from rakuten_models.bundle.config import SERVING_FILES
from rakuten_models.catalog.source import CatalogSource, Chunk
from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import BatchError, Message, RakutenModelsError

# Booked for a task that reads: nothing. What waits for a CPU could wait for good, since the actors of a node that died
# may take all that is left on the others.
_READ_CPUS = 0

# Chunks that one task reads, if they are consecutive rows of a text file; of a Parquet file, a row group's.
_TEXT_CHUNKS = 4

# Blocks are handed on when they are so large, in bytes: about one chunk.
_BLOCK_BYTES = 65_536

# Without one chunk after which a run gives up: some node is lost for good, or a chunk takes down every worker.
_STANDSTILL_SECONDS = 1800.0


def ray_chunks(
    job: JobSpec, classifier: ProductClassifier, chunks: int, done: Callable[[int], None], settings: BatchSettings
) -> Generator[ScoredChunk]:
    """The scored chunks after the `chunks` that are done, in order, made by a cluster.

    Args:
        job: Its files and pictures must be readable wherever workers run.
        classifier: Whose bundle the workers get.
        chunks: How many are done.
        done: Called with the rows of each chunk; may raise to stop.
        settings: The cluster's address and the number of workers.

    Raises:
        BatchError: See `cluster`; or a worker cannot read, load or score, in one sentence.
    """
    if not isinstance(classifier, ProductClassifier):
        raise BatchError("batch.ray_needs_classifier")
    plan = job.catalog.plan(job.chunk_rows)
    if chunks >= len(plan):
        return
    with cluster(settings.address) as ray:
        size = actor_size([node["Resources"] for node in ray.nodes() if node["Alive"]], settings.workers)
        dataset = _dataset(ray, job, classifier, tasks_of(plan, chunks), size)
        number = chunks
        # At its end the iterator stops what still runs.
        with contextlib.closing(_rows(ray, dataset)) as rows:
            for row in rows:
                if row["problem"] is not None:
                    raise BatchError("batch.worker_failed", problem=row["problem"].rstrip("."))
                if row["number"] != number:
                    raise BatchError("batch.chunk_out_of_order", number=row["number"], expected=number)
                number += 1
                counts = Counts.from_json(json.loads(row["counts"]))
                problems = {int(key): Message.from_json(text) for key, text in json.loads(row["problems"]).items()}
                yield ScoredChunk(row["content"], row["rows"], counts, problems)
                # By now it is written: who stops the run here loses nothing.
                done(row["rows"])
        if number != len(plan):
            raise BatchError("batch.chunks_missing", number=number, expected=len(plan))


def tasks_of(plan: Sequence[Chunk], done: int) -> list[dict[str, Any]]:
    """Which chunks of a plan are read together, as plain values, after the first `done`."""

    def together(numbered: tuple[int, Chunk]) -> tuple[int, ...]:
        number, chunk = numbered
        return (chunk.file, number // _TEXT_CHUNKS if chunk.line else chunk.start)

    numbered = list(enumerate(plan))[done:]
    return [
        {"number": group[0][0], "chunks": json.dumps([chunk for _, chunk in group])}
        for group in (list(each) for _, each in itertools.groupby(numbered, together))
    ]


def _dataset(
    ray: Any, job: JobSpec, classifier: ProductClassifier, tasks: list[dict[str, Any]], size: ActorSize
) -> Any:
    """The three steps, not yet running."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = _BLOCK_BYTES
    context.target_min_block_size = 1
    context.max_tasks_in_flight_per_actor = 2
    context.execution_no_progress_timeout_s = _STANDSTILL_SECONDS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    files = {
        name: (classifier.folder / name).read_bytes() for name in SERVING_FILES if (classifier.folder / name).is_file()
    }
    with ray.data.DataContext.current(context):
        return (
            ray.data.from_items(tasks, override_num_blocks=len(tasks))
            .map_batches(
                _read,
                fn_kwargs={"catalog": job.catalog},
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=_READ_CPUS,
                compute=ray.data.TaskPoolStrategy(size.workers),
            )
            .map_batches(
                _Scorer,
                fn_constructor_kwargs={
                    "job": job,
                    "bundle": ray.put(files),
                    "revision": classifier.revision,
                    "version": __version__,
                    "cores": size.cores,
                },
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=size.cpus,
                compute=ray.data.ActorPoolStrategy(size=size.workers),
            )
        )


def _rows(ray: Any, dataset: Any) -> Generator[dict[str, Any]]:
    """What the actors made, in order; nobody's traceback becomes the user's."""
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from batch.to_pylist()
    except (
        ray.exceptions.RayError,
        ray.data.exceptions.ExecutionTimeoutError,
        ray.data.exceptions.SystemException,
        OSError,
        RuntimeError,
    ) as error:
        raise BatchError("batch.cluster_failed", reason=last_line(error)) from error


def _read(batch: pyarrow.Table, catalog: CatalogSource) -> Iterator[pyarrow.Table]:
    """The chunks of some tasks, each a row: its number, and its table as an Arrow stream."""
    for task in batch.to_pylist():
        chunks = [Chunk(*values) for values in json.loads(task["chunks"])]
        number = first = task["number"]
        try:
            for number, table in enumerate(catalog.read(chunks), start=first):
                stream = pyarrow.BufferOutputStream()
                with pyarrow.ipc.new_stream(stream, table.schema) as writer:
                    writer.write_table(table)
                yield _one_row({"number": number, "table": stream.getvalue().to_pybytes(), "problem": None})
        except (RakutenModelsError, OSError) as error:
            yield _one_row({"number": number, "table": b"", "problem": _on_this_machine(error)})


class _Scorer:
    """An actor: holds the bundle once and scores chunk after chunk."""

    def __init__(self, job: JobSpec, bundle: Any, revision: str | None, version: str, cores: int) -> None:
        """Load the bundle; what is wrong with it is said with the first chunk, in a sentence."""
        import ray

        self._job = job
        self._problem: str | None = None
        try:
            if version != __version__:
                raise BatchError("batch.worker_version", here=__version__, expected=version)
            self._lock = take_cores(cores)
            classifier = ProductClassifier(bundle_on_this_machine(ray.get(bundle)), revision)
            self._scorer = TableScorer(classifier, job.settings)
        except (RakutenModelsError, OSError) as error:
            self._problem = _on_this_machine(error)

    def __call__(self, batch: pyarrow.Table) -> Iterator[pyarrow.Table]:
        """Score chunks from `_read`: each a row with its output, or with the problem."""
        for index, number in enumerate(batch["number"].to_pylist()):
            problem = batch["problem"][index].as_py() or self._problem
            row: dict[str, Any] = {
                "number": number,
                "content": b"",
                "rows": 0,
                "counts": "{}",
                "problems": "{}",
                "problem": problem,
            }
            if problem is None:
                try:
                    table = pyarrow.ipc.open_stream(batch["table"][index].as_buffer()).read_all()
                    chunk = score_chunk(self._scorer, table, self._job, first=number == 0)
                    row |= {
                        "content": chunk.content,
                        "rows": chunk.rows,
                        "counts": json.dumps(chunk.counts.to_json()),
                        "problems": json.dumps({key: each.to_json() for key, each in chunk.problems.items()}),
                    }
                except (RakutenModelsError, OSError) as error:
                    row["problem"] = _on_this_machine(error)
            yield _one_row(row)


_KINDS = {
    "number": pyarrow.int64(),
    "table": pyarrow.large_binary(),
    "content": pyarrow.large_binary(),
    "rows": pyarrow.int64(),
    "counts": pyarrow.string(),
    "problems": pyarrow.string(),
    "problem": pyarrow.string(),
}


def _one_row(values: Mapping[str, Any]) -> pyarrow.Table:
    return pyarrow.table({name: pyarrow.array([value], _KINDS[name]) for name, value in values.items()})


def _on_this_machine(error: Exception) -> str:
    return f"On the worker {socket.gethostname()}: {error}"
