"""Fits the fusion model's gate on rows with text, picture and a gold label that neither model was trained on.

Such rows can be a few hundred or many thousand. The gate is therefore tried from the plain pool (two numbers) up to
one that reads both models' features, under Gaussian priors, and cross-validation chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.optimize
from scipy.special import expit, log_softmax

from training.calibration import fit_temperature
from training.fusion.model import build_fusion_model
from training.metrics import weighted_f1
from training.settings import FusionSettings

SIGNALS = 5

# The layers that hold a gate's parameters, in the order of Gate's attributes.
_LAYERS = ("text_scale", "image_scale", "gate", "strength")

# The weight of the picture where there is nothing to learn it from: text is the surer modality.
DEFAULT_IMAGE_WEIGHT = 0.35


# What a gate reads, simplest first; each holds those before it.
GateInputs = IntEnum("GateInputs", ["POOL", "CONFIDENCE", "CATEGORIES", "FEATURES"], start=0)


@dataclass
class FusionReport:
    """How the fusion was fitted.

    Attributes:
        rows: Rows with both modalities it was fitted on.
        gate: The chosen one of GateInputs in lower case, "text only", "image only", or "default".
        log_losses: Cross-validated, for each gate tried and for "text" and "image" at their best temperature.
        weighted_f1: The same keys, in cross-validation.
        note: One sentence for the person who trains.
    """

    rows: int = 0
    gate: str = "default"
    log_losses: dict[str, float] = field(default_factory=dict)
    weighted_f1: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, eq=False)
class FusionFit:
    """A fitted fusion model.

    Attributes:
        model: That of `build_fusion_model`.
        logits: float32 (n, categories): out-of-fold, to fit temperature and thresholds on.
        report: How it was fitted.
    """

    model: keras.Model
    logits: np.ndarray
    report: FusionReport


@dataclass
class Gate:
    """Parameters of a gate, as the Keras model takes them.

    Attributes:
        text_scale, image_scale: Inverse temperature of each modality's logits.
        kernel, bias: float (inputs,), in the order of the layer "gate_inputs", and a number.
        strength_kernel: float (SIGNALS,).
        strength_bias: Logarithm of the strength where all signals are 0.
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
        weights = [model.get_layer(name).get_weights() for name in _LAYERS]
        text, image, kernel, bias, strength, constant = (
            each.astype(np.float64).ravel() for layer in weights for each in layer
        )
        return cls(text.item(), image.item(), kernel, bias.item(), strength, constant.item())

    def for_categories(self, before: int, after: int) -> Gate:
        """The same gate where more categories follow those it knows; their weights are 0."""
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
    start: Gate | None = None,
) -> FusionFit:
    """Fits a fusion model.

    Args:
        text_outputs: {"logits" (n, categories), "features" (n, width)} for n rows that have text, picture and a gold
            label, from a text model that was not trained on them.
        image_outputs: The image model's, for the same rows.
        category_index: int (n,).
        settings: The recipe.
        seed: Of the folds.
        start: A gate to start from: the mean of the prior, and the result where there are too few rows.
    """
    settings = settings or FusionSettings()
    outputs = _Outputs.of(text_outputs, image_outputs)
    category_index = np.asarray(category_index, np.int64)
    rows = len(category_index)
    if rows < settings.minimum_rows:
        gate = start or _default_gate(outputs.inputs_width)
        default = f"trusts every picture by {DEFAULT_IMAGE_WEIGHT:.0%}"
        how = "keeps the gate it started from" if start else default
        note = (
            f"Only {rows} validation rows have text, picture and an own label (at least "
            f"{settings.minimum_rows} are needed): fusion {how}."
        )
        logits = outputs.fused(gate).astype(np.float32)
        return FusionFit(_to_keras(gate, outputs), logits, FusionReport(rows, note=note))
    fits: dict[str, _Fit] = {
        inputs.name.lower(): partial(_fit, inputs=inputs, settings=settings, start=start) for inputs in GateInputs
    }
    alone = {"text": 0.0, "image": 1.0}
    fits |= {name: partial(_one_modality, image_weight=weight) for name, weight in alone.items()}
    fold_of_row = _folds(category_index, settings.folds, seed)
    found = {name: _out_of_fold(outputs, category_index, fold_of_row, fit) for name, fit in fits.items()}
    # By the log loss, not by F1: over a few hundred rows F1 moves by several points with a handful of predictions.
    log_losses = {name: _log_loss(logits, category_index) for name, logits in found.items()}
    f1 = {name: weighted_f1(category_index, logits.argmax(axis=1), logits.shape[1]) for name, logits in found.items()}
    chosen = min(found, key=log_losses.__getitem__)
    if chosen in alone:
        note = f"No gate beat {chosen} alone in cross-validation over {rows} rows."
    else:
        note = (
            f"Gate '{chosen}', chosen by {settings.folds}-fold cross-validation over {rows} rows: weighted F1 "
            f"{f1[chosen]:.3f} (text {f1['text']:.3f}, image {f1['image']:.3f})."
        )
    report = FusionReport(rows, f"{chosen} only" if chosen in alone else chosen, log_losses, f1, note)
    gate = fits[chosen](outputs, category_index)
    return FusionFit(_to_keras(gate, outputs), found[chosen].astype(np.float32), report)


