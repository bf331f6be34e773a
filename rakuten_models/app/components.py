"""What the app's tabs share: their parts, and thresholds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gradio as gr

from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.classifier import ProductClassifier

# Moves of the slider; a position within half a step of the bundle's own threshold means that threshold.
THRESHOLD_STEP = 0.001


@dataclasses.dataclass(frozen=True)
class AppParts:
    """What every tab is built around.

    Attributes:
        classifier: Answers.
        bundle_name: A hub id or a folder's name, to show.
        language: The switch between "en" and "fr"; an input of every handler that writes HTML.
        threshold: The slider that moves the threshold for this visit, placed on the Model tab.
        disk: Knows how much room is left for visitors' files.
    """

    classifier: ProductClassifier
    bundle_name: str
    language: gr.Radio
    threshold: gr.Slider
    disk: DiskQuota

    @property
    def own_threshold(self) -> float | None:
        """The bundle's, 0 to 1; None if it accepts nothing."""
        return self.classifier.threshold


def read_script(name: str) -> str:
    """One of the page's scripts in scripts/."""
    return (Path(__file__).parent / "scripts" / f"{name}.js").read_text(encoding="utf-8")


def slider_start(own_threshold: float | None) -> float:
    """Where the slider stands at first: the bundle's threshold in whole steps; 1 if it accepts nothing."""
    return 1.0 if own_threshold is None else round(own_threshold, 3)


def chosen_threshold(slider: float | None, own_threshold: float | None) -> tuple[float | None, bool]:
    """The threshold that holds where the slider stands (0 to 1), and whether it is another than the bundle's own."""
    if slider is None or abs(slider - slider_start(own_threshold)) < THRESHOLD_STEP / 2:
        return own_threshold, False
    return float(slider), True
