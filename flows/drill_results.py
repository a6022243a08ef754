"""What a drill came to for each model: its callers' log, the edges' counts and the survivors' stores, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet.errors import TransientError
from flows.drill_checks import DrillCheck, Victim, releases_behind
from flows.drill_load import DrillLoad
from flows.drill_mending import Return
from flows.house import House
from monitoring.drills import ModelResult
from traffic.edges import observe

COUNTING_SECONDS = 15.0
POLL_SECONDS = 0.25
MOST_TRIES = 3
"""How often an edge tries a request at most (traffic/envoy.py: two retries)."""


@dataclass(slots=True)
class SeenModel:
    """Seconds from the kill until callers were served again, and until Convoy no longer called the region ready."""

    served_again: float | None = None
    said: float | None = None


@dataclass(slots=True)
class Seen:
    """What was seen while the region was away, and why the watching was stopped early, if it was."""

    models: dict[str, SeenModel] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def of(self, model: str) -> SeenModel:
        """Return what was seen of a model."""
        return self.models.setdefault(model, SeenModel())


def results_of(
    house: House, what: DrillCheck, callers: Sequence[DrillLoad], began: float, seen: Seen, returned: Mapping[str, Return]
) -> tuple[ModelResult, ...]:
    """Return each model's result; ends the loads first, so that every request counts."""
    for load in callers:
        load.stop()
    counted = _counted_to(house, what, time.time())
    return tuple(
        _result(house, victim, load, began, (seen.of(victim.revision.model), returned[victim.revision.model]), counted)
        for victim, load in zip(what.victims, callers, strict=True)
    )


def _result(house: House, victim: Victim, load: DrillLoad, began: float, times: tuple[SeenModel, Return], counted: bool) -> ModelResult:
    model = victim.revision.model
    ended = [request for request in load.client().all if request.ended >= began]
    failed = sum(not request.served for request in ended)
    taken = [(request.ended - request.due) * 1000 for request in ended]
    bad = _bad_attempts(house, victim, int(began)) if counted else None
    seen, returned = times
    returning = [request for request in ended if request.ended >= returned.began]
    return ModelResult(
        model=model,
        digest=victim.revision.digest,
        sent=len(ended),
        failed=failed,
        slow=sum(request.served and milliseconds > load.latency_ms for request, milliseconds in zip(ended, taken, strict=True)),
        worst_ms=round(max(taken, default=0.0), 1),
        bad_attempts=bad,
        rescued=None if bad is None else max(0, bad - MOST_TRIES * failed),
        served_again=seen.served_again,
        said=seen.said,
        back=returned.back,
        routed=returned.routed,
        sent_on_return=len(returning),
        failed_on_return=sum(not request.served for request in returning),
        releases_behind=max((releases_behind(house, model, survivor) for survivor in victim.survivors), default=0),
    )


def _bad_attempts(house: House, victim: Victim, since: int) -> int | None:
    """Return the attempts at the model that failed since a second, whoever's request it was; None without an answer."""
    try:
        counts = observe(house.edges, victim.revision.model, since).counts
    except TransientError:
        return None
    return sum(count.bad for count in counts if count.traffic != "shadow")


def _counted_to(house: House, what: DrillCheck, moment: float) -> bool:
    """Wait until every edge has counted what happened before a moment; False when one does not."""
    deadline = time.monotonic() + COUNTING_SECONDS
    model = what.victims[0].revision.model
    while time.monotonic() < deadline:
        try:
            if observe(house.edges, model, int(moment)).complete_to >= moment:
                return True
        except TransientError:
            return False
        time.sleep(POLL_SECONDS)
    return False


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.2f} s"


def _attempts(found: ModelResult) -> str:
    return "not counted" if found.bad_attempts is None else f"{found.bad_attempts}, at least {found.rescued} of them rescued"


FIGURES: dict[str, Callable[[ModelResult], str]] = {
    "failed requests": lambda found: f"{found.failed} of {found.sent}",
    "slow answers": lambda found: f"{found.slow}, the slowest took {found.worst_ms:.0f} ms",
    "failed attempts at the edge": _attempts,
    "served again after": lambda found: _seconds(found.served_again),
    "Convoy said so after": lambda found: _seconds(found.said),
    "ready again, after mending": lambda found: _seconds(found.back),
    "routed again, after mending": lambda found: _seconds(found.routed),
    "failed while it came back": lambda found: f"{found.failed_on_return} of {found.sent_on_return}",
    "releases behind": lambda found: str(found.releases_behind),
}
"""What is shown of each model, in words."""
