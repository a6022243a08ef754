"""The gate that holds a candidate's metric against the declared bounds and against the champion's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import assert_never

from fleet.declared import Evaluation, Model
from fleet.errors import InputError
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, failed, not_applicable, passed
from policies.sandbox import Job, Limits, Run, run
from policies.workers.messages import Measurements, MeasureRequest, Metric, Predictions, PredictRequest

REMEDY = "Correct the evaluation that fleet.yaml declares."


@dataclass(frozen=True, slots=True)
class _Scores:
    """The metric of candidate and champion (None: there is no champion)."""

    candidate: Decimal
    champion: Decimal | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What the evaluation gave: the scores (None: `problem` says why there are none), and what kept the models in."""

    scores: _Scores | None
    problem: str = ""
    barriers: Figures = ()


class MetricAgainstChampion(Gate[Scored]):
    """Passes a candidate within the declared bounds and no worse than the champion by more than the tolerance.

    The models predict in sandboxes of their own, at the same time, and see no label; a third process, which never
    loads a model, measures. Not applicable where fleet.yaml declares no evaluation, or where there is no champion to
    compare with: then the candidate must still predict every row and keep the bounds.
    """

    name = "metric against champion"

    def gather(self, candidate: Candidate) -> Scored:
        """Return how both score; raises InputError where the evaluation's rows or label are wrong."""
        declared = candidate.declared.evaluation
        if declared is None:
            return Scored(None)
        if candidate.evaluation is None:
            return Scored(None, "fleet.yaml declares an evaluation, but its rows were not found")
        unlabelled = _without_label(candidate.evaluation, declared.label, candidate.work)
        folders = [candidate.folder] + ([candidate.champion] if candidate.champion else [])
        runs = _predict(folders, unlabelled, candidate)
        barriers = runs[0].barriers.figures
        for who, done in zip(("candidate", "champion"), runs, strict=False):
            if done.answer is None:
                return Scored(None, f"the {who} could not be scored: {done.failure}", barriers)
        scores, problem = _measure(candidate, declared, tuple(done.answer for done in runs if done.answer is not None))
        return Scored(scores, problem, barriers)

    def judge(self, declared: Model, evidence: Scored) -> GateResult:
        """Return how the candidate compares."""
        evaluation, scores = declared.evaluation, evidence.scores
        if evaluation is None:
            return not_applicable(self, "fleet.yaml declares no evaluation for this model")
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


def _without_label(rows: Path, label: str, work: Path) -> Path:
    """Write the rows without their label and return the file; raises InputError where the label is missing."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(rows)
    except (OSError, pyarrow.ArrowException) as problem:
        raise InputError(f"evaluation rows {rows}", f"are no parquet file ({type(problem).__name__})", REMEDY) from problem
    if label not in table.column_names:
        raise InputError(f"evaluation rows {rows}", f"have no column '{label}' (columns: {', '.join(table.column_names)})", REMEDY)
    work.mkdir(parents=True, exist_ok=True)
    unlabelled = (work / "evaluation-without-label.parquet").absolute()
    parquet.write_table(table.drop_columns([label]), unlabelled)
    return unlabelled


def _predict(folders: list[Path], rows: Path, candidate: Candidate) -> list[Run[Predictions]]:
    """Let every model predict the rows, each in a sandbox of its own, at the same time."""

    def one(folder: Path) -> Run[Predictions]:
        job = Job("predict", PredictRequest(folder.absolute(), rows), (folder, rows), candidate.work)
        return run(job, Predictions, Limits(candidate.seconds))

    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(one, folders))


def _measure(candidate: Candidate, declared: Evaluation, models: tuple[Predictions, ...]) -> tuple[_Scores | None, str]:
    """Return the metrics, or why there are none; raises InputError where the labels cannot serve the metric."""
    assert candidate.evaluation is not None
    rows = candidate.evaluation.absolute()
    job = Job("measure", MeasureRequest(rows, declared.label, declared.metric, models), (rows,), candidate.work)
    done = run(job, Measurements, Limits(candidate.seconds))
    if done.answer is None:
        return None, f"the predictions could not be measured: {done.failure}"
    if done.answer.wrong_rows:
        raise InputError(f"evaluation rows {rows}", done.answer.wrong_rows, REMEDY)
    values: list[Decimal] = []
    for who, measured in zip(("candidate", "champion"), done.answer.models, strict=False):
        if measured.value is None:
            return None, f"the {who} cannot be measured: {measured.problem}"
        values.append(Decimal(f"{measured.value:.6f}"))
    return _Scores(values[0], values[1] if len(models) > 1 else None), ""


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
