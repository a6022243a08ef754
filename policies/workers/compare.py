"""Compares two models' predictions row by row, in a process that never loads a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet.worker_channel import answer, receive
from policies import calibrating, paired
from policies.workers.compared import Asked, Bins, CompareRequest, Comparison, Part, Reliable
from policies.workers.messages import Metric
from policies.workers.scores import Unmeasurable, array_of, classes_of, one_number, positive_of, probabilities_of, read_labels

if TYPE_CHECKING:
    from policies.workers.scores import Values

LEAST_OF_A_LABEL = 10
"""DeLong's variance is one over positives and one over negatives: with fewer of either it says little."""
CANDIDATE, CHAMPION = "candidate", "champion"
CALIBRATION, BRIER = "expected calibration error", "Brier score"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one part: their labels, and what each model's rows contribute to the metric."""

    labels: Any
    candidate: Any
    champion: Any


def main() -> None:
    """Answer one CompareRequest."""
    answer(compare(receive(CompareRequest)))


def compare(request: CompareRequest) -> Comparison:
    """Return what a request asks for."""
    labels, wrong = read_labels(request.rows, request.label, request.metric)
    members, missing = ([], "") if wrong else _members(request, len(labels))
    if wrong or missing:
        return Comparison(wrong_rows=wrong or missing)
    try:
        return _compared(request, labels, members)
    except _Unasked as unasked:
        return Comparison(problem=f"the {unasked.who} cannot be measured: {unasked.problem}", by_champion=unasked.who == CHAMPION)


def _members(request: CompareRequest, rows: int) -> tuple[list[Any], str]:
    """Return which rows each part has, or which column is missing."""
    import pandas
    from pyarrow import parquet

    known = parquet.read_schema(request.rows).names
    wanted = {part.column for part in request.parts if part.column}
    missing = sorted(wanted - set(known))
    if missing:
        return [], f"they have no column '{missing[0]}', which a slice names (columns: {', '.join(known)})"
    frame = pandas.read_parquet(request.rows, columns=sorted(wanted))
    return [_member(part, frame[part.column]) if part.column else np.ones(rows, dtype=bool) for part in request.parts], ""


def _member(part: Part, column: Any) -> Any:
    if part.values:
        return column.isin(list(part.values)).to_numpy()
    import pandas

    numbers = pandas.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    low = -np.inf if part.low is None else part.low
    high = np.inf if part.high is None else part.high
    return (numbers >= low) & (numbers < high)


def _compared(request: CompareRequest, labels: Values, members: list[Any]) -> Comparison:
    method = METHODS[request.metric]
    arrays, measured = [], []
    # One after the other: the champion is blamed only where the candidate can be measured
    for who, one in zip((CANDIDATE, CHAMPION), request.models, strict=False):
        with _blaming(who):
            arrays.append(array_of(one, len(labels)))
            if len(request.models) > 1:
                measured.append(method.measured(arrays[-1], labels))
    parts = []
    if measured:
        for number, (part, member) in enumerate(zip(request.parts, members, strict=True)):
            plan = paired.Plan(request.confidence, request.resamples, (request.seed, number))
            parts.append(_part(part, method, _Rows(labels[member], *(values[member] for values in measured)), plan))
    calibration, bins = _calibrated(request, request.bins, labels, arrays[0]) if request.bins else ((), ())
    return Comparison(tuple(parts), calibration, bins)


class _Unasked(Exception):
    """One of the two models cannot be measured: which, and why."""

    def __init__(self, who: str, problem: Unmeasurable) -> None:
        self.who, self.problem = who, problem
        super().__init__(who, problem)


@contextmanager
def _blaming(who: str) -> Iterator[None]:
    """Raise _Unasked, which says whose predictions they are, for what makes them unmeasurable."""
    try:
        yield
    except Unmeasurable as problem:
        raise _Unasked(who, problem) from problem


def _part(part: Part, method: _Method, rows: _Rows, plan: paired.Plan) -> Asked:
    """Compare the models on the rows of one part."""
    count = len(rows.labels)
    problem = _too_few(count, part.least) or (_too_few_of_a_label(rows.labels) if method.both_labels else "")
    if problem:
        return Asked(part.name, count, part.limit, problem=problem)
    candidate, champion = (method.value(rows.labels, one) for one in (rows.candidate, rows.champion))
    return Asked(part.name, count, part.limit, candidate, champion, *_fields(method.loss(rows, part.limit, plan)))


