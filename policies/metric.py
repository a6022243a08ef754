"""The gate that holds a candidate's metric against the declared bounds and against the champion's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import assert_never

from fleet.declared import Evaluation, Model
from fleet.errors import InputError
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, failed, inconclusive, not_applicable, passed
from policies.predicting import CHAMPION, CHAMPION_REMEDY, REMEDY, WHO, predicted
from policies.sandbox import Job, Limits, run
from policies.workers.messages import Measurements, MeasureRequest, Metric, Predictions


@dataclass(frozen=True, slots=True)
class _Scores:
    """The metric of candidate and champion (None: there is no champion)."""

    candidate: Decimal
    champion: Decimal | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What the evaluation gave: the scores (None: `problem` says why there are none), and what kept the models in.

    `by_champion` says that the champion alone is why there are none.
    """

    scores: _Scores | None
    problem: str = ""
    barriers: Figures = ()
    by_champion: bool = False


class MetricAgainstChampion(Gate[Scored]):
    """Passes a candidate within the declared bounds and no worse than the champion by more than the tolerance.

    The models predict in sandboxes of their own, at the same time, and see no label; a third process, which never
    loads a model, measures. Not applicable where fleet.yaml declares no evaluation, or where there is no champion to
    compare with: then the candidate must still predict every row and keep the bounds. Inconclusive where the champion, and
    it alone, cannot be scored.
    """

    name = "metric against champion"

    def gather(self, candidate: Candidate) -> Scored:
        """Return how both score; raises InputError where the evaluation's rows or label are wrong."""
        declared = candidate.declared.evaluation
        if declared is None:
            return Scored(None)
        found = predicted(candidate, declared)
        if found.problem:
            return Scored(None, found.problem, found.barriers, found.by_champion)
        return replace(_measure(candidate, declared, found.models), barriers=found.barriers)

    def judge(self, declared: Model, evidence: Scored) -> GateResult:
        """Return how the candidate compares."""
        evaluation, scores = declared.evaluation, evidence.scores
        if evaluation is None:
            return not_applicable(self, "fleet.yaml declares no evaluation for this model")
        if scores is None and evidence.by_champion:
            return inconclusive(self, f"{evidence.problem}. {CHAMPION_REMEDY}", figures=evidence.barriers)
        if scores is None:
            return failed(self, evidence.problem, figures=evidence.barriers)
        shown: Figures = ((f"candidate {evaluation.metric}", str(scores.candidate)),)
        shown += ((f"champion {evaluation.metric}", str(scores.champion)),) if scores.champion is not None else ()
        figures = shown + evidence.barriers
        reasons = _out_of_bounds(evaluation, scores.candidate)
        if scores.champion is not None and _worse_by(evaluation.metric, scores.candidate, scores.champion) > evaluation.tolerance:
            allowed = f"more than the tolerance {evaluation.tolerance}"
            reasons.append(f"{evaluation.metric} {scores.candidate} is worse than the champion's {scores.champion} by {allowed}")
        if reasons:
            return failed(self, *reasons, figures=figures)
        if scores.champion is None:
            return not_applicable(self, f"there is no champion to compare with; {_bounds(evaluation, scores.candidate)}", figures)
        return passed(self, f"{evaluation.metric} {scores.candidate} against the champion's {scores.champion}", figures)


def _measure(candidate: Candidate, declared: Evaluation, models: tuple[Predictions, ...]) -> Scored:
    """Return the metrics, or why there are none; raises InputError where the labels cannot serve the metric."""
    assert candidate.evaluation is not None
    rows = candidate.evaluation.absolute()
    job = Job("measure", MeasureRequest(rows, declared.label, declared.metric, models), (rows,), candidate.work)
    done = run(job, Measurements, Limits(candidate.seconds))
    if done.answer is None:
        return Scored(None, f"the predictions could not be measured: {done.failure}")
    if done.answer.wrong_rows:
        raise InputError(f"evaluation rows {rows}", done.answer.wrong_rows, REMEDY)
    values: list[Decimal] = []
    for who, measured in zip(WHO, done.answer.models, strict=False):
        if measured.value is None:
            return Scored(None, f"the {who} cannot be measured: {measured.problem}", by_champion=who == CHAMPION)
        values.append(Decimal(f"{measured.value:.6f}"))
    return Scored(_Scores(values[0], values[1] if len(models) > 1 else None))


def _worse_by(metric: Metric, candidate: Decimal, champion: Decimal) -> Decimal:
    """Return by how much the candidate is worse (negative: better)."""
    match metric:
        case "roc_auc" | "accuracy":
            return champion - candidate
        case "log_loss" | "mean_absolute_error":
            return candidate - champion
        case _:
            assert_never(metric)


def _out_of_bounds(declared: Evaluation, value: Decimal) -> list[str]:
    reasons = []
    if declared.minimum is not None and value < declared.minimum:
        reasons.append(f"{declared.metric} {value} is below the declared minimum {declared.minimum}")
    if declared.maximum is not None and value > declared.maximum:
        reasons.append(f"{declared.metric} {value} is above the declared maximum {declared.maximum}")
    return reasons


def _bounds(declared: Evaluation, value: Decimal) -> str:
    bounds = (("minimum", declared.minimum), ("maximum", declared.maximum))
    said = " and ".join(f"the declared {name} {bound}" for name, bound in bounds if bound is not None)
    return f"{declared.metric} {value} keeps {said}" if said else f"{declared.metric} {value}, and no bound is declared"
