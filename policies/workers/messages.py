"""What workers are asked and what they answer; light, because both sides import it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Prediction = bool | int | float | str | tuple[float, ...]
Metric = Literal["roc_auc", "accuracy", "log_loss", "mean_absolute_error"]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Score every row of a parquet file with the MLflow model in a folder."""

    model: Path
    rows: Path


@dataclass(frozen=True, slots=True)
class Predictions:
    """One value per row: a class, a number, or a probability per class."""

    values: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """Compute a metric of several models' predictions against the label column of a parquet file."""

    rows: Path
    label: str
    metric: Metric
    models: tuple[Predictions, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's metric, or why its predictions have none."""

    value: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured, in the order of the request; `wrong_rows` says why the rows themselves cannot be used."""

    models: tuple[Measured, ...]
    wrong_rows: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Answer every row of a parquet file alone, so many times, with the MLflow model in a folder."""

    model: Path
    rows: Path
    times: int


@dataclass(frozen=True, slots=True)
class RowAnswers:
    """For each time every row's answers by `outputs`, as the service names and tells them; a missing value is None."""

    outputs: tuple[str, ...]
    times: tuple[tuple[tuple[bool | int | float | str | None, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows to check: what they are called in reasons, and their parquet file."""

    name: str
    rows: Path


@dataclass(frozen=True, slots=True)
class ContractRequest:
    """Check frames against a Great Expectations suite (JSON text).

    An expectation whose `meta.sets` names frames is for those alone.
    """

    suite: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Breach:
    """An expectation that a frame does not meet; counts and bounds only, never a value of a row."""

    frame: str
    expectation: str
    subject: str
    why: str


@dataclass(frozen=True, slots=True)
class ContractReport:
    """What a contract's check found; `wrong_suite` lists what is wrong with the suite itself."""

    breaches: tuple[Breach, ...] = ()
    rows: tuple[int, ...] = ()
    wrong_suite: tuple[str, ...] = ()
