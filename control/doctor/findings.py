"""What the doctor found: a level, the thing, the reason, and what to type."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from fleet.errors import ConvoyError, ExitCode


class Level(StrEnum):
    """How bad a finding is; `meaning` says it in one sentence."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]


MEANING: dict[Level, str] = {
    Level.OK: "It is as it should be.",
    Level.WARNING: "It works now, or could not be looked at; it deserves a look by daylight.",
    Level.PROBLEM: "Something does not work, or will not: act on it.",
}


class Finding(BaseModel):
    """One finding; `remedy` is a command to type where there is one, `exit_code` what a problem makes of the command."""

    model_config = ConfigDict(frozen=True)

    level: Level
    subject: str
    reason: str
    remedy: str = ""
    check: str = ""
    exit_code: ExitCode = ExitCode.DONE


def ok(subject: str, reason: str, remedy: str = "") -> Finding:
    """Return a finding that all is well."""
    return Finding(level=Level.OK, subject=subject, reason=reason, remedy=remedy)


def warning(subject: str, reason: str, remedy: str = "") -> Finding:
    """Return a finding that deserves a look."""
    return Finding(level=Level.WARNING, subject=subject, reason=reason, remedy=remedy)


def problem(subject: str, reason: str, remedy: str = "", exit_code: ExitCode = ExitCode.FAILED) -> Finding:
    """Return a finding that something does not work."""
    return Finding(level=Level.PROBLEM, subject=subject, reason=reason, remedy=remedy, exit_code=exit_code)


def from_error(subject: str, error: Exception) -> Finding:
    """Return the finding that an error is, by its class: ours tells subject, reason and remedy, any other its name."""
    if isinstance(error, ConvoyError):
        return problem(error.subject, error.reason, error.remedy, error.exit_code)
    says = str(error).partition("\n")[0][:300]
    return problem(subject, f"could not be looked at: {type(error).__name__}{f': {says}' if says else ''}")


def exit_code_of(findings: tuple[Finding, ...]) -> ExitCode:
    """Return what the findings come to: a broken ledger before everything, then what failed, then wrong input."""
    found = {finding.exit_code for finding in findings if finding.level is Level.PROBLEM}
    for code in (ExitCode.LEDGER_BROKEN, ExitCode.FAILED, ExitCode.BAD_INPUT):
        if code in found:
            return code
    return ExitCode.DONE
