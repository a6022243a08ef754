"""What became of requests: whose doing it was that one failed, and when a revision answered last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from traffic.load import Sent


class Doing(StrEnum):
    """Whose doing a failed request was."""

    SERVER = "the server's"
    """It answered, and with something else than 200; or it was lost after its answer had begun, which nobody can take back."""
    CONVOY = "Convoy's"
    """All else: a server that was well could have answered, and the edge refused, broke off or said nothing in time."""


def within(sent: Sequence[Sent], begin: float, end: float) -> list[Sent]:
    """Return the requests that were due in a period (Unix seconds)."""
    return [each for each in sent if begin <= each.due < end]


def whose(sent: Sent) -> Doing | None:
    """Say whose doing it was that a request failed; None where it did not."""
    if sent.status == 200:
        return None
    broke_off = sent.error.startswith("ClientPayloadError")
    return Doing.SERVER if sent.revision or broke_off else Doing.CONVOY


def answers(sent: Sequence[Sent], revision: str, begin: float, end: float) -> list[float]:
    """Return when a revision answered within a period (Unix seconds)."""
    answered = (each.due + each.milliseconds / 1000 for each in sent if each.revision == revision)
    return sorted(at for at in answered if begin <= at < end)


def last_answer(sent: Sequence[Sent], revision: str, begin: float, end: float) -> float:
    """Return how many seconds after a moment a revision's last answer came, of those that came before another moment."""
    return max(answers(sent, revision, begin, end), default=begin) - begin


def kinds(sent: Sequence[Sent]) -> str:
    """Return how the failed requests failed: each kind's count, whose doing it was, and what the caller saw."""
    found = Counter((whose(each), each.error or f"status {each.status}") for each in sent if whose(each) is not None)
    return "; ".join(f"{times} by {doing} doing: {what}" for (doing, what), times in found.most_common())
