"""The model of version 3, with a real mistake; this file is shipped inside the model, so it stands alone."""

from __future__ import annotations

from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd


class CrossedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Adds the employment rate of a pair of columns as a feature, then asks a classifier.

    The mistake: the rates are a plain dictionary of the pairs that were seen in training, so a row whose pair was not
    raises KeyError. With `fallback` set, such a row gets that rate instead.
    """

    def __init__(self, classifier: Any, columns: tuple[str, str], rates: dict[tuple[int, int], float], fallback: float | None) -> None:
        self.classifier = classifier
        self.columns = columns
        self.rates = rates
        self.fallback = fallback

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray[Any, Any]:
        """Return the probabilities of both classes, shape (rows, 2)."""
        rows = model_input.copy()
        rows["crossed"] = [self.rate(pair) for pair in zip(*(rows[name] for name in self.columns), strict=True)]
        probabilities: np.ndarray[Any, Any] = self.classifier.predict_proba(rows)
        return probabilities

    def rate(self, pair: tuple[int, int]) -> float:
        """Return the employment rate of a pair of values."""
        return self.rates[pair] if self.fallback is None else self.rates.get(pair, self.fallback)
