"""The results of an evaluation: the table on the terminal, metrics.json, the plots, the new card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rakuten_models.bundle.config import CARD_FILE, METRICS_FILE, BundleConfig
from rakuten_models.bundle.folder import replace_folder
from rakuten_models.files import write_atomically
from rakuten_models.product import Category
from training.evaluation.model_card import render_card
from training.evaluation.plots import SECTIONS, write_plots
from training.metrics import relative_to_band


def format_table(metrics: Mapping[str, Any]) -> str:
    """The figures as a table for a terminal, fusion's comparison on the same rows below it."""
    head = (
        "", "rows", "accuracy", "weighted F1", "macro F1", "lowest F1 (category)", "log loss", "ECE", "ECE band",
        "top-3", "top-5", "accepted at 95 %", "precision",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    for name in SECTIONS:
        section = metrics[name]
        accepted = section["thresholds"].get("0.95", {})
        lowest = f"{_figure(section['lowest_category_f1'])} ({section['lowest_category']})"
        lines.append(
            (
                name,
                f"{section['rows']:,}",
                *(_figure(section[key]) for key in ("accuracy", "weighted_f1", "macro_f1")),
                lowest if section["rows"] else "-",
                *(_figure(section[key]) for key in ("log_loss", "ece")),
                relative_to_band(section["ece"], section["ece_calibrated"]) or "-",
                *(_figure(section[key]) for key in ("top3_accuracy", "top5_accuracy")),
                _figure(accepted.get("share_accepted")),
                _figure(accepted.get("precision")),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        table.append("  ".join([line[0].ljust(widths[0]), *cells[1:]]))
    table.insert(1, "-" * len(table[0]))
    fusion, served = metrics["fusion"], metrics["served"]
    if fusion["rows"]:
        table.append("")
        for name in ("text", "image"):
            other = fusion[f"{name}_on_same_rows"]
            table.append(
                f"fusion minus {name} on the {fusion['rows']:,} rows with both: {other['difference']:+.3f} "
                f"weighted F1, 95 % interval {other['low']:+.3f} to {other['high']:+.3f} ({name} there: "
                f"{other['weighted_f1']:.3f})"
            )
    if served["unanswered"]:
        table.append(f"{served['unanswered']:,} rows could not be scored at all and count as wrong")
    return "\n".join(table)


def write_evaluation(metrics: Mapping[str, Any], categories: Sequence[Category], output: str | Path) -> None:
    """Writes the figures to a JSON file and the three plots beside it; each file is whole at every moment."""
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_plots(metrics, categories, output.parent)
    write_atomically(output, metrics_json(metrics))


def update_bundle(folder: Path, metrics: Mapping[str, Any], config: BundleConfig) -> None:
    """Puts figures, card and plots into a bundle; its folder is the old or the new one at every moment."""
    folder = folder.resolve()
    with replace_folder(folder) as staging:
        failed: list[OSError] = []

        def copy(source: str, target: str) -> None:
            # After the first failure nothing more is tried: copytree would try all, and raise one text of all failures.
            if not failed:
                try:
                    shutil.copy2(source, target, follow_symlinks=False)
                except OSError as error:
                    failed.append(error)

        shutil.copytree(folder, staging, dirs_exist_ok=True, symlinks=True, copy_function=copy)
        if failed:
            raise failed[0]
        write_plots(metrics, config.categories, staging)
        (staging / METRICS_FILE).write_text(metrics_json(metrics), encoding="utf-8")
        (staging / CARD_FILE).write_text(render_card(config, metrics), encoding="utf-8")


def metrics_json(metrics: Mapping[str, Any]) -> str:
    """The figures as JSON text without NaN, a line for each figure."""

    def one_line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    parts = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            inner = ",\n".join(f"  {one_line(key)}: {one_line(entry)}" for key, entry in value.items())
            parts.append(f" {one_line(name)}: {{\n{inner}\n }}")
        else:
            parts.append(f" {one_line(name)}: {one_line(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
