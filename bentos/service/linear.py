"""Linear scikit-learn models without the checks that take nine tenths of a short call: the same operations in the same order.

For one row scikit-learn asks again and again what kind of table it was given; here the schema has made it an array of the
right width. Only what is known exactly is taken: a linear model by itself, or behind scalers, each of its own class and with
plain arrays as output. Anything else, and any number that is not finite, goes to scikit-learn itself, which also says what
is wrong with it. The operations are those of scikit-learn 1.9 (`preprocessing/_data.py`, `linear_model/_base.py`,
`linear_model/_logistic.py`); as with every direct way, what comes out is held against MLflow's answers before it answers anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Ask = Callable[[Any], Any]
Step = Callable[[Any], Any]
SCALERS = frozenset({"StandardScaler", "MinMaxScaler"})
REGRESSORS = frozenset({"LinearRegression", "Ridge", "Lasso", "ElasticNet"})
CLASSIFIERS = frozenset({"LogisticRegression"})


def straight(model: Any, ask: str, otherwise: Ask) -> Ask:
    """Return what answers as a fitted model's method `ask` does, `otherwise` where the model is no linear one."""
    steps = [step for _, step in model.steps] if _is(model, {"Pipeline"}, "sklearn.pipeline") else [model]
    last = _last(steps[-1], ask)
    if last is None or not all(_is(step, SCALERS, "sklearn.preprocessing") and _plain(step) for step in steps[:-1]):
        return otherwise
    scalers = [_scaler(step) for step in steps[:-1]]
    width = np.atleast_2d(steps[-1].coef_).shape[1]

    def answer(rows: Any) -> Any:
        # whole numbers scikit-learn turns into the same floats
        if rows.ndim != 2 or rows.shape[1] != width or (rows.dtype != np.float64 and rows.dtype.kind not in "iu"):
            return otherwise(rows)
        taken = rows.astype(np.float64)
        # counting takes half of the time of `all`
        if np.count_nonzero(np.isfinite(taken)) != taken.size:
            return otherwise(rows)
        for scale in scalers:
            taken = scale(taken)
        return last(taken)

    return answer


def _is(model: Any, names: frozenset[str] | set[str], package: str) -> bool:
    """Say whether a model is of exactly one of scikit-learn's own classes: what a class is derived from may answer otherwise."""
    kind = type(model)
    return kind.__name__ in names and (kind.__module__ + ".").startswith(package + ".")


def _plain(step: Any) -> bool:
    return not getattr(step, "_sklearn_output_config", None)


def _scaler(step: Any) -> Step:
    if type(step).__name__ == "StandardScaler":
        mean = step.mean_ if step.with_mean else None
        deviation = step.scale_ if step.with_std else None

        def standard(rows: Any) -> Any:
            if mean is not None:
                rows -= mean
            if deviation is not None:
                rows /= deviation
            return rows

        return standard
    factor, least, clip, bounds = step.scale_, step.min_, step.clip, step.feature_range

    def between(rows: Any) -> Any:
        rows *= factor
        rows += least
        return np.clip(rows, *bounds, out=rows) if clip else rows

    return between


def _last(model: Any, ask: str) -> Step | None:
    """Return the last step's method, None where it is none that is known."""
    if not all(isinstance(getattr(model, name, None), np.ndarray | float) for name in ("coef_", "intercept_")):
        return None
    coefficients = np.asarray(model.coef_)
    weights, offset = coefficients.T if coefficients.ndim == 2 else coefficients, model.intercept_
    if weights.dtype != np.float64:
        return None

    def decision(rows: Any) -> Any:
        return rows @ weights + offset

    if _is(model, REGRESSORS, "sklearn.linear_model"):
        return decision if ask == "predict" and (coefficients.ndim == 1 or len(coefficients) > 1) else None
    if not _is(model, CLASSIFIERS, "sklearn.linear_model") or len(model.classes_) != 2 or ask not in ("predict", "predict_proba"):
        return None
    from scipy.special import expit

    classes = model.classes_

    def labels(rows: Any) -> Any:
        return classes.take((decision(rows).reshape(-1) > 0).astype(int), axis=0)

    def probabilities(rows: Any) -> Any:
        # as numpy.stack lays them out, in a third of its time
        both = np.empty((len(rows), 2))
        positive = both[:, 1] = expit(decision(rows).reshape(-1))
        np.subtract(1, positive, out=both[:, 0])
        return both

    return labels if ask == "predict" else probabilities
