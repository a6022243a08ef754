"""The one error tree, grouped by what the caller does next.

ConvoyError
├── InputError             fix the input and run again (exit 2, HTTP 4xx)
│   ├── FleetFileError     fleet.yaml is wrong, at a path and a line
│   ├── UnknownName        no such model, version, region, release, ...
│   ├── NotSupported       this target or verb cannot do that, and says why
│   └── Refused            the request is well formed but not allowed (forged, replayed, stale)
├── TransientError         try again later: the caller's retry policy may
│   ├── Unreachable        nobody answered
│   ├── TooLate            what was sent had run out before it was taken
│   └── Busy               somebody else holds it: a lease, a lock, a throttle
├── OperationFailed        a human looks: the act was tried and did not take effect (exit 5)
│   ├── Denied             the other side refused our credentials
│   └── IntegrityError     bytes are not what their digest says
└── LedgerBroken           nothing acts until a human has looked (exit 6)

An error names the thing, the reason and the remedy. Errors of an SDK are translated once, at its adapter, by code.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    BAD_INPUT = 2
    REJECTED = 3
    ROLLED_BACK = 4
    FAILED = 5
    LEDGER_BROKEN = 6
    PENDING = 7


class ConvoyError(Exception):
    """Anything Convoy reports instead of a result.

    `subject` is the thing, `reason` what is wrong with it, `remedy` what to do about it.
    """

    exit_code: ExitCode = ExitCode.FAILED
    http_status: int = 500

    def __init__(self, subject: str, reason: str, remedy: str = "") -> None:
        self.subject = subject
        self.reason = reason
        self.remedy = remedy
        super().__init__(subject, reason, remedy)

    def __str__(self) -> str:
        text = f"{self.subject}: {self.reason}"
        return f"{text}. {self.remedy}" if self.remedy else text


class InputError(ConvoyError):
    """The input is wrong; nothing was done."""

    exit_code = ExitCode.BAD_INPUT
    http_status = 422


class FleetFileError(InputError):
    """fleet.yaml does not say what it must; each problem carries its path, line and allowed values."""


class UnknownName(InputError):
    """No such thing; the reason lists the known ones."""

    http_status = 404


class NotSupported(InputError):
    """This target cannot do that, for the reason given."""

    http_status = 501


class Refused(InputError):
    """Understood and not allowed: a forged or replayed message, an older epoch, an unsafe act."""

    http_status = 403


class TransientError(ConvoyError):
    """Nothing is wrong with the request; trying again may succeed."""

    http_status = 503


class Unreachable(TransientError):
    """The other side did not answer."""


class TooLate(TransientError):
    """What was sent had run out before it was taken; the same made anew may be in time."""

    http_status = 408


class Busy(TransientError):
    """Somebody else holds what is needed."""

    http_status = 409


class OperationFailed(ConvoyError):
    """The act was tried and its effect was not seen; a human looks."""


class Denied(OperationFailed):
    """The other side refused our credentials."""

    http_status = 502


class IntegrityError(OperationFailed):
    """Bytes are not what their digest says."""


class LedgerBroken(ConvoyError):
    """The ledger's chain does not verify, so nothing acts."""

    exit_code = ExitCode.LEDGER_BROKEN
