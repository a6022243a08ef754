"""What a comparison comes to: each question answered, all of them together, with tables and charts; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from fleet.declared_quality import Quality
from fleet.evidence import GateChart, GateOutcome, GateResult, GateTable
from policies.candidate import Figures
from policies.workers.compared import Asked, Comparison

MOST_REASONS = 20
REMEDY = "Evaluate on more rows, or let the estimate decide (gates.quality.without_verdict)"


class Says(Enum):
    """What the answer to one question comes to."""

    WITHIN = "within its limit"
    ABOVE = "above its limit"
    UNSURE = "not sure"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Held:
    """A comparison, the metric it was made by, and what is declared of it."""

    asked: Quality
    metric: str
    found: Comparison


@dataclass(frozen=True, slots=True)
class Answered:
    """A question, what its answer comes to, and the p-value of "it is above its limit", adjusted for being one of several."""

    question: Asked
    says: Says
    p_above: float


def verdict(gate: str, held: Held, figures: Figures) -> GateResult:
    """Return whether every limit is surely kept.

    A limit is failed only where the candidate is surely above it: the p-values are adjusted for being several, so that one
    that keeps every limit fails with a probability of `asked.error` at most. That a limit is kept must be shown for each
    by itself, which needs no adjustment (Berger, Technometrics 24, 1982).
    """
    answers = answered(held)
    outcome, reasons = _concluded(held, answers)
    shown = (("confidence", f"{held.asked.confidence:g}"), ("drawings", str(held.asked.resamples)), *figures)
    return GateResult(gate, outcome, _bounded(reasons), shown, _tables(held, answers), _charts(held))


def answered(held: Held) -> tuple[Answered, ...]:
    """Return what the answer to each question comes to."""
    questions = (*held.found.parts, *held.found.calibration)
    adjusted = iter(holm([one.p_above for one in questions if not one.problem]))
    pairs = [(one, 1.0 if one.problem else next(adjusted)) for one in questions]
    return tuple(Answered(one, _says(held.asked, one, p_above), p_above) for one, p_above in pairs)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for being several, by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979).

    Where those of at most e are rejected, any true hypothesis is with a chance of at most e, however they hang together.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - position)))
        adjusted[index] = highest
    return tuple(adjusted)


def _says(asked: Quality, one: Asked, p_above: float) -> Says:
    if one.problem:
        return Says.UNKNOWN
    if p_above <= asked.error:
        return Says.ABOVE
    if one.p_within <= asked.error:
        return Says.WITHIN
    if asked.without_verdict == "estimate":
        return Says.ABOVE if one.estimate > one.limit else Says.WITHIN
    return Says.UNSURE


def _concluded(held: Held, answers: Sequence[Answered]) -> tuple[GateOutcome, list[str]]:
    refused = [one for says in (Says.ABOVE, Says.UNSURE, Says.UNKNOWN) for one in answers if one.says is says]
    if refused:
        outcome = GateOutcome.FAILED if refused[0].says is Says.ABOVE else GateOutcome.INCONCLUSIVE
        return outcome, [_line(held, one) for one in refused]
    kept = [f"{held.metric} is within what it may lose over all rows{_slices(held)}"] if held.found.parts else []
    kept += [f"the {one.question.name} is {_figure(one.question.estimate)}" for one in answers if one.question in held.found.calibration]
    return GateOutcome.PASSED, [f"{'; '.join(kept)}{'' if held.found.parts else '; there is no champion to compare with'}"]


def _slices(held: Held) -> str:
    count = len(held.asked.slices)
    return f" and in {'its slice' if count == 1 else f'each of {count} slices'}" if count else ""


def _line(held: Held, answer: Answered) -> str:
    """Say what speaks against passing."""
    one = answer.question
    part = one in held.found.parts
    where = f"over {one.name}" if held.found.parts[:1] == (one,) else f"where {one.name}"
    if answer.says is Says.UNKNOWN:
        return f"{where if part else f'the {one.name}'} cannot be told: {one.problem}"
    allowed = f"{_figure(one.estimate)} ({_interval(one)} at a confidence of {held.asked.confidence:g}), and {one.limit:g} is allowed"
    subject = f"{held.metric} {where} is worse than the champion's by" if part else f"the {one.name} is"
    if answer.says is Says.UNSURE:
        return f"not enough rows ({one.rows:,}) to tell: {subject} {allowed}. {REMEDY}"
    return f"{subject} {allowed}"


def _tables(held: Held, answers: Sequence[Answered]) -> tuple[GateTable, ...]:
    columns = ("rows of", "rows", "candidate", "champion", "worse by", "interval", "allowed", "p (Holm)", "so it is")
    compared = tuple(_row(one, _shown(one.question.candidate), _shown(one.question.champion)) for one in answers if _of_part(held, one))
    found = [GateTable(f"{held.metric}, candidate against champion", columns, compared)] if compared else []
    own = tuple(_row(one) for one in answers if not _of_part(held, one))
    if own:
        found.append(GateTable("Calibration", ("figure", "rows", "value", "interval", "allowed", "p (Holm)", "so it is"), own))
    bins = tuple(
        (f"{one.low:.3g} to {one.high:.3g}", f"{one.rows:,}", _figure(one.predicted), _figure(one.observed)) for one in held.found.bins
    )
    if bins:
        found.append(GateTable("Reliability", ("probability", "rows", "predicted", "happened"), bins))
    return tuple(found)


def _row(answer: Answered, *compared: str) -> tuple[str, ...]:
    one = answer.question
    if one.problem:
        return (one.name, f"{one.rows:,}", *compared, "", "", f"{one.limit:g}", "", f"{answer.says.value}: {one.problem}")
    figures = (_figure(one.estimate), _interval(one), f"{one.limit:g}", f"{answer.p_above:.3g}")
    return (one.name, f"{one.rows:,}", *compared, *figures, answer.says.value)


def _of_part(held: Held, answer: Answered) -> bool:
    return answer.question in held.found.parts


def _charts(held: Held) -> tuple[GateChart, ...]:
    """Draw how much may be lost at most, part by part, and what happened in each bin of probabilities."""
    parts = [one for one in held.found.parts if not one.problem]
    limits = {one.limit for one in parts}
    charts = []
    if parts:
        bars = tuple((one.name, _decimal(max(one.high, 0.0))) for one in parts)
        limit = _decimal(limits.pop()) if len(limits) == 1 else None
        charts.append(GateChart(f"{held.metric} lost at most, by part", bars, limit))
    if held.found.bins:
        shares = tuple((f"predicted {one.predicted:.3f}", _decimal(one.observed)) for one in held.found.bins)
        charts.append(GateChart("What happened where so much was predicted", shares))
    return tuple(charts)


def _bounded(reasons: list[str]) -> tuple[str, ...]:
    more = len(reasons) - MOST_REASONS
    return (*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else []))


def _interval(one: Asked) -> str:
    return f"{_figure(one.low)} to {_figure(one.high)}"


def _shown(value: float | None) -> str:
    return "" if value is None else _figure(value)


def _figure(value: float) -> str:
    return f"{value:.6f}"


def _decimal(value: float) -> Decimal:
    return Decimal(_figure(value))
