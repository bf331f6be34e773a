"""The three plots of an evaluation: confusion matrix, reliability diagram, F1 of each category.

Figures are made without pyplot, so that no window system is needed and nothing global is changed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from rakuten_models.files import write_atomically
from rakuten_models.product import Category

SECTIONS = ("text", "image", "fusion", "served")

# Okabe and Ito's colours, which people with any colour vision tell apart; each has its own marker as well.
COLOURS = {"text": "#0072B2", "image": "#D55E00", "fusion": "#009E73", "served": "#B9C3CE"}
MARKERS = {"text": "o", "image": "s", "fusion": "D"}
INK = "#1F2933"
FAINT = "#8A949E"
GRID = "#E4E7EB"
SHADES = LinearSegmentedColormap.from_list("shades", ["#FFFFFF", "#C6DBEF", "#4292C6", "#08306B"])
NAME_LENGTH = 34
NUMBERED_CATEGORIES = 45  # in a larger matrix a number would be too small to read
PALETTE_COLOURS = 96  # enough for these few colours and their soft edges; a third of the size of full colour
RESOLUTION = 100  # dots per inch


def write_plots(metrics: Mapping[str, Any], categories: Sequence[Category], folder: Path) -> None:
    """Draws confusion_matrix.png, reliability.png and category_f1.png into a folder.

    Args:
        metrics: From `training.evaluate.evaluate_predictions`.
        categories: In the order of the models' columns.
        folder: An existing folder; files of these names are replaced, each atomically.
    """
    figures = {
        "confusion_matrix.png": draw_confusion_matrix(metrics["served"], categories),
        "reliability.png": draw_reliability(metrics),
        "category_f1.png": draw_category_f1(metrics, categories),
    }
    for name, figure in figures.items():
        _write_png(figure, folder / name)


def draw_confusion_matrix(section: Mapping[str, Any], categories: Sequence[Category]) -> Figure:
    """Draws the confusion matrix: each line is one true category, in per cent of its rows, empty without rows.

    Args:
        section: The metrics of one section.
        categories: In the order of the models' columns.
    """
    counts = np.array(section["confusion_matrix"], dtype=np.float64)
    of_code = section["per_category"]
    support = np.array([of_code[str(category.prdtypecode)]["support"] for category in categories])
    percent = 100 * counts / np.maximum(support, 1)[:, None]
    size = max(3.5, 0.3 * len(categories))
    figure = _figure(size + 3.4, size + 1.3)
    axes = figure.add_subplot()
    # With "equal" the layout would crop the labels; the figure's own proportions make the cells square.
    axes.imshow(percent, cmap=SHADES, vmin=0, vmax=100, aspect="auto")
    positions = np.arange(len(categories))
    axes.set_xticks(positions, [str(category.prdtypecode) for category in categories], rotation=90, fontsize=8)
    axes.set_yticks(positions, _labels(categories), fontsize=8)
    axes.set_xticks(positions[:-1] + 0.5, minor=True)
    axes.set_yticks(positions[:-1] + 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    if len(categories) <= NUMBERED_CATEGORIES:
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
        for row, column in zip(*np.nonzero(percent >= 0.5), strict=True):
            colour = "white" if percent[row, column] > 45 else INK
            axes.text(column, row, f"{percent[row, column]:.0f}", color=colour, **style)
    axes.set_xlabel("predicted category", labelpad=8, color=INK)
    axes.set_ylabel("true category", labelpad=8, color=INK)
    remark = f"% of each true category's rows; {section['rows']:,} rows"
    _title(axes, "Confusion matrix of the served answer", remark)
    return figure


def draw_reliability(metrics: Mapping[str, Any]) -> Figure:
    """Draws the reliability diagram of each section with rows.

    The points are bins of equal mass; the grey bars hold 95 % of the points of a perfectly calibrated model.

    Args:
        metrics: Of the sections by name.
    """
    present = [name for name in SECTIONS if metrics.get(name, {}).get("reliability")]
    columns = min(2, max(1, len(present)))
    rows = max(1, -(-len(present) // columns))
    figure = _figure(4.4 * columns + 0.3, 4.4 * rows + 0.3)
    for number, name in enumerate(present, start=1):
        section, axes = metrics[name], figure.add_subplot(rows, columns, number)
        confidence, accuracy, low, high = (
            np.array([part[key] for part in section["reliability"]])
            for key in ("confidence", "accuracy", "calibrated_low", "calibrated_high")
        )
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        axes.vlines(confidence, low, high, color=GRID, linewidth=7)
        colour = INK if name == "served" else COLOURS[name]
        marker = MARKERS.get(name, "o")
        axes.plot(confidence, accuracy, color=colour, linewidth=1.2, marker=marker, markersize=5)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
        axes.set_xlabel("mean probability", color=INK)
        axes.set_ylabel("share right", color=INK)
        axes.grid(color=GRID, linewidth=0.5)
        axes.set_axisbelow(True)
        band = section["ece_calibrated"]
        lines = f"ECE {section['ece']:.3f}\n(if perfect: {band['low']:.3f} to {band['high']:.3f})"
        axes.text(0.97, 0.04, lines, transform=axes.transAxes, ha="right", va="bottom", fontsize=9, color=INK)
        _title(axes, name, f"{section['rows']:,} rows")
    remark = "Grey bars: where 95 % of the points of a perfectly calibrated model would lie"
    figure.supxlabel(remark, fontsize=9, color=FAINT)
    return figure


def draw_category_f1(metrics: Mapping[str, Any], categories: Sequence[Category]) -> Figure:
    """Draws the F1 of each category, highest served first: a bar for served, a marker for each model.

    Args:
        metrics: Of the sections by name.
        categories: In the order of the models' columns.
    """
    served = metrics["served"]["per_category"]
    occurring = [category for category in categories if served[str(category.prdtypecode)]["support"]]
    ordered = sorted(occurring, key=lambda category: served[str(category.prdtypecode)]["f1"])
    figure = _figure(9, 0.27 * len(ordered) + 1.6)
    axes = figure.add_subplot()
    heights = np.arange(len(ordered))
    values = [served[str(category.prdtypecode)] for category in ordered]
    axes.barh(heights, [value["f1"] for value in values], color=COLOURS["served"], height=0.72)
    keys: list[Patch | Line2D] = [Patch(color=COLOURS["served"], label="served")]
    for name, marker in MARKERS.items():
        found = metrics.get(name, {}).get("per_category", {})
        points = [
            (found[str(category.prdtypecode)]["f1"], height)
            for category, height in zip(ordered, heights, strict=True)
            if found.get(str(category.prdtypecode), {}).get("support")
        ]
        if points:
            style: dict[str, Any] = {
                "color": COLOURS[name], "marker": marker, "markersize": 5.5, "linestyle": "none",
                "markeredgecolor": "white", "markeredgewidth": 0.6,
            }  # fmt: skip
            axes.plot(*zip(*points, strict=True), clip_on=False, **style)
            keys.append(Line2D([], [], label=f"{name} ({metrics[name]['rows']:,} rows)", **style))
    for height, value in zip(heights, values, strict=True):
        axes.text(1.03, float(height), f"{value['support']:,}", va="center", ha="left", fontsize=8, color=FAINT)
    axes.text(1.03, len(ordered) - 0.2, "rows", va="center", ha="left", fontsize=8, color=FAINT)
    axes.set_yticks(heights, _labels(ordered), fontsize=8.5)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(ordered) - 0.4))
    axes.set_xlabel("F1", color=INK)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    _title(axes, "F1 of each category", f"served: {metrics['served']['rows']:,} rows")
    axes.legend(
        handles=keys, loc="upper center", bbox_to_anchor=(0.4, -0.6 / figure.get_figheight()), frameon=False,
        ncols=len(keys), fontsize=9, handletextpad=0.4, columnspacing=1.6, labelcolor=INK,
    )  # fmt: skip
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(axes: Axes, title: str, remark: str) -> None:
    for spine in axes.spines.values():
        spine.set_color(GRID)
    axes.tick_params(colors=INK)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(remark, loc="right", fontsize=9, color=FAINT)


def _labels(categories: Sequence[Category]) -> list[str]:
    """The labels "name  code" of categories, long English names shortened."""
    labels = []
    for category in categories:
        code, name = str(category.prdtypecode), category.name("en")
        if len(name) > NAME_LENGTH:
            name = name[: NAME_LENGTH - 1].rstrip(" ,;(&") + "…"
        labels.append(code if name == code else f"{name}  {code}")
    return labels


def _write_png(figure: Figure, path: Path) -> None:
    """Writes a PNG of few colours, for the plots lie in every bundle and in its repository's history."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=RESOLUTION)
    drawn.seek(0)
    with Image.open(drawn) as picture:
        few_colours = picture.convert("RGB").quantize(PALETTE_COLOURS, dither=Image.Dither.NONE)
    written = io.BytesIO()
    few_colours.save(written, format="PNG", optimize=True)
    write_atomically(path, written.getvalue())