class _Outputs(NamedTuple):
    """Both models' outputs for the same rows, float64."""

    text_logits: np.ndarray
    image_logits: np.ndarray
    text_features: np.ndarray
    image_features: np.ndarray

    @classmethod
    def of(cls, text: Mapping[str, np.ndarray], image: Mapping[str, np.ndarray]) -> _Outputs:
        values = (outputs[name] for name in ("logits", "features") for outputs in (text, image))
        return cls(*(np.asarray(each, np.float64) for each in values))

    def rows(self, chosen: np.ndarray) -> _Outputs:
        return _Outputs(*(values[chosen] for values in self))

    @property
    def inputs_width(self) -> int:
        return SIGNALS + sum(int(values.shape[1]) for values in self)

    def logarithms(self, text_scale: float, image_scale: float) -> tuple[np.ndarray, np.ndarray]:
        return (
            log_softmax(self.text_logits * text_scale, axis=1),
            log_softmax(self.image_logits * image_scale, axis=1),
        )

    def gate_inputs(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
        """float64 (n, inputs_width), in the order of the layer "gate_inputs"."""
        signals = [
            signal for values in (text, image) for signal in (values.max(axis=1), (np.exp(values) * values).sum(axis=1))
        ]
        signals.append(np.exp(text + image).sum(axis=1))
        return np.column_stack([*signals, np.exp(text), np.exp(image), self.text_features, self.image_features])

    def fused(self, gate: Gate) -> np.ndarray:
        text, image = self.logarithms(gate.text_scale, gate.image_scale)
        inputs = self.gate_inputs(text, image)
        weight = expit(inputs @ gate.kernel + gate.bias)[:, None]
        strength = np.exp(inputs[:, :SIGNALS] @ gate.strength_kernel + gate.strength_bias)[:, None]
        fused: np.ndarray = strength * (text + weight * (image - text))
        return fused


_Fit = Callable[[_Outputs, np.ndarray], Gate]


def _default_gate(width: int) -> Gate:
    bias = float(np.log(DEFAULT_IMAGE_WEIGHT / (1.0 - DEFAULT_IMAGE_WEIGHT)))
    return Gate(1.0, 1.0, np.zeros(width), bias, np.zeros(SIGNALS), float(np.log(2.0)))


def _one_modality(outputs: _Outputs, category_index: np.ndarray, image_weight: float) -> Gate:
    """The gate that lets one modality decide: 1 to a few parts in a million."""
    gate = _default_gate(outputs.inputs_width)
    gate.bias = 15.0 if image_weight else -15.0
    logits = outputs.image_logits if image_weight else outputs.text_logits
    gate.strength_bias = -float(np.log(fit_temperature(logits, category_index)))
    return gate


def _fit(
    outputs: _Outputs,
    category_index: np.ndarray,
    inputs: GateInputs,
    settings: FusionSettings,
    start: Gate | None = None,
) -> Gate:
    """Penalised maximum likelihood by L-BFGS; weights of what the gate does not read stay 0."""
    text_scale = 1.0 / fit_temperature(outputs.text_logits, category_index)
    image_scale = 1.0 / fit_temperature(outputs.image_logits, category_index)
    text, image = outputs.logarithms(text_scale, image_scale)
    values = outputs.gate_inputs(text, image)
    n, categories = text.shape
    width = (0, SIGNALS, SIGNALS + 2 * categories, values.shape[1])[inputs]
    strength_width = SIGNALS if inputs else 0
    penalty = np.full(values.shape[1], settings.feature_penalty)
    penalty[: SIGNALS + 2 * categories] = settings.category_penalty
    penalty[:SIGNALS] = settings.signal_penalty
    # The prior of the two biases weighs as much as a single row.
    penalties = np.concatenate([penalty[:width], [1.0], np.full(strength_width, settings.strength_penalty), [1.0]]) / n
    centre = values.mean(axis=0)
    spread = values.std(axis=0)
    spread = np.where(spread > 1e-6, spread, np.inf)
    prior = np.zeros(len(penalties))
    prior[width], prior[-1] = _default_gate(0).bias, np.log(2.0)
    if start is not None:
        # An input that never changes here has no scale: its part of the start goes into the bias.
        scale = np.where(np.isfinite(spread), spread, 0.0)
        prior[:width] = (start.kernel * scale)[:width]
        prior[width] = start.bias + centre @ start.kernel
        prior[width + 1 : -1] = (start.strength_kernel * scale[:SIGNALS])[:strength_width]
        prior[-1] = start.strength_bias + centre[:SIGNALS] @ start.strength_kernel
    scaled = ((values - centre) / spread)[:, :width]
    signals = scaled[:, :strength_width]
    rows = np.arange(n)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight = expit(scaled @ parameters[:width] + parameters[width])
        log_strength = signals @ parameters[width + 1 : -1] + parameters[-1]
        strength = np.exp(np.clip(log_strength, -10.0, 10.0))
        logits = strength[:, None] * (text + weight[:, None] * (image - text))
        logarithms = log_softmax(logits, axis=1)
        slope = np.exp(logarithms)
        slope[rows, category_index] -= 1.0
        slope /= n
        weight_slope = (slope * (image - text)).sum(axis=1) * strength * weight * (1.0 - weight)
        strength_slope = (slope * logits).sum(axis=1)
        offset = parameters - prior
        slopes = ((scaled, weight_slope), (signals, strength_slope))
        gradient = np.concatenate([part for x, y in slopes for part in (x.T @ y, [y.sum()])])
        loss = -logarithms[rows, category_index].mean() + 0.5 * (penalties * offset**2).sum()
        return float(loss), gradient + penalties * offset

    found = scipy.optimize.minimize(objective, prior, method="L-BFGS-B", jac=True, options={"maxiter": 200}).x
    kernel = np.zeros(values.shape[1])
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


def _out_of_fold(outputs: _Outputs, category_index: np.ndarray, fold_of_row: np.ndarray, fit: _Fit) -> np.ndarray:
    logits = np.zeros_like(outputs.text_logits)
    for fold in np.unique(fold_of_row):
        held_out = fold_of_row == fold
        gate = fit(outputs.rows(~held_out), category_index[~held_out])
        logits[held_out] = outputs.rows(held_out).fused(gate)
    return logits


def _to_keras(gate: Gate, outputs: _Outputs) -> keras.Model:
    model = build_fusion_model(
        outputs.text_logits.shape[1], outputs.text_features.shape[1], outputs.image_features.shape[1]
    )
    weights: tuple[list[Any], ...] = (
        [[[gate.text_scale]]],
        [[[gate.image_scale]]],
        [gate.kernel[:, None], [gate.bias]],
        [gate.strength_kernel[:, None], [gate.strength_bias]],
    )
    for name, values in zip(_LAYERS, weights, strict=True):
        model.get_layer(name).set_weights([np.asarray(value, np.float32) for value in values])
    return model


def _log_loss(logits: np.ndarray, category_index: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(logits)), category_index].mean())
