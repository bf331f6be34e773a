"""Fits the fusion model's gate on rows that have both sides, own labels, and trained neither side.

Such rows can be a few hundred or many thousand. The gate is therefore tried from the plain pool (two numbers) up to
one that reads both sides' features, each held back by a Gaussian prior, and cross-validation says how far to go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import keras
import numpy as np
import scipy.optimize
import scipy.special

from training.calibration import fit_temperature
from training.fusion.model import build_fusion_model
from training.metrics import weighted_f1
from training.settings import FusionSettings

# The parts of a gate, simplest first; each holds those before it.
GATES = ("pool", "confidence", "categories", "features")

SIGNALS = 5

# How far the picture is trusted where there is nothing to learn it from: text is the surer side of a product.
DEFAULT_IMAGE_WEIGHT = 0.35


@dataclass
class FusionReport:
    """What the fit found out.

    Attributes:
        rows: rows with both sides it was fitted on.
        gate: the chosen one of GATES, "text only", "image only", or "default".
        log_losses: cross-validated, for each gate tried and for "text" and "image" at their best temperature.
        weighted_f1: the same keys, in cross-validation.
        note: one sentence for the person who trains.
    """

    rows: int = 0
    gate: str = "default"
    log_losses: dict[str, float] = field(default_factory=dict)
    weighted_f1: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass
class Gate:
    """Numbers of one fitted gate, as the Keras model takes them.

    Attributes:
        text_scale: inverse temperature of the text's logits.
        image_scale: the same of the picture's.
        kernel: float (inputs,), in the order of the layer "gate_inputs".
        bias: of the gate.
        strength_kernel: float (SIGNALS,).
        strength_bias: logarithm of the strength where all signals are 0.
    """

    text_scale: float
    image_scale: float
    kernel: np.ndarray
    bias: float
    strength_kernel: np.ndarray
    strength_bias: float

    @classmethod
    def from_keras(cls, model: keras.Model) -> Gate:
        """The gate of a model of `build_fusion_model`."""
        (text_scale,), (image_scale,) = (
            model.get_layer(f"{side}_scale").get_weights() for side in ("text", "image")
        )
        (kernel, bias), (strength_kernel, strength_bias) = (
            model.get_layer(name).get_weights() for name in ("gate", "strength")
        )
        return cls(
            float(text_scale[0, 0]),
            float(image_scale[0, 0]),
            kernel[:, 0].astype(np.float64),
            float(bias[0]),
            strength_kernel[:, 0].astype(np.float64),
            float(strength_bias[0]),
        )

    def for_categories(self, before: int, after: int) -> Gate:
        """The same gate where more categories follow those it knows; it says nothing of the new ones."""
        parts = np.split(self.kernel, [SIGNALS, SIGNALS + before, SIGNALS + 2 * before])
        new = np.zeros(after - before)
        kernel = np.concatenate([parts[0], parts[1], new, parts[2], new, parts[3]])
        return replace(self, kernel=kernel)


def fit_fusion(
    text_outputs: Mapping[str, np.ndarray],
    image_outputs: Mapping[str, np.ndarray],
    category_index: np.ndarray,
    settings: FusionSettings | None = None,
    seed: int = 0,
    report: FusionReport | None = None,
    start: Gate | None = None,
) -> tuple[keras.Model, np.ndarray]:
    """Fits a fusion model.

    Args:
        text_outputs: the text model's {"logits" (n, categories), "features" (n, width)} for n rows that have both
            sides and an own label, and that trained neither side.
        image_outputs: the image model's, for the same rows.
        category_index: int (n,).
        settings: the recipe.
        seed: of the folds.
        report: filled with what was found out.
        start: a gate to go on from: the middle of the prior, and what is kept where there are too few rows.

    Returns:
        The model of `build_fusion_model`, and float32 (n, categories): for each row the logits of a gate fitted
        without it, on which temperature and thresholds can be fitted honestly.
    """
    settings = settings or FusionSettings()
    report = FusionReport() if report is None else report
    sides = _Sides(text_outputs, image_outputs)
    category_index = np.asarray(category_index, np.int64)
    report.rows = len(category_index)
    if len(category_index) < settings.minimum_rows:
        gate = start or _default_gate(sides.inputs_width)
        how = (
            "keeps the gate it started from"
            if start
            else f"trusts every picture by {DEFAULT_IMAGE_WEIGHT:.0%}"
        )
        report.note = (
            f"Only {len(category_index)} validation rows have text, picture and an own label (at least "
            f"{settings.minimum_rows} are needed): fusion {how}."
        )
        return _to_keras(gate, sides), sides.fused(gate).astype(np.float32)
    fold_of_row = _folds(category_index, settings.folds, seed)
    candidates = {
        name: _out_of_fold(
            sides, category_index, fold_of_row, partial(_fit, name=name, settings=settings, start=start)
        )
        for name in GATES
    }
    alone = {
        name: _out_of_fold(sides, category_index, fold_of_row, partial(_one_side, image_weight=weight))
        for name, weight in (("text", 0.0), ("image", 1.0))
    }
    everything = {**candidates, **alone}
    report.log_losses = {
        name: float(_losses(logits, category_index).mean()) for name, logits in everything.items()
    }
    report.weighted_f1 = {name: _weighted_f1(logits, category_index) for name, logits in everything.items()}
    # By the log loss, not by F1: over a few hundred rows F1 moves by several points with a handful of answers.
    chosen = min(everything, key=report.log_losses.__getitem__)
    if chosen in alone:
        gate = _one_side(sides, category_index, float(chosen == "image"))
        report.gate = f"{chosen} only"
        report.note = f"No gate beat {chosen} alone in cross-validation over {len(category_index)} rows."
    else:
        gate = _fit(sides, category_index, chosen, settings, start)
        report.gate = chosen
        report.note = (
            f"Gate '{chosen}', chosen by {settings.folds}-fold cross-validation over {len(category_index)} rows: "
            f"weighted F1 {report.weighted_f1[chosen]:.3f} (text {report.weighted_f1['text']:.3f}, image "
            f"{report.weighted_f1['image']:.3f})."
        )
    return _to_keras(gate, sides), everything[chosen].astype(np.float32)


class _Sides:
    """Both sides' outputs for the same rows, in float64."""

    def __init__(self, text_outputs: Mapping[str, np.ndarray], image_outputs: Mapping[str, np.ndarray]):
        self.text_logits = np.asarray(text_outputs["logits"], np.float64)
        self.image_logits = np.asarray(image_outputs["logits"], np.float64)
        self.text_features = np.asarray(text_outputs["features"], np.float64)
        self.image_features = np.asarray(image_outputs["features"], np.float64)

    def rows(self, chosen: np.ndarray) -> _Sides:
        return _Sides(
            {"logits": self.text_logits[chosen], "features": self.text_features[chosen]},
            {"logits": self.image_logits[chosen], "features": self.image_features[chosen]},
        )

    @property
    def inputs_width(self) -> int:
        widths = (self.text_logits, self.image_logits, self.text_features, self.image_features)
        return SIGNALS + sum(int(values.shape[1]) for values in widths)

    def logarithms(self, text_scale: float, image_scale: float) -> tuple[np.ndarray, np.ndarray]:
        return _log_softmax(self.text_logits * text_scale), _log_softmax(self.image_logits * image_scale)

    def gate_inputs(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float64 (n, inputs_width), in the order of the layer "gate_inputs"."""
        signals = [
            measure
            for values in (text, image)
            for measure in (values.max(axis=1), (np.exp(values) * values).sum(axis=1))
        ]
        signals.append(np.exp(text + image).sum(axis=1))
        return np.column_stack(
            [*signals, np.exp(text), np.exp(image), self.text_features, self.image_features]
        )

    def fused(self, gate: Gate) -> np.ndarray:
        text, image = self.logarithms(gate.text_scale, gate.image_scale)
        inputs = self.gate_inputs(text, image)
        weight = scipy.special.expit(inputs @ gate.kernel + gate.bias)[:, None]
        strength = np.exp(inputs[:, :SIGNALS] @ gate.strength_kernel + gate.strength_bias)[:, None]
        fused: np.ndarray = strength * (text + weight * (image - text))
        return fused


def _default_gate(width: int) -> Gate:
    bias = float(np.log(DEFAULT_IMAGE_WEIGHT / (1.0 - DEFAULT_IMAGE_WEIGHT)))
    return Gate(1.0, 1.0, np.zeros(width), bias, np.zeros(SIGNALS), float(np.log(2.0)))


def _one_side(sides: _Sides, category_index: np.ndarray, image_weight: float) -> Gate:
    """The gate that lets one side decide: 1 to a few parts in a million."""
    gate = _default_gate(sides.inputs_width)
    gate.bias = 15.0 if image_weight else -15.0
    logits = sides.image_logits if image_weight else sides.text_logits
    gate.strength_bias = -float(np.log(fit_temperature(logits, category_index)))
    return gate


def _fit(
    sides: _Sides, category_index: np.ndarray, name: str, settings: FusionSettings, start: Gate | None = None
) -> Gate:
    """Penalised maximum likelihood by L-BFGS; parts of the gate that `name` leaves out stay 0."""
    text_scale = 1.0 / fit_temperature(sides.text_logits, category_index)
    image_scale = 1.0 / fit_temperature(sides.image_logits, category_index)
    text, image = sides.logarithms(text_scale, image_scale)
    inputs = sides.gate_inputs(text, image)
    n, categories = text.shape
    level = GATES.index(name)
    width = (0, SIGNALS, SIGNALS + 2 * categories, inputs.shape[1])[level]
    strength_width = SIGNALS if level else 0
    penalty = np.full(inputs.shape[1], settings.feature_penalty)
    penalty[: SIGNALS + 2 * categories] = settings.category_penalty
    penalty[:SIGNALS] = settings.signal_penalty
    # The two free numbers are held near the default gate by what a single row could say.
    penalties = (
        np.concatenate([penalty[:width], [1.0], np.full(strength_width, settings.strength_penalty), [1.0]])
        / n
    )
    centre = inputs.mean(axis=0)
    spread = inputs.std(axis=0)
    spread = np.where(spread > 1e-6, spread, np.inf)
    prior = np.zeros(len(penalties))
    prior[width], prior[-1] = _default_gate(0).bias, np.log(2.0)
    if start is not None:
        # An input that never changes here has no scale: what the start makes of it goes into the constant.
        scale = np.where(np.isfinite(spread), spread, 0.0)
        prior[:width] = (start.kernel * scale)[:width]
        prior[width] = start.bias + centre @ start.kernel
        prior[width + 1 : -1] = (start.strength_kernel * scale[:SIGNALS])[:strength_width]
        prior[-1] = start.strength_bias + centre[:SIGNALS] @ start.strength_kernel
    scaled = ((inputs - centre) / spread)[:, :width]
    signals = ((inputs - centre) / spread)[:, :strength_width]
    rows = np.arange(n)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight = scipy.special.expit(scaled @ parameters[:width] + parameters[width])
        log_strength = signals @ parameters[width + 1 : -1] + parameters[-1]
        strength = np.exp(np.clip(log_strength, -10.0, 10.0))
        logits = strength[:, None] * (text + weight[:, None] * (image - text))
        logarithms = _log_softmax(logits)
        slope = np.exp(logarithms)
        slope[rows, category_index] -= 1.0
        slope /= n
        weight_slope = (slope * (image - text)).sum(axis=1) * strength * weight * (1.0 - weight)
        strength_slope = (slope * logits).sum(axis=1)
        offset = parameters - prior
        gradient = np.concatenate(
            [
                scaled.T @ weight_slope,
                [weight_slope.sum()],
                signals.T @ strength_slope,
                [strength_slope.sum()],
            ]
        )
        loss = -logarithms[rows, category_index].mean() + 0.5 * (penalties * offset**2).sum()
        return float(loss), gradient + penalties * offset

    found = scipy.optimize.minimize(objective, prior, method="L-BFGS-B", jac=True, options={"maxiter": 200}).x
    kernel = np.zeros(inputs.shape[1])
    kernel[:width] = found[:width] / spread[:width]
    strength_kernel = np.zeros(SIGNALS)
    strength_kernel[:strength_width] = found[width + 1 : -1] / spread[:strength_width]
    return Gate(
        text_scale,
        image_scale,
        kernel,
        float(found[width] - centre @ kernel),
        strength_kernel,
        float(found[-1] - centre[:SIGNALS] @ strength_kernel),
    )


def _folds(category_index: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row, categories spread evenly; int (n,)."""
    order = np.random.default_rng(seed).permutation(len(category_index))
    order = order[np.argsort(category_index[order], kind="stable")]
    fold_of_row = np.empty(len(order), np.int64)
    fold_of_row[order] = np.arange(len(order)) % folds
    return fold_of_row


def _out_of_fold(
    sides: _Sides,
    category_index: np.ndarray,
    fold_of_row: np.ndarray,
    fit: Callable[[_Sides, np.ndarray], Gate],
) -> np.ndarray:
    logits = np.zeros_like(sides.text_logits)
    for fold in np.unique(fold_of_row):
        held_out = fold_of_row == fold
        gate = fit(sides.rows(~held_out), category_index[~held_out])
        logits[held_out] = sides.rows(held_out).fused(gate)
    return logits


def _to_keras(gate: Gate, sides: _Sides) -> keras.Model:
    model = build_fusion_model(
        sides.text_logits.shape[1], sides.text_features.shape[1], sides.image_features.shape[1]
    )
    for name, weights in (
        ("text_scale", [np.array([[gate.text_scale]])]),
        ("image_scale", [np.array([[gate.image_scale]])]),
        ("gate", [gate.kernel[:, None], np.array([gate.bias])]),
        ("strength", [gate.strength_kernel[:, None], np.array([gate.strength_bias])]),
    ):
        model.get_layer(name).set_weights([weight.astype(np.float32) for weight in weights])
    return model


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = scipy.special.log_softmax(logits, axis=1)
    return logarithms


def _losses(logits: np.ndarray, category_index: np.ndarray) -> np.ndarray:
    losses: np.ndarray = -_log_softmax(logits)[np.arange(len(logits)), category_index]
    return losses


def _weighted_f1(logits: np.ndarray, category_index: np.ndarray) -> float:
    return weighted_f1(category_index, logits.argmax(axis=1), logits.shape[1])
