"""What a failover drill measured from its callers' log, and whether the declared objectives were met: pure functions.

The load is open-loop, so that an outage shows in full: a request counts from the moment when it was due, not when a
waiting client came round to it (https://github.com/giltene/wrk2). Callers are served **again** from the first instant
after which every sliding window has at least 99.9 % of its requests answered. "Every", not "the first": a first good
window proves nothing while the failures are still to come.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SERVED = 0.999
"""The share of a window's requests that must be answered."""
HARM = 0.05
HARM_SECONDS = 3.0
"""A drill is stopped at once when more than this share of the requests of so many seconds was not answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its caller saw it: its number from 1, when it was due and had ended (Unix seconds), and its answer.

    `status` 0 means that no answer came; `region` is the one that answered, empty where nobody did.
    """

    number: int
    due: float
    ended: float
    status: int
    region: str = ""

    @property
    def served(self) -> bool:
        """Whether the caller got what it asked for."""
        return 200 <= self.status < 300


class Client:
    """The requests of one load by the moment they were due, as far as all of them have ended.

    A request that is still under way is not in the log, and must not pass for one that was never due: `complete_to`
    is when the first missing one was due at the earliest.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.all = sorted(requests, key=lambda request: request.number)
        known = next((place for place, request in enumerate(self.all) if request.number != place + 1), len(self.all))
        self.known = self.all[:known]
        self.due = [request.due for request in self.known]
        self._failed = [0, *itertools.accumulate(not request.served for request in self.known)]

    @property
    def complete_to(self) -> float:
        """Return the moment before which every request that was due has ended."""
        return self.due[-1] if self.due else 0.0

    def window(self, start: float, end: float) -> tuple[int, int]:
        """Return how many requests were due from `start` up to, not including, `end`, and how many of them failed."""
        first, last = bisect_left(self.due, start), bisect_left(self.due, end)
        return last - first, self._failed[last] - self._failed[first]

    def served_share(self, start: float, end: float) -> float | None:
        """Return the share of a window's requests that was answered, None while the window is not complete or is empty."""
        sent, failed = self.window(start, end)
        return (sent - failed) / sent if sent and end <= self.complete_to else None


def served_again(client: Client, since: float, window: float) -> float | None:
    """Return the seconds from `since` until callers are served again; None while that is not known.

    0.0 when no caller noticed anything. The precision is one interval between two requests. Known only once a whole
    window behind that instant is complete.
    """
    places = range(bisect_left(client.due, since), len(client.known))
    bad = [place for place in places if not client.known[place].served and _is_bad(client, client.due[place], window)]
    if not places or (bad and bad[-1] + 1 == len(client.known)):
        return None
    instant = client.due[bad[-1] + 1] if bad else since
    return max(0.0, instant - since) if instant + window <= client.complete_to else None


def _is_bad(client: Client, start: float, window: float) -> bool:
    sent, failed = client.window(start, start + window)
    return (sent - failed) / sent < SERVED


def harm_of(client: Client, since: float) -> str:
    """Return in words why the drill must be stopped now, empty while it need not be: see HARM."""
    end = client.complete_to
    sent, failed = client.window(end - HARM_SECONDS, end)
    if end - HARM_SECONDS < since or not sent or failed / sent <= HARM:
        return ""
    return f"{failed} of {sent} requests of {HARM_SECONDS:g} s were not answered ({failed / sent:.1%}, limit {HARM:.0%})"


class DrillOutcome(StrEnum):
    """How a drill ended."""

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Objectives:
    """What fleet.yaml promises of a model: seconds until its users are served again, releases that survivors may lag.

    `error_rate` is the share of requests that the SLO lets fail, which holds while a region comes back.
    """

    rto_seconds: float
    rpo_releases: int
    error_rate: float


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What the loss and the return of a region did to one model; all times in seconds.

    `sent`, `failed`, `slow` (answers above the SLO's limit) and `worst_ms` are the callers' view of every request that
    ended after the kill, the return of the region included. `bad_attempts` failed at the edges, live requests included;
    at least `rescued` of them cost no caller an answer (each failed request is taken to explain as many as an edge
    tries). None: an edge could not be asked.

    `served_again` and `said` (Convoy no longer calls the region ready) count from the kill. `back` (ready with the same
    digest), `routed` (answering through every edge), `sent_on_return` and `failed_on_return` count from the mending.
    None: it was not seen. `releases_behind` is the survivors' greatest lag.
    """

    model: str
    digest: str
    sent: int
    failed: int
    slow: int
    worst_ms: float
    bad_attempts: int | None
    rescued: int | None
    served_again: float | None
    said: float | None
    back: float | None
    routed: float | None
    sent_on_return: int
    failed_on_return: int
    releases_behind: int


@dataclass(frozen=True, slots=True)
class DrillVerdict:
    """How a drill ended, and why in plain words."""

    outcome: DrillOutcome
    reasons: tuple[str, ...]


def judge_drill(results: Sequence[tuple[ModelResult, Objectives]], stopped: Sequence[str] = ()) -> DrillVerdict:
    """Hold what was measured against what was promised; `stopped` says why the drill was ended early, if it was."""
    missed = [reason for result, wanted in results for reason in _missed(result, wanted)]
    if stopped:
        return DrillVerdict(DrillOutcome.ABORTED, (*stopped, *missed))
    if missed or not results:
        return DrillVerdict(DrillOutcome.FAILED, tuple(missed) or ("nothing was measured",))
    return DrillVerdict(DrillOutcome.PASSED, tuple(_kept(result, wanted) for result, wanted in results))


def _missed(result: ModelResult, wanted: Objectives) -> list[str]:
    found = []
    if result.served_again is None:
        found.append(f"callers were not seen to be served again (RTO {wanted.rto_seconds:g} s)")
    elif result.served_again > wanted.rto_seconds:
        found.append(f"callers were served again after {result.served_again:.2f} s, the RTO is {wanted.rto_seconds:g} s")
    if result.releases_behind > wanted.rpo_releases:
        found.append(f"a survivor is {result.releases_behind} releases behind, the RPO is {wanted.rpo_releases}")
    if result.said is None:
        found.append("Convoy never said that the region was not ready")
    if result.back is None:
        found.append("the region did not get ready again with the same digest")
    elif result.routed is None:
        found.append("the region is ready again, but was not seen to answer through every edge")
    if result.failed_on_return > wanted.error_rate * result.sent_on_return:
        lost = f"{result.failed_on_return} of {result.sent_on_return} requests failed"
        found.append(f"{lost} while the region came back, the SLO lets {wanted.error_rate:.1%} fail")
    return [f"{result.model}: {reason}" for reason in found]


def _kept(result: ModelResult, wanted: Objectives) -> str:
    share = result.failed / result.sent if result.sent else math.nan
    return (
        f"{result.model}: {result.failed} of {result.sent} requests failed ({share:.2%}), callers were served again after "
        f"{result.served_again or 0:.2f} s (RTO {wanted.rto_seconds:g} s), survivors are {result.releases_behind} releases behind "
        f"(RPO {wanted.rpo_releases}), and the region is back after {result.back or 0:.1f} s"
    )
