"""A Ray cluster of this machine's own, and what must hold on it while a catalog is scored.

    python -m tests.support.ray_cluster kill CATALOG OUTPUT        a node is killed (kill -9) in mid-run
    python -m tests.support.ray_cluster worker CATALOG OUTPUT      a worker is killed in mid-run, its node stays
    python -m tests.support.ray_cluster slow CATALOG OUTPUT        the writer is slow

Two nodes on this machine, each with processes of its own: raylet, object store and workers. Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.batch.progress import BatchProgress

os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

STORE_BYTES = 100_000_000

CHUNK_ROWS = 200


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    """A head, which this process is connected to, and a second node.

    Yields:
        The cluster and the second node.
    """
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill(node: Any, only: str = "") -> list[str]:
    """Kill a node's raylet and all of its workers, the raylet first, so that nobody can say goodbye.

    Args:
        node: Of the cluster.
        only: Kill processes alone whose name holds this.

    Returns:
        The names of those that were killed.
    """
    raylet = node.all_processes["raylet"][0].process.pid
    processes = [raylet, *(each for each in _processes() if _parent(each) == raylet)]
    names = []
    for process in processes:
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{process}/cmdline").read_text().split("\0")[0].split("/")[-1]
            if only in name:
                os.kill(process, signal.SIGKILL)
                names.append(name)
    return names


def _processes() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def memory_of(process: int | str, kind: str) -> int:
    """Bytes of memory that a process holds now: "VmRSS", or of that "RssShmem", which is a raylet's object store."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{kind}:"))


def spilled_bytes(node: Any) -> int:
    """What an object store has put on the disk because it was full."""
    return sum(each.stat().st_size for each in Path(node.get_session_dir_path()).rglob("ray_spilled_objects*/*"))


def main() -> int:
    """Score; prints what was seen."""
    what, source, output = sys.argv[1:]
    seen: dict[str, Any] = {"killed": [], "store_bytes": 0, "spilled_bytes": 0, "writer_bytes": 0}
    with two_nodes() as (cluster, second):
        raylets = [node.all_processes["raylet"][0].process.pid for node in (cluster.head_node, second)]

        def look(progress: BatchProgress) -> None:
            if what in ("kill", "worker") and progress.done > progress.total / 4 and not seen["killed"]:
                seen["killed"] = kill(second, "Scorer" if what == "worker" else "")
                seen["at"] = progress.done
            if what == "slow":
                time.sleep(0.2)
                stores = [memory_of(raylet, "RssShmem") for raylet in raylets]
                seen["store_bytes"] = max(seen["store_bytes"], *stores)
                seen["spilled_bytes"] = max(seen["spilled_bytes"], spilled_bytes(cluster.head_node))
                seen["writer_bytes"] = max(seen["writer_bytes"], memory_of("self", "VmRSS"))

        summary = score_catalog(
            source,
            output,
            classifier=ProductClassifier.from_pretrained(),
            engine="ray",
            workers=2,
            progress=look,
            chunk_rows=CHUNK_ROWS,
        )
        seen["alive"] = sum(node["Alive"] for node in ray.nodes())
    print(json.dumps({"rows": summary.rows, "scored": summary.scored, "seconds": summary.seconds, **seen}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
