"""How far a process has got on its way to answering, and why it will not get there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .capture import Capture, capturing
from .errors import NotReady, Unfit, told
from .integrity import digest_of_folder, verify
from .loading import OnlyMlflow, loading
from .log import say
from .scorer import Scorer
from .settings import ServiceSettings


@dataclass(slots=True)
class Readiness:
    """Written by the starting thread, read by the event loop.

    `revision` is the digest that answers carry: the one asked for, else the one measured. `capture` keeps answered rows,
    where they are wanted. `took_ms` says how long each step of the start took. `scorer` is set last, and only for files
    that were verified. `because` says why MLflow answers, where that is known from before.
    """

    revision: str
    reason: str = "starting"
    exit_code: int = 0
    capture: Capture | None = None
    took_ms: dict[str, float] = field(default_factory=dict)
    scorer: Scorer | None = None
    because: str = ""

    def ready(self) -> Scorer:
        """Return the scorer; raises NotReady with the reason there is none."""
        if self.scorer is None:
            raise NotReady(self.reason)
        return self.scorer


def start(settings: ServiceSettings, readiness: Readiness) -> None:
    """Verify the files, load the model and warm it; afterwards the readiness says ready, or why it never will be.

    Raises OnlyMlflow where the model was loaded by its own library and must be asked through MLflow, in another process.
    """
    try:
        scorer = _prepared(settings, readiness)
    except OnlyMlflow:
        raise
    except Unfit as problem:
        _fail(readiness, str(problem), problem.exit_code)
    except Exception as problem:
        _fail(readiness, f"unexpected: {told(problem)}", Unfit.exit_code)
        raise
    else:
        readiness.capture = capturing(settings.capture, scorer, (readiness.revision, settings.region))
        readiness.scorer = scorer
        readiness.reason = "ready"


def _prepared(settings: ServiceSettings, readiness: Readiness) -> Scorer:
    with _step(readiness, "check", "the files are being checked"):
        if settings.revision is None:
            readiness.revision = digest_of_folder(settings.root)
        else:
            verify(settings.root, settings.manifest_file, settings.revision)
    with _step(readiness, "load", "the model is being loaded"):
        loaded = loading(settings, readiness.revision, readiness.because)
    with _step(readiness, "warm_up", "the model makes its first prediction"):
        scorer, made_from = loaded.warmed()
    path = ", ".join(str(value) for value in scorer.notes.values())
    say(f"ready: {scorer.name} version {scorer.version}, revision {readiness.revision}, {path}, warmed with {made_from}")
    return scorer


@contextmanager
def _step(readiness: Readiness, name: str, reason: str) -> Iterator[None]:
    """Take one step of the start: why it is not ready yet, and afterwards how long it took."""
    readiness.reason = reason
    began = time.monotonic()
    yield
    readiness.took_ms[name] = round((time.monotonic() - began) * 1000, 1)


def _fail(readiness: Readiness, reason: str, exit_code: int) -> None:
    say(f"never ready: {reason}")
    readiness.reason = reason
    readiness.exit_code = exit_code
