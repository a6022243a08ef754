"""The gate that compares a candidate with the champion row by row, part by part, and looks at its calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.declared import Evaluation, Model
from fleet.declared_quality import Quality
from fleet.errors import InputError
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, failed, inconclusive, not_applicable
from policies.predicting import CHAMPION_REMEDY, REMEDY, predicted, seed_of
from policies.quality_verdict import Held, verdict
from policies.sandbox import Job, Limits, run
from policies.workers.compared import Bins, CompareRequest, Comparison, Part
from policies.workers.messages import Predictions

ALL_ROWS = "all rows"


@dataclass(frozen=True, slots=True)
class Compared:
    """What the comparison gave (None: `problem` says why there is nothing), what kept the models in, the seed of the drawing.

    `by_champion` says that the champion alone is why there is nothing.
    """

    found: Comparison | None
    problem: str = ""
    barriers: Figures = ()
    seed: int = 0
    by_champion: bool = False


class QualityAgainstChampion(Gate[Compared | None]):
    """Passes a candidate that is surely within every declared limit: over all rows, in each slice, in its calibration.

    Not applicable where fleet.yaml declares no `gates.quality`, or where there is no champion to compare with and no
    calibration is declared. Inconclusive where the champion, and it alone, cannot be asked.
    The models predict once for this gate and for the metric's.
    """

    name = "quality"

    def gather(self, candidate: Candidate) -> Compared | None:
        """Return how the two compare, None where nothing is asked; raises InputError where the evaluation's rows are wrong."""
        asked, evaluation = candidate.declared.gates.quality, candidate.declared.evaluation
        if asked is None or evaluation is None:
            return None
        if candidate.champion is None and asked.calibration is None:
            return Compared(Comparison())
        given = predicted(candidate, evaluation)
        if given.problem or candidate.evaluation is None:
            return Compared(None, given.problem, given.barriers, by_champion=given.by_champion)
        rows = candidate.evaluation.absolute()
        request = _request(asked, evaluation, rows, given.models)
        done = run(Job("compare", request, (rows,), candidate.work), Comparison, Limits(candidate.seconds))
        if done.answer is None:
            return Compared(None, f"the predictions could not be compared: {done.failure}", given.barriers)
        if done.answer.wrong_rows:
            raise InputError(f"evaluation rows {rows}", done.answer.wrong_rows, REMEDY)
        return Compared(done.answer, done.answer.problem, given.barriers, request.seed, done.answer.by_champion)

    def judge(self, declared: Model, evidence: Compared | None) -> GateResult:
        """Return whether every limit is surely kept."""
        asked, evaluation = declared.gates.quality, declared.evaluation
        if evidence is None or asked is None or evaluation is None:
            return not_applicable(self, "fleet.yaml declares no gates.quality for this model")
        found = evidence.found
        if evidence.problem and evidence.by_champion:
            return inconclusive(self, f"{evidence.problem}. {CHAMPION_REMEDY}", figures=evidence.barriers)
        if found is None or evidence.problem:
            return failed(self, evidence.problem, figures=evidence.barriers)
        if not (found.parts or found.calibration):
            return not_applicable(self, "there is no champion to compare with, and no calibration is declared")
        figures = (("seed of the drawing", str(evidence.seed)), *evidence.barriers)
        return verdict(self.name, Held(asked, evaluation.metric, found), figures)


def _request(asked: Quality, evaluation: Evaluation, rows: Path, models: tuple[Predictions, ...]) -> CompareRequest:
    parts = [Part(ALL_ROWS, float(asked.margin), asked.minimum_rows)]
    parts += [Part(one.name, float(one.limit), one.minimum_rows, one.column, one.values, one.low, one.high) for one in asked.slices]
    wanted, bins = asked.calibration, None
    if wanted is not None:
        brier = None if wanted.brier is None else float(wanted.brier)
        bins = Bins(wanted.bins, wanted.binning, float(wanted.limit), brier, asked.minimum_rows)
    return CompareRequest(
        rows=rows,
        label=evaluation.label,
        metric=evaluation.metric,
        models=models,
        parts=tuple(parts),
        bins=bins,
        confidence=asked.confidence,
        resamples=asked.resamples,
        seed=seed_of(rows),
    )
