"""Where the questions of all doors arrive: who answers, whether it is counted, traced and kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .batcher import Batcher, Limits
from .board import Board
from .doors import Call, Door, Enquiry, Reply, check_named
from .errors import ModelFailed, NotReady, Overloaded, Problem, TooLate
from .exchange import Headers
from .log import say
from .readiness import Readiness
from .scorer import Scorer
from .settings import ServiceSettings
from .traces import Traces, write
from .usage import Usage
from .visits import Deadline, Visit
from .worker import Worker

NOT_READY = (b"x-convoy-not-ready", b"1")
"""Tells the edge that this is no answer: a process that is only starting refuses, and another place may answer."""
RETRY_AFTER = b"retry-after"
HELD_SECONDS = 1.0
SMALL_BYTES = 64 << 10
"""A body up to this size may always arrive: what it holds is little beside what its connection does."""
NOBODYS = (b"drill", b"shadow", b"golden")
"""Traffic whose rows are not kept: a drill's are made up, golden ones always the same, a shadow's are kept where they were answered."""


class Desk:
    """Asks one model for every door; not for several threads, the event loop alone calls it."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness, worker: Worker, board: Board | None = None) -> None:
        self.settings = settings
        self.readiness = readiness
        self.board = board or Board()
        self._worker = worker
        self._usage = Usage(settings)
        self._traces = Traces(settings.trace_rate)
        self._batcher: Batcher | None = None
        self._held = 0
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

    async def ask(self, door: Door, call: Call, visit: Visit, deadline: Deadline, alone: bool = False) -> Reply:
        """Return the model's answer in its time; raises a Problem. One that is known to be `alone` waits for no company."""
        batcher = self._batcher or self._begin(self.readiness.ready())
        enquiry = Enquiry(door, call, keep=self.readiness.capture is not None and visit.traffic not in NOBODYS)
        try:
            reply, visit.entry = await batcher.answer(enquiry, deadline, alone)
        except Overloaded:
            self.board.shed("overloaded")
            raise
        except TooLate:
            self.board.shed("too_late")
            raise
        return reply

    def count(self, visit: Visit, status: int, size: int) -> None:
        """Count and trace a prediction's answer of so many bytes before it is sent.

        Whoever has it finds it counted, whenever the process is killed.
        """
        self._usage.count(visit.traffic, status, visit.received, size)
        self.board.answered(status, time.perf_counter() - visit.began)
        self._trace(visit, status)

    def keep(self, visit: Visit, reply: Reply) -> None:
        """Leave an answered question to be captured, where rows are kept."""
        if self.readiness.capture is not None and reply.kept is not None:
            self.readiness.capture.offer(visit.request_id, *reply.kept)

    def hold(self, visit: Visit, size: int) -> None:
        """Take note of so many more bytes of a body in memory; raises Overloaded where all have too many together.

        Small bodies are always taken, so that nobody who sends large ones slowly keeps the others out.
        """
        visit.held += size
        self._held += size
        if self._held > self.settings.queue_bytes and visit.held > SMALL_BYTES:
            self.board.shed("overloaded")
            raise Overloaded(f"{self._held} bytes are here already", HELD_SECONDS)

    def let_go(self, visit: Visit) -> None:
        """Take note that a visit is over."""
        self._held -= visit.held
        visit.held = 0

    def refusal(self, problem: Problem, request_id: bytes) -> Headers:
        """Log a model's failure and return the headers that tell a caller or the edge what to do after a refusal."""
        if isinstance(problem, ModelFailed):
            say(f"request {request_id.decode('ascii', 'backslashreplace')}: the model failed: {_class_name(problem)}")
        if isinstance(problem, Overloaded):
            return [(RETRY_AFTER, b"%d" % max(1, math.ceil(problem.wait)))]
        if isinstance(problem, NotReady):
            return [(RETRY_AFTER, b"1"), *([NOT_READY] if self.readiness.scorer is None else [])]
        return []

    def figures(self) -> bytes:
        """Return the figures of all serving processes as Prometheus reads them; there are some before there is a model."""
        scorer = self.readiness.scorer
        name = self.settings.model or (scorer.name if scorer is not None else "")
        return self.board.text({"model": name, "region": self.settings.region, "revision": self.readiness.revision})

    def document(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Return a document that is made once, when the model is there to be described."""
        if name not in self._documents:
            self._documents[name] = make()
        return self._documents[name]

    def _begin(self, scorer: Scorer) -> Batcher:
        limits = Limits(self.settings.slots, self.settings.queue_bytes, self.settings.batch_rows)
        self._batcher = Batcher(scorer, self._worker, limits, self.board)
        return self._batcher

    def _trace(self, visit: Visit, status: int) -> None:
        trace = self._traces.sampled(visit.parent)
        if trace is None:
            return
        entry, now = visit.entry, time.perf_counter()
        told: dict[str, object] = {
            "at": round(time.time() - (now - visit.began), 6),
            "request_id": visit.request_id.decode("latin-1"),
            "traffic": visit.traffic.decode("latin-1")[:40],
            "revision": self.readiness.revision,
            "status": status,
            "total_ms": round((now - visit.began) * 1000, 3),
            "bytes": visit.received,
        }
        if entry is not None:
            told |= {
                "wait_ms": round((entry.began - entry.arrived) * 1000, 3),
                "predict_ms": round((entry.ended - entry.began) * 1000, 3),
                "rows": entry.rows,
                "batch_requests": entry.batch,
            }
        write(trace, told)


def _class_name(problem: ModelFailed) -> str:
    """Return what may be logged of a model's failure: its message may repeat a caller's data."""
    cause = problem.__cause__
    return type(cause).__name__ if cause is not None else str(problem)
