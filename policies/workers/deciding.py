"""What an answer decides, and how close it is to deciding otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Outputs = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rule:
    """How answers decide.

    `quantity`: the model gives a quantity, and one that is `step` away from the undisturbed one is another decision.
    `chance`: one number a row is the probability of class 1.
    """

    quantity: bool = False
    step: float = 0.0
    chance: bool = False


def rule_of(outputs: Outputs, quantity: bool, tolerance: float) -> Rule:
    """Return how a model's answers decide, from its undisturbed ones; a quantity that never differs has no step and any change counts."""
    values = values_of(outputs)
    if quantity:
        return Rule(quantity=True, step=tolerance * float(values.std()) if values.dtype.kind in "fiu" else 0.0)
    return Rule(chance=values.ndim == 1 and values.dtype.kind == "f" and bool(((values >= 0) & (values <= 1)).all()))


def values_of(outputs: Outputs) -> Any:
    """Return an answer's first output: one value a row, or several numbers."""
    first = outputs[0]
    kind = object if first["datatype"] == "BYTES" else None
    values = np.array(first["data"], dtype=kind).reshape(first["shape"])
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def margins(rule: Rule, undisturbed: Any, values: Any) -> Any:
    """Return for each row how far its answer is from deciding otherwise than the undisturbed one; below 0 it does.

    Of an answer that is a class alone only the side is known: 1 or -1.
    """
    if rule.quantity and values.dtype.kind in "fiu":
        return rule.step - np.abs(values - undisturbed)
    if values.ndim == 2:
        chosen = undisturbed.argmax(axis=1)
        rows = np.arange(len(values))
        others = values.astype(float).copy()
        others[rows, chosen] = -np.inf
        return values[rows, chosen] - others.max(axis=1)
    if rule.chance:
        return np.where(undisturbed >= 0.5, values - 0.5, np.nextafter(0.5, 0) - values)
    return np.where(values == undisturbed, 1.0, -1.0)
