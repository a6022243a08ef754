"""What the gates look at, and how they look: the candidate, and the Protocol of a gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.declared import Model
from fleet.evidence import GateOutcome, GateResult

Figures = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model version that wants to be released, with everything that is known of it.

    `folder` and `champion` are downloaded MLflow models (no champion: None), `training` and `evaluation` parquet files
    of rows (`evaluation` with the label), `contract` a Great Expectations suite, `work` a folder for scratch files.
    `seconds` is how long a model may run inside a gate.
    """

    model: str
    declared: Model
    folder: Path
    champion: Path | None
    training: Path | None
    evaluation: Path | None
    contract: Path | None
    work: Path
    seconds: float


class Gate(Protocol):
    """Something that may say no. It runs no code of a model in its own process."""

    @property
    def name(self) -> str:
        """What the gate is called in results, reports and the ledger."""
        ...

    def evaluate(self, candidate: Candidate) -> GateResult:
        """Return the gate's answer; raises InputError where what was declared (contract, evaluation) is itself wrong."""
        ...


def passed(gate: Gate, reason: str, figures: Figures = ()) -> GateResult:
    """Return that the candidate may go on."""
    return GateResult(gate.name, GateOutcome.PASSED, (reason,), figures)


def failed(gate: Gate, *reasons: str, figures: Figures = ()) -> GateResult:
    """Return that the candidate may not go on."""
    return GateResult(gate.name, GateOutcome.FAILED, reasons, figures)


def not_applicable(gate: Gate, reason: str, figures: Figures = ()) -> GateResult:
    """Return that the gate's question does not arise, as the gate declares."""
    return GateResult(gate.name, GateOutcome.NOT_APPLICABLE, (reason,), figures)
