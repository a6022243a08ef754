"""Where the questions of all doors arrive: who answers, whether it is counted and kept."""

from __future__ import annotations

from collections.abc import Callable

from .doors import Call, Door, Reply, ask, check_named, plain
from .errors import ModelFailed, NotReady
from .exchange import Headers
from .log import say
from .oip import Oip
from .readiness import Readiness
from .scorer import Scorer
from .settings import ServiceSettings
from .usage import Usage
from .worker import Worker

NOT_READY = (b"x-convoy-not-ready", b"1")
"""Tells the edge that this is no answer: a process that is only starting refuses, and another place may answer."""
NOBODYS = (b"drill", b"shadow", b"golden")
"""Traffic whose rows are not kept: a drill's are made up, golden ones always the same, a shadow's are kept where they were answered."""


class Desk:
    """Asks one model for every door; not for several threads, the event loop alone calls it."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness, worker: Worker) -> None:
        self.settings = settings
        self.readiness = readiness
        self._worker = worker
        self._usage = Usage(settings)
        self._documents: dict[str, bytes] = {}

    def marks(self, request_id: bytes) -> Headers:
        """Return the headers that every answer carries: revision, region and request id."""
        return [
            (b"x-convoy-revision", self.readiness.revision.encode()),
            (b"x-convoy-region", self.settings.region.encode()),
            (b"x-request-id", request_id),
        ]

    def model(self, name: str | None = None, version: str | None = None) -> Scorer:
        """Return the model, of the name and the version if they are given; raises NotReady or NotFound."""
        scorer = self.readiness.ready()
        check_named(scorer, name, version)
        return scorer

    async def ask(self, scorer: Scorer, door: Door, call: Call) -> Reply:
        """Return the model's answer; raises a Problem."""
        if isinstance(door, Oip) and door.is_plain(call):
            return plain(call.body, await self._worker.run(lambda: scorer.answer(call.body)))
        keep = self.readiness.capture is not None
        return await self._worker.run(lambda: ask(scorer, door, call, keep))

    def count(self, traffic: bytes, status: int, size_in: int, size_out: int) -> None:
        """Count a prediction's answer before it is sent: whoever has it finds it counted, whenever the process is killed."""
        self._usage.count(traffic, status, size_in, size_out)

    def keep(self, traffic: bytes, request_id: bytes, reply: Reply) -> None:
        """Leave an answered question to be captured, where rows are kept."""
        if self.readiness.capture is not None and reply.kept is not None and traffic not in NOBODYS:
            self.readiness.capture.offer(request_id, *reply.kept)

    def refusal(self, problem: Exception, request_id: bytes) -> Headers:
        """Log a model's failure and return the headers that a refusal carries."""
        if isinstance(problem, ModelFailed):
            say(f"request {request_id.decode('latin-1')}: the model failed: {_class_name(problem)}")
        return [NOT_READY] if isinstance(problem, NotReady) and self.readiness.scorer is None else []

    def document(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return a document that is made once, when the model is there to be described."""
        if name not in self._documents:
            self._documents[name] = make()
        return self._documents[name]


def _class_name(problem: ModelFailed) -> str:
    """Return what may be logged of a model's failure: its message may repeat a caller's data."""
    cause = problem.__cause__
    return type(cause).__name__ if cause is not None else str(problem)
