"""What the gates look at, and how they look: the candidate, and the Protocol of a gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fleet.components import Needs
from fleet.declared import Model
from fleet.declared_region import Region
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import DataLineage
from policies.once import Once
from policies.waived import Waivers

Figures = tuple[tuple[str, str], ...]
Evidence = TypeVar("Evidence")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model version that wants to be released, with everything that is known of it.

    `folder` and `champion` are downloaded MLflow models (no champion: None), `training`, `evaluation` (with the label),
    `validation` and `golden` (with the answers that they must be given) parquet files of rows, `contract` a Great
    Expectations suite, `work` a folder for scratch files. `seconds` is how long a model may run inside a gate.
    `version` and `tags` are MLflow's, `lineage` says where the training rows are from, `actor` is who asked for the
    release as the ledger names it, `regions` are those of the fleet, and `fleet_folder` is where fleet.yaml lies.
    `builder` is the operator whose claim to have built it was checked. `needs` is what the model and the scoring service
    need (None: nobody told), `advisories` what the site knows of flaws, `now` when the gates are asked, `waivers` what two
    people let go although a gate refuses it, and `waived` names the file formats among these. `signature` is why the files are
    not those that were signed (None: nobody looked). `service` is the folder of the
    scoring service's code, as it is packaged with the model. `once` keeps what several gates look at.
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
    builder: str | None = None
    version: str = ""
    actor: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    lineage: DataLineage | None = None
    regions: Mapping[str, Region] = field(default_factory=dict)
    fleet_folder: Path | None = None
    golden: Path | None = None
    needs: Needs | None = None
    advisories: Path | None = None
    now: datetime | None = None
    waivers: Waivers = field(default_factory=Waivers)
    waived: frozenset[str] = frozenset()
    validation: Path | None = None
    service: Path | None = None
    signature: tuple[str, ...] | None = None
    once: Once = field(default_factory=Once, compare=False, repr=False)


class Gate(Protocol[Evidence]):
    """Something that may say no, called by its name in results, reports and the ledger.

    It runs no code of a model in its own process.
    """

    name: str

    def gather(self, candidate: Candidate) -> Evidence:
        """Return what the gate looks at; raises InputError where what was declared (a contract, rows) is itself wrong."""
        ...

    def judge(self, declared: Model, evidence: Evidence) -> GateResult:
        """Return the verdict over gathered evidence; pure, so that it can be given again."""
        ...

    def evaluate(self, candidate: Candidate) -> GateResult:
        """Gather and judge."""
        return self.judge(candidate.declared, self.gather(candidate))


AnyGate = Gate[Any]
MOST_REASONS = 20


def first_of(reasons: Sequence[str]) -> tuple[str, ...]:
    """Return the first twenty reasons, and how many more there are."""
    more = len(reasons) - MOST_REASONS
    return (*reasons[:MOST_REASONS], *((f"and {more} more",) if more > 0 else ()))


def passed(gate: AnyGate, reason: str, figures: Figures = ()) -> GateResult:
    """Return that the candidate may go on."""
    return GateResult(gate.name, GateOutcome.PASSED, (reason,), figures)


def failed(gate: AnyGate, *reasons: str, figures: Figures = ()) -> GateResult:
    """Return that the candidate may not go on."""
    return GateResult(gate.name, GateOutcome.FAILED, reasons, figures)


def inconclusive(gate: AnyGate, *reasons: str, figures: Figures = ()) -> GateResult:
    """Return that the gate's question could not be answered, so that the candidate may not go on."""
    return GateResult(gate.name, GateOutcome.INCONCLUSIVE, reasons, figures)


def not_applicable(gate: AnyGate, reason: str, figures: Figures = ()) -> GateResult:
    """Return that the gate's question does not arise, as the gate declares."""
    return GateResult(gate.name, GateOutcome.NOT_APPLICABLE, (reason,), figures)
