"""What is said of a container of the model's owner, from what it did when it was started once as a region starts it."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.evidence import GateOutcome, GateResult, GateTable
from policies.candidate import first_of

NAME = "container"
PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"


@dataclass(frozen=True, slots=True)
class Kept:
    """One rule of the contract, how it went (`passed`, `failed`, anything else: it could not be told), and why."""

    rule: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conformance:
    """What was found out of a container: its image, the rules that are asked for, and how each went.

    `problem` says why it could not be run here at all, so that nothing is known.
    """

    image: str
    asked: tuple[str, ...]
    found: tuple[Kept, ...] = ()
    problem: str = ""


def judge_container(conformance: Conformance) -> GateResult:
    """Return whether a container keeps the contract; pure. A rule that was not answered for is inconclusive, and passes nothing."""
    if conformance.problem:
        return GateResult(NAME, GateOutcome.INCONCLUSIVE, (conformance.problem,), _figures(conformance))
    broken = tuple(f"{each.rule}: {each.reason}" for each in conformance.found if each.outcome == FAILED)
    told = {each.rule for each in conformance.found if each.outcome in (PASSED, FAILED)}
    why = {each.rule: each.reason for each in conformance.found}
    unsure = tuple(f"{rule}: {why.get(rule, 'it was not asked')}" for rule in conformance.asked if rule not in told)
    outcome = GateOutcome.FAILED if broken else GateOutcome.INCONCLUSIVE if unsure or not told else GateOutcome.PASSED
    reasons = broken or unsure or (f"it keeps all {len(told)} rules of the contract" if told else "nothing was asked",)
    rows = tuple((each.outcome, each.rule, each.reason) for each in conformance.found)
    tables = (GateTable("rules of the contract", ("said", "rule", "why"), rows),) if rows else ()
    return GateResult(NAME, outcome, first_of(reasons), _figures(conformance), tables)


def _figures(conformance: Conformance) -> tuple[tuple[str, str], ...]:
    return (("image", conformance.image), ("rules asked for", str(len(conformance.asked))))
