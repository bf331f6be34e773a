"""Draws how time grows with the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

# Okabe and Ito's colours, which people with any colour vision tell apart; each has its own marker as well.
_LOOKS = (("#0072B2", "o"), ("#D55E00", "s"))

_UNITS = {"ms": "milliseconds", "MB": "megabytes"}

_COLUMNS = 3

_INCHES, _DOTS_PER_INCH = (11.0, 6.4), 100


def draw_growths(growths: Sequence[Growth], path: Path) -> None:
    """Write the plot as a PNG file of 1100 x 640 pixels."""
    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(-(-len(growths) // _COLUMNS), _COLUMNS, squeeze=False).ravel()
    for panel, growth in zip(panels, growths, strict=False):
        for (name, costs), (colour, marker) in zip(growth.costs.items(), _LOOKS, strict=False):
            panel.plot(growth.sizes, costs, color=colour, marker=marker, label=name)
        panel.set_xscale("log")
        panel.set_yscale("log")
        highest = max(map(max, growth.costs.values()))
        lowest = min(map(min, growth.costs.values()))
        # A flat line looks flat: never less than a factor of ten from bottom to top.
        panel.set_ylim(min(lowest / 1.5, highest / 5), highest * 2)
        panel.set_xticks(list(growth.sizes), [_short(size) for size in growth.sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(growth.title)
        panel.set_ylabel(_UNITS[growth.unit])
        panel.grid(True, color="#E4E7EB")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize="small")
    for panel in panels[len(growths) :]:
        panel.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=_DOTS_PER_INCH)


def _short(size: float) -> str:
    """1000 as 1k, 1000000 as 1M."""
    for step, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= step:
            return f"{size / step:g}{letter}"
    return f"{size:g}"


@dataclass(frozen=True)
class Growth:
    """How one cost grows.

    Attributes:
        title: What grows.
        unit: Of the figures: "ms" or "MB".
        sizes: Ascending.
        costs: By name of what is done, a figure for each size.
    """

    title: str
    unit: str
    sizes: Sequence[float]
    costs: dict[str, list[float]]
