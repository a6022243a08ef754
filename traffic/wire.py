"""How attempts and errors travel between an edge agent and its clients."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from fleet.errors import ConvoyError, OperationFailed
from fleet.evidence import Attempts


@dataclass(frozen=True, slots=True)
class Problem:
    """An error of the one tree as JSON; `kind` is its class."""

    kind: str
    subject: str
    reason: str
    remedy: str = ""


PROBLEM: TypeAdapter[Problem] = TypeAdapter(Problem)
ATTEMPTS: TypeAdapter[Attempts] = TypeAdapter(Attempts)


def problem_to_json(error: ConvoyError) -> bytes:
    """Return an error as JSON."""
    return PROBLEM.dump_json(Problem(type(error).__name__, error.subject, error.reason, error.remedy))


def problem_from_json(data: bytes) -> Problem | None:
    """Return the error that an answer holds; None when it holds none (something else answered)."""
    try:
        return PROBLEM.validate_json(data, strict=True)
    except ValidationError:
        return None


def attempts_to_json(attempts: Attempts) -> bytes:
    """Return attempts as JSON."""
    return ATTEMPTS.dump_json(attempts)


def attempts_from_json(data: bytes) -> Attempts:
    """Return the attempts that an agent sent; raises OperationFailed when they are none."""
    try:
        return ATTEMPTS.validate_json(data, strict=True)
    except ValidationError as problem:
        raise OperationFailed("edge agent", f"sent attempts that cannot be read ({problem.error_count()} problems)") from problem
