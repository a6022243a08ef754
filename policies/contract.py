"""The gate that holds training, validation, evaluation and golden rows against the declared data contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fleet.declared import Model
from fleet.errors import InputError, OperationFailed
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, failed, not_applicable, passed
from policies.sandbox import Job, Limits, run
from policies.workers.messages import ContractReport, ContractRequest, Frame

MOST_REASONS = 20
REMEDY = "Correct the contract that fleet.yaml names"


class _Known(BaseModel):
    """Refuses keys that a suite file of Great Expectations 1.x does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Meta(BaseModel):
    """What anybody may note; `sets` alone means something: the rows that the expectation is for."""

    model_config = ConfigDict(frozen=True, extra="allow")
    sets: Annotated[tuple[Literal["training", "validation", "evaluation", "golden"], ...], Field(min_length=1)] = ("training",)


class _Expectation(_Known):
    type: str
    kwargs: dict[str, Any] = {}
    meta: _Meta | None = None
    notes: str | list[str] | None = None
    description: str | None = None
    severity: str | None = None
    id: str | None = None
    rendered_content: Any = None


def _some(expectations: tuple[_Expectation, ...]) -> tuple[_Expectation, ...]:
    if not expectations:
        raise ValueError("there must be at least one")
    return expectations


class Suite(_Known):
    """A suite file."""

    name: str
    expectations: Annotated[tuple[_Expectation, ...], AfterValidator(_some)]
    meta: dict[str, Any] | None = None
    notes: str | list[str] | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of the rows gave: its report (None: `problem` says why there is none), and what kept it in.

    `frames` are the names of the rows that were checked, in the report's order.
    """

    problem: str = ""
    frames: tuple[str, ...] = ()
    report: ContractReport | None = None
    barriers: Figures = ()


class DataContract(Gate[Checked | None]):
    """Passes rows that meet every expectation of the suite, whatever its severity.

    Not applicable only where fleet.yaml declares no contract for the model. A declared contract needs the training
    rows, and the validation and golden rows that `gates.contract` names; evaluation rows are checked too where there are any.
    """

    name = "data contract"

    def gather(self, candidate: Candidate) -> Checked | None:
        """Return what the check of the rows found, None where no contract is declared.

        Raises InputError for a suite that says what nobody can check.
        """
        if candidate.contract is None:
            declared = candidate.declared.contract
            return None if declared is None else Checked(f"fleet.yaml declares the contract {declared}, but it was not found")
        suite = _read(candidate.contract)
        if candidate.training is None:
            return Checked("there are no training rows to check. Record the data's lineage with the model version")
        if candidate.declared.gates.contract.validation is not None and candidate.validation is None:
            return Checked("fleet.yaml declares validation rows, but they were not found")
        named = (
            ("training", candidate.training),
            ("validation", candidate.validation),
            ("evaluation", candidate.evaluation),
            ("golden", candidate.golden),
        )
        frames = tuple(Frame(name, path.absolute()) for name, path in named if path is not None)
        return self._check(candidate, suite, frames)

    def judge(self, declared: Model, evidence: Checked | None) -> GateResult:
        """Return whether the rows meet the contract."""
        if evidence is None:
            return not_applicable(self, "fleet.yaml declares no contract for this model")
        report, barriers = evidence.report, evidence.barriers
        if report is None:
            return failed(self, evidence.problem, figures=barriers)
        figures = (*((f"{frame} rows", str(rows)) for frame, rows in zip(evidence.frames, report.rows, strict=True)), *barriers)
        if report.breaches:
            return failed(self, *_reasons(report), figures=figures)
        return passed(self, f"{listed(evidence.frames)} rows meet every expectation", figures)

    def _check(self, candidate: Candidate, suite: str, frames: tuple[Frame, ...]) -> Checked:
        job = Job("contract", ContractRequest(suite, frames), tuple(frame.rows for frame in frames), candidate.work)
        done = run(job, ContractReport, Limits(candidate.seconds))
        if done.answer is None:
            return Checked(f"the rows could not be checked: {done.failure}", barriers=done.barriers.figures)
        report = done.answer
        if report.wrong_suite:
            raise InputError(str(candidate.contract), "; ".join(report.wrong_suite), f"{REMEDY}.")
        if len(report.rows) != len(frames):
            raise OperationFailed(self.name, "not every frame was checked", "Run the release again.")
        return Checked(frames=tuple(frame.name for frame in frames), report=report, barriers=done.barriers.figures)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: one, two and three."""
    return " and ".join((*[", ".join(names[:-1])] * bool(names[:-1]), *names[-1:]))


def _reasons(report: ContractReport) -> list[str]:
    """Say each breach in one line, the first twenty of them."""
    lines = [f"{one.frame} rows: {one.expectation}{f' on {one.subject}' if one.subject else ''}: {one.why}" for one in report.breaches]
    more = len(lines) - MOST_REASONS
    return lines[:MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])


def _read(path: Path) -> str:
    """Return a suite's text, once its form is right; raises InputError naming each wrong key."""
    try:
        text = path.read_text(encoding="utf-8")
        Suite.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(str(path), f"cannot be read ({problem})", f"{REMEDY}.") from problem
    except ValidationError as problem:
        found = "; ".join(f"{'.'.join(map(str, error['loc']))}: {_says(error['type'], error['msg'])}" for error in problem.errors())
        raise InputError(str(path), found, f"{REMEDY}.") from problem
    return text


def _says(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message
