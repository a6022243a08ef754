"""The gates of a release, the cheap ones first."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate, Gate
from policies.contract import DataContract
from policies.metric import MetricAgainstChampion
from policies.schema import SchemaPresent

__all__ = ["ALL_GATES", "Candidate", "Gate", "evaluate_all", "may_go_on"]

ALL_GATES: tuple[Gate, ...] = (SchemaPresent(), DataContract(), MetricAgainstChampion())


def evaluate_all(gates: Sequence[Gate], candidate: Candidate) -> tuple[GateResult, ...]:
    """Ask every gate in turn and return all answers; a candidate without a schema is asked nothing further.

    Raises InputError where the contract or the evaluation that was declared is itself wrong.
    """
    results: list[GateResult] = []
    for gate in gates:
        results.append(gate.evaluate(candidate))
        if isinstance(gate, SchemaPresent) and results[-1].outcome is GateOutcome.FAILED:
            break
    return tuple(results)


def may_go_on(results: Sequence[GateResult]) -> bool:
    """Return whether no gate said no; no answer at all is a no."""
    return bool(results) and all(result.outcome is not GateOutcome.FAILED for result in results)
