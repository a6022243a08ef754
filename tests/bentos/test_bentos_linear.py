"""Linear models without scikit-learn's checks: what they answer is what scikit-learn answers, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from bentos.service.linear import straight

RANDOM = np.random.default_rng(11)
ROWS = RANDOM.normal(3, 2, (200, 5))
LABELS = (ROWS @ [1.0, -1.0, 0.5, 0.1, 0.0] > 2).astype(int)
NAMES = np.array(["no", "yes"])[LABELS]
MODELS: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "logistic": (LogisticRegression(), LABELS, ("predict", "predict_proba")),
    "logistic of names": (LogisticRegression(fit_intercept=False), NAMES, ("predict", "predict_proba")),
    "scaled": (make_pipeline(StandardScaler(), LogisticRegression()), LABELS, ("predict", "predict_proba")),
    "centred": (make_pipeline(StandardScaler(with_std=False), LogisticRegression()), NAMES, ("predict",)),
    "clipped": (make_pipeline(MinMaxScaler(clip=True), StandardScaler(with_mean=False), LogisticRegression()), LABELS, ("predict_proba",)),
    "least squares": (LinearRegression(), ROWS[:, 0] * 2 + 1, ("predict",)),
    "through nought": (make_pipeline(MinMaxScaler(), LinearRegression(fit_intercept=False)), ROWS[:, 0], ("predict",)),
    "ridge of two": (Ridge(), ROWS[:, :2] * 2, ("predict",)),
    "lasso": (make_pipeline(StandardScaler(), Lasso(0.01)), ROWS[:, 0], ("predict",)),
    "elastic net": (ElasticNet(0.01), ROWS[:, 0], ("predict",)),
}


def refused(rows: Any) -> Any:
    raise AssertionError("scikit-learn was asked")


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("kind", ["float64", "int64", "int8"])
def test_answers_are_those_of_scikit_learn_and_the_rows_stay_as_they_are(name: str, kind: str) -> None:
    model, target, asks = MODELS[name]
    model.fit(ROWS, target)
    for ask in asks:
        answer = straight(model, ask, refused)
        assert answer is not refused
        for rows in (ROWS[:1].astype(kind), (ROWS * 3).astype(kind)):
            before = rows.copy()
            found, wanted = answer(rows), getattr(model, ask)(rows)
            np.testing.assert_array_equal(found, wanted)
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_array_equal(rows, before)


def test_what_is_not_finite_or_of_another_width_or_type_is_for_scikit_learn_to_judge() -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)
    answer = straight(model, "predict_proba", lambda rows: "asked")
    for rows in (np.full((1, 5), np.nan), np.full((1, 5), np.inf), ROWS[:, :4], ROWS.astype(np.float32), ROWS[0], ROWS > 3):
        assert answer(rows) == "asked"


class Doubled(LogisticRegression):
    """One that answers otherwise than its parent."""

    def predict_proba(self, X: Any) -> Any:  # noqa: N803  scikit-learn's name
        return 2 * super().predict_proba(X)


@pytest.mark.parametrize(
    ("model", "ask"),
    [
        (Doubled(), "predict_proba"),
        (make_pipeline(PolynomialFeatures(), LogisticRegression()), "predict"),
        (make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression()), "predict"),
        (SGDClassifier(), "predict"),
        (LogisticRegression(), "predict_log_proba"),
    ],
    ids=["derived", "polynomial", "frames", "another class", "another method"],
)
def test_anything_else_is_left_to_scikit_learn(model: Any, ask: str) -> None:
    assert straight(model.fit(ROWS, LABELS), ask, refused) is refused


def test_three_classes_are_left_to_scikit_learn() -> None:
    model = LogisticRegression().fit(ROWS, RANDOM.integers(0, 3, 200))
    assert straight(model, "predict_proba", refused) is refused
