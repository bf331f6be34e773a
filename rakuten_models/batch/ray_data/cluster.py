"""Ray, for as long as it is needed: a cluster of this machine's own, or a connection to one that runs."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from rakuten_models.errors import BatchError

# Of the object store on a laptop, in bytes: chunks on their way between the steps.
_LOCAL_STORE = 1_000_000_000

# Until the head of a cluster answers.
_ANSWER_SECONDS = 10.0


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected for the block; a connection that is there already is used and stays.

    Args:
        address: Of a cluster's head, such as "10.0.0.1:6379" or "auto"; None: a cluster of this machine's own.

    Yields:
        The module ray.

    Raises:
        BatchError: Ray is not installed, or there is no such cluster.
    """
    # Ray's own processes tell this one's terminal what they do; what matters comes as an error.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # It would else tell its makers that it is used, and from where.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
        import ray.data.exceptions
    except ImportError as error:
        raise BatchError("batch.ray_missing", reason=str(error)) from error
    if ray.is_initialized():
        yield ray
        return
    own = {} if address else {"object_store_memory": _LOCAL_STORE, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **own)
    # ConnectionError if nobody answers, ValueError for a malformed address, RuntimeError for another version.
    except (OSError, ValueError, RuntimeError) as error:
        raise BatchError(
            "batch.cluster_unusable", address=address or "of this machine", reason=last_line(error)
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Find out whether anybody listens: Ray would end this process after a while, with a page of its own words."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()


def last_line(error: Exception) -> str:
    """The last cause of an error, which says most, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
