"""Has an edge's choice of regions made again each second, from its own attempts alone, and has the routes follow it.

What was found out is remembered in the edge's folder, so that an agent that starts anew does not send requests back to
where they were slow. It is no truth that anything else rests on: lost or unreadable, it is found out again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from traffic.attempts.timings import Span, Timings
from traffic.choice import FEWEST_ANSWERS, NOTHING_KNOWN, Measured, Policy, Standing, Standings, choose
from traffic.gateway import write_atomically
from traffic.keeper import Keeper
from traffic.placement import WHOLE

CAPS: Final[TypeAdapter[dict[str, dict[str, int]]]] = TypeAdapter(dict[str, dict[str, int]])
log = logging.getLogger(__name__)


class Placer:
    """Chooses for every model whose table declares a choice; `own` is the region that the edge stands in.

    `now` is Unix time in seconds, as in the logs; `steady` a clock that is never set, by which one waits.
    """

    def __init__(
        self,
        keeper: Keeper,
        timings: Timings,
        file: Path,
        own: str | None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper, self._timings, self._file, self._own = keeper, timings, file, own
        self._now, self._steady = now, steady
        self._standings = _remembered(file, steady())

    def turn(self) -> None:
        """Look at what was measured, decide for every model, and tell the keeper."""
        policies = {table.model: (policy, table.stable) for table in self._keeper.tables() if (policy := Policy.of(table, self._own))}
        after = {model: self._chosen(model, policy, stable) for model, (policy, stable) in policies.items()}
        if _caps(after) != _caps(self._standings):
            self._tell(after)
            write_atomically(self._file, CAPS.dump_json(_caps(after)))
        self._standings = after
        self._keeper.place({model: standings.placement(policies[model][0]) for model, standings in after.items()})

    def _chosen(self, model: str, policy: Policy, stable: str) -> Standings:
        timed = self._timings.lately(model, stable, self._now(), Span(policy.choice.seconds, FEWEST_ANSWERS))
        measured = [Measured(one.region, one.answers, one.mean_ms, one.error_ms, one.under_way) for one in timed]
        return choose(self._standings.get(model, NOTHING_KNOWN), measured, policy, self._steady())

    def _tell(self, after: dict[str, Standings]) -> None:
        for model, standings in after.items():
            before = self._standings.get(model, NOTHING_KNOWN).of
            for region, standing in standings.of.items():
                if standing.cap != before.get(region, Standing()).cap:
                    log.info("model %s, region %s: gets at most %g %% of the requests now", model, region, 100 * standing.cap / WHOLE)


def _caps(standings: dict[str, Standings]) -> dict[str, dict[str, int]]:
    """Return every region that may not get everything, by model."""
    found = {model: {region: one.cap for region, one in each.of.items() if one.cap < WHOLE} for model, each in standings.items()}
    return {model: caps for model, caps in found.items() if caps}


def _remembered(file: Path, now: float) -> dict[str, Standings]:
    """Return what an earlier agent had found out; its regions rise as after a fall."""
    try:
        caps = CAPS.validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
    return {
        model: Standings({region: Standing(cap=min(max(cap, 0), WHOLE), moved_at=now, falls=1) for region, cap in found.items()})
        for model, found in caps.items()
    }
