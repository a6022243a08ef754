"""What examples/classify_failures.py answers, as typed values."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class Answer(BaseModel):
    """Part of the script's answer: frozen, and nothing in it goes unread."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ByRevision(Answer):
    """How many requests a revision answered with a status; `none` is no revision."""

    revision: str
    status: int
    requests: int


class Routed(Answer):
    """How many lines of one of Envoy's logs name these revisions, empty for none: the one chosen and the one that served."""

    log: str
    chosen: str
    served: str
    requests: int


class Counted(Answer):
    """Envoy's attempts on a release's canary that ended in since <= second < complete_to, the seconds that the ledger counted."""

    release: str
    revision: str
    since: int
    complete_to: int
    attempts: int
    bad: int


class Failed(Answer):
    """A request that failed through Convoy's doing, as both sides logged it."""

    client: dict[str, JsonValue]
    envoy: dict[str, JsonValue] | None


class Classification(Answer):
    """Every request of the client's log: who answers for it, and whether Envoy saw the same; waits in milliseconds."""

    sent: int
    answered: int
    failed: int
    by_cause: dict[str, int]
    failed_through_convoy: int
    p50_ms: float | None
    p99_ms: float | None
    client_by_revision: tuple[ByRevision, ...]
    envoy_by_revision: tuple[ByRevision, ...]
    envoy_requests: int
    envoy_attempts: int
    attempts_by_revision: dict[str, int]
    routed: tuple[Routed, ...]
    counted: tuple[Counted, ...]
    unmatched: int
    unmatched_ids: tuple[str, ...]
    duplicates: int
    disagreements: int
    disagreeing_ids: tuple[str, ...]
    raw: tuple[Failed, ...]