def _too_few(rows: int, least: int) -> str:
    return f"it has {rows} rows, and {least} are wanted" if rows < least else ""


def _too_few_of_a_label(labels: Any) -> str:
    counts = [int((labels == label).sum()) for label in (0, 1)]
    rarer = counts.index(min(counts))
    if counts[rarer] >= LEAST_OF_A_LABEL:
        return ""
    return f"it has {counts[rarer]} rows with the label {rarer}, and {LEAST_OF_A_LABEL} are wanted"


def _calibrated(request: CompareRequest, bins: Bins, labels: Any, values: Values) -> tuple[tuple[Asked, ...], tuple[Reliable, ...]]:
    """Look at the candidate's probabilities; what cannot be told says why."""
    limits = [(CALIBRATION, bins.limit)] + ([(BRIER, bins.brier)] if bins.brier is not None else [])
    try:
        scores = probabilities_of(values, "calibration").astype(float)
        problem = _too_few(len(labels), bins.least)
        if set(np.unique(labels)) - {0, 1}:
            problem = "its labels are not 0 and 1"
    except Unmeasurable as unknown:
        problem = str(unknown)
    if problem:
        return tuple(Asked(name, len(labels), limit, problem=problem) for name, limit in limits), ()
    edges = calibrating.edges_of(scores, bins.bins, bins.binning)
    plan = paired.Plan(request.confidence, request.resamples, (request.seed, len(request.parts)))
    found = [calibrating.calibration_error(labels, scores, edges, bins.limit, plan)]
    if bins.brier is not None:
        found.append(calibrating.brier_score(labels, scores, bins.brier, plan))
    told = tuple(Asked(name, len(labels), limit, None, None, *_fields(one)) for (name, limit), one in zip(limits, found, strict=True))
    table = calibrating.reliability(labels, scores, edges)
    return told, tuple(Reliable(one.low, one.high, one.rows, one.predicted, one.observed) for one in table)


def _fields(found: paired.Found) -> tuple[float, float, float, float, float]:
    return found.estimate, found.low, found.high, found.p_above, found.p_within


@dataclass(frozen=True, slots=True)
class _Method:
    """How models are compared by a metric.

    `measured` gives what each row contributes, `loss` by how much the candidate's contributions are worse. `value` is the
    metric of some rows, their mean unless it says otherwise.
    """

    measured: Callable[[Values, Values], Any]
    loss: Callable[[_Rows, float, paired.Plan], paired.Found]
    value: Callable[[Any, Any], float] = lambda labels, measured: float(measured.mean())
    both_labels: bool = False


def _scores(values: Values, labels: Values) -> Any:
    return positive_of(values)


def _area_lost(rows: _Rows, limit: float, plan: paired.Plan) -> paired.Found:
    return paired.delong(rows.labels, rows.candidate, rows.champion, limit, plan.confidence)


def _right(values: Values, labels: Values) -> Any:
    return classes_of(values, labels) == labels


def _right_answers_lost(rows: _Rows, limit: float, plan: paired.Plan) -> paired.Found:
    found = paired.bootstrap(rows.champion.astype(float) - rows.candidate.astype(float), limit, plan)
    if limit:
        return found
    # Whether any are lost is answered exactly
    return paired.Found(found.estimate, found.low, found.high, *paired.mcnemar(rows.candidate, rows.champion))


def _log_losses(values: Values, labels: Values) -> Any:
    scores = probabilities_of(values, "log_loss").astype(float)
    smallest = np.finfo(float).eps
    kept = np.clip(scores, smallest, 1 - smallest)
    return -np.log(np.where(labels == 1, kept, 1 - kept))


def _distances(values: Values, labels: Any) -> Any:
    return np.abs(one_number(values).astype(float) - labels.astype(float))


def _error_gained(rows: _Rows, limit: float, plan: paired.Plan) -> paired.Found:
    return paired.bootstrap(rows.candidate - rows.champion, limit, plan)


METHODS: dict[Metric, _Method] = {
    "roc_auc": _Method(_scores, _area_lost, paired.area, both_labels=True),
    "accuracy": _Method(_right, _right_answers_lost),
    "log_loss": _Method(_log_losses, _error_gained),
    "mean_absolute_error": _Method(_distances, _error_gained),
}


if __name__ == "__main__":
    main()
