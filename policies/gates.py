"""The gates of a release, the cheap ones first."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile

from fleet.evidence import GateOutcome, GateResult
from policies.callers import CallersKept
from policies.candidate import Candidate, Gate
from policies.contract import DataContract
from policies.metric import MetricAgainstChampion
from policies.schema import SchemaPresent

__all__ = ["ALL_GATES", "Candidate", "Gate", "evaluate_all", "may_go_on"]

ALL_GATES: tuple[Gate, ...] = (SchemaPresent(), CallersKept(), DataContract(), MetricAgainstChampion())


def evaluate_all(gates: Sequence[Gate], candidate: Candidate) -> tuple[GateResult, ...]:
    """Ask every gate and return all answers in their order; a candidate without a schema is asked nothing further.

    What comes after the schema is asked at the same time, each gate in a scratch folder of its own: most of it is
    waiting for models and libraries to load. Raises InputError where the contract or the evaluation that was declared
    is itself wrong.
    """
    first = list(takewhile(lambda gate: isinstance(gate, SchemaPresent), gates))
    results = [gate.evaluate(candidate) for gate in first]
    rest = gates[len(first) :]
    if not rest or any(result.outcome is GateOutcome.FAILED for result in results):
        return tuple(results)

    def ask(position: int) -> GateResult:
        return rest[position].evaluate(replace(candidate, work=candidate.work / str(position)))

    with ThreadPoolExecutor(len(rest)) as pool:
        return (*results, *pool.map(ask, range(len(rest))))


def may_go_on(results: Sequence[GateResult]) -> bool:
    """Return whether no gate said no; no answer at all is a no."""
    return bool(results) and all(result.outcome is not GateOutcome.FAILED for result in results)
