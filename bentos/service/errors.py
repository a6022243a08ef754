"""What may go wrong in the service, grouped by who hears of it.

ServiceError
├── Problem              a caller hears of it; `status` is the HTTP status
│   ├── BadRequest       400
│   ├── NotFound         404
│   ├── WrongMethod      405
│   ├── NotAcceptable    406
│   ├── TooSlow          408
│   ├── TooLarge         413
│   ├── WrongType        415
│   ├── ModelFailed      500: the model raised, or its answer cannot be expressed
│   ├── NotReady         503: starting, or failed to start
│   ├── Overloaded       503: too much is waiting, or more than can be answered in this request's time
│   └── TooLate          504: the request's time is up
├── ClientLeft           nobody is there to hear of it
└── Unfit                the process ends with `exit_code`; supervisors and logs hear of it
    ├── SettingsWrong    2
    ├── FilesDiffer      3: bytes are not what the digest says
    └── ModelUnusable    5: the model cannot be loaded or does not answer its own example
"""

from __future__ import annotations

import traceback

TEXT_LIMIT = 500


class ServiceError(Exception):
    """Anything the service reports instead of a prediction; its text is one sentence."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class Problem(ServiceError):
    """An answer other than 200."""

    status = 500


class BadRequest(Problem):
    """The request is wrong; the text names the column and what is allowed."""

    status = 400


class NotFound(Problem):
    """No such path or model."""

    status = 404


class WrongMethod(Problem):
    """The path exists, the method does not; `allowed` are those that do."""

    status = 405

    def __init__(self, text: str, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.allowed = allowed


class NotAcceptable(Problem):
    """The answer cannot be given in any form that the caller accepts."""

    status = 406


class TooSlow(Problem):
    """The body did not arrive in time."""

    status = 408


class TooLarge(Problem):
    """The body is over the limit."""

    status = 413


class WrongType(Problem):
    """The body has a content type that the path does not take, or is encoded."""

    status = 415


class ModelFailed(Problem):
    """The model raised, or gave what the protocol cannot carry."""


class NotReady(Problem):
    """Nothing is wrong with the request; the service cannot take it now."""

    status = 503


class Overloaded(Problem):
    """Nothing is wrong with the request; too much is waiting. `wait` is in how many seconds that will probably be done."""

    status = 503

    def __init__(self, text: str, wait: float) -> None:
        super().__init__(text)
        self.wait = wait


class TooLate(Problem):
    """The request's time was up before it was answered."""

    status = 504


class ClientLeft(ServiceError):
    """The caller closed the connection before its request was complete."""


class Unfit(ServiceError):
    """The process can never become ready."""

    exit_code = 1


class SettingsWrong(Unfit):
    """The environment is incomplete or wrong."""

    exit_code = 2


class FilesDiffer(Unfit):
    """The unpacked files are not the revision that was asked for."""

    exit_code = 3


class ModelUnusable(Unfit):
    """The model cannot be loaded, has no signature or fails on its own example."""

    exit_code = 5


def told(problem: BaseException) -> str:
    """Return the class name and the message of any exception, 500 characters at most."""
    text = "".join(traceback.format_exception_only(problem)).strip()
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
