"""Keeps a text network after each pass, so that a fit which was killed goes on as if it had not been."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from training.sparse_network import SparseNetwork


class NetworkCheckpoint:
    """One network's state in one file.

    Args:
        path: The file; its folder is made. It belongs to one fit: the same rows, targets and settings.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def restore(self, network: SparseNetwork, order: numpy.random.Generator) -> tuple[int, float]:
        """Set the network, and the generator of the rows' order, to what was kept.

        Returns:
            The passes that were done, and the mean loss of the last of them in nats.
        """
        if not self._path.is_file():
            return 0, 0.0
        with numpy.load(self._path) as kept:
            note = json.loads(bytes(kept["note"]).decode())
            network.set_state({name: kept[name] for name in kept.files if name != "note"}, note)
        order.bit_generator.state = note["order"]
        return int(note["passes"]), float(note.get("loss", "nan"))

    def save(self, network: SparseNetwork, order: numpy.random.Generator, passes: int, loss: float) -> None:
        """Keep the state after so many passes; the file is the old one or the new one at every moment."""
        arrays, note = network.state()
        note |= {"order": order.bit_generator.state, "passes": passes, "loss": loss}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".part")
        with temporary.open("wb") as stream:
            facts = numpy.frombuffer(json.dumps(note).encode(), numpy.uint8)
            numpy.savez(stream, allow_pickle=False, note=facts, **arrays)
        os.replace(temporary, self._path)

    def remove(self) -> None:
        """Let go of what was kept."""
        self._path.unlink(missing_ok=True)
