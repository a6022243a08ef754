"""Where an edge sends a model's requests: decided each second from what the edge itself measured, by a declared policy.

A region is *worse* when it costs more than the cheapest by the policy's hysteresis, and by more than chance explains.
One that is worse for some seconds on end falls: its cap goes down to the floor, or, where its load is what it costs,
to where the loads would meet. Then it is held for a while, which doubles each time that it falls again soon after; after
that it rises in small steps, as long as it costs hardly more than the cheapest. So a region is left quickly and taken back
slowly. What was worse while the one that is better now was held does not fall for it, but waits for it to rise: two that
are good only while the other one has the requests come to share them.

What is not measured does not move. Everything here is a pure function; times are seconds on a clock that is never set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from traffic.placement import WHOLE, Placement
from traffic.rules import Choice
from traffic.table import RoutingTable

FEWEST_ANSWERS: Final = 10
"""With fewer nothing is known of a region."""
SURE: Final = 3.0
"""So many standard errors of the difference of two means do not count: it is looked at all day long."""
RISE: Final = WHOLE // 10
LONGEST_HOLD: Final = 600.0
CALM: Final = 600.0
"""After so long without a fall, a region's earlier ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an edge saw of stable in a region lately.

    So many answers, the mean of their milliseconds with its standard error, and how many attempts were under way on average.
    """

    region: str
    answers: int
    mean_ms: float
    error_ms: float = 0.0
    under_way: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What is weighed and how: the declared choice, the regions and what else of the table bears on it.

    `own` is the region that the edge stands in, `latency_ms` the SLO's limit, `requests` how many a region takes at a time.
    """

    choice: Choice
    regions: tuple[str, ...]
    own: str | None
    latency_ms: int
    requests: int | None = None

    @classmethod
    def of(cls, table: RoutingTable, own: str | None) -> Policy | None:
        """Return the policy that a table declares for an edge; None where it declares none."""
        choice, limits = table.rules.choice, table.rules.limits
        if choice is None:
            return None
        return cls(choice, table.regions_of(table.stable), own, table.latency_ms, limits.requests if limits else None)

    @property
    def floor(self) -> int:
        """The part of the requests that each region keeps."""
        return self.choice.floor_percent * WHOLE // 100

    @property
    def scale(self) -> float:
        """What the weights sum to; without a limit nothing is known of load."""
        return self.choice.latency + (self.choice.load if self.requests else 0.0) + self.choice.price


@dataclass(frozen=True, slots=True)
class Standing:
    """One region: its cap and when that last changed, since when it is worse (None: it is not), and how often it fell lately.

    `rising` says that its cap was raised last: one that becomes worse right then has got too much, and takes two steps back
    first.
    `taken_from` is when others may lose their requests to it again after a fall, `held_until` when it may rise again: it
    has to show for a whole hold that it is no worse any more.
    """

    cap: int = WHOLE
    moved_at: float = 0.0
    worse_since: float | None = None
    rising: bool = False
    falls: int = 0
    taken_from: float = 0.0
    held_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Standings:
    """Every region's standing: what the next decision goes on from."""

    of: Mapping[str, Standing]

    def placement(self, policy: Policy) -> Placement:
        """Return what the edge's routes need of it."""
        return Placement(policy.floor, {region: standing.cap for region, standing in self.of.items() if standing.cap < WHOLE})


NOTHING_KNOWN: Final = Standings({})


@dataclass(frozen=True, slots=True)
class Cost:
    """What a region costs (less is better), how wrong that may be, and the part of it that is load."""

    value: float
    error: float
    load: float


def choose(before: Standings, measured: Iterable[Measured], policy: Policy, now: float) -> Standings:
    """Return the standings after a look at what was measured; a region that nothing is known of stays as it is."""
    standings = {region: before.of.get(region, Standing()) for region in policy.regions}
    costs = {one.region: cost_of(one, policy) for one in measured if one.region in standings and one.answers >= FEWEST_ANSWERS}
    had = Standings(standings).placement(policy).parts(policy.regions, policy.own)
    after = {}
    for region, standing in standings.items():
        look = _Look(policy, had[region], costs, standings, now)
        after[region] = _judged(standing, costs[region], look) if region in costs else replace(standing, worse_since=None)
    fallen = {region for region in after if after[region].falls > standings[region].falls}
    if fallen:
        free = [region for region in after if region in costs and region not in fallen and standings[region].taken_from <= now]
        best = min(free, key=lambda region: costs[region].value, default=None)
        takes = {region for region in free if region == best or after[region].worse_since is None}
        after |= {region: _beside_a_fall(after[region], had[region], region in takes, now) for region in after if region not in fallen}
    return Standings(after)


def cost_of(measured: Measured, policy: Policy) -> Cost:
    """Weigh a region: its latency in parts of the SLO's limit, its load in parts of its limit, its price in parts of the dearest."""
    choice, scale = policy.choice, policy.scale
    latency = choice.latency * measured.mean_ms / policy.latency_ms
    load = choice.load * measured.under_way / policy.requests if policy.requests else 0.0
    price = choice.price * choice.price_of(measured.region)
    return Cost((latency + load + price) / scale, choice.latency * measured.error_ms / policy.latency_ms / scale, load / scale)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one region is judged by: the part that it had, and what is known of all."""

    policy: Policy
    had: int
    costs: Mapping[str, Cost]
    standings: Mapping[str, Standing]
    now: float

    def excess(self, cost: Cost, since: float) -> float:
        """Return by how much a cost is more than the least of those who could take requests all the time since then.

        What is not worse by the policy's hysteresis and by what chance explains is 0 or less.
        """
        takers = [other for region, other in self.costs.items() if self.standings[region].taken_from <= since]
        least = min(takers, key=lambda other: other.value, default=cost)
        doubt = SURE * math.hypot(cost.error, least.error)
        found = cost.value - least.value
        return found if found > self.policy.choice.hysteresis + doubt else 0.0


def _judged(standing: Standing, cost: Cost, look: _Look) -> Standing:
    """Let one region fall, rise or stay as it is."""
    choice, now = look.policy.choice, look.now
    if look.excess(cost, since=math.inf):
        since = now if standing.worse_since is None else standing.worse_since
        held = now + _hold(standing, choice) if standing.falls and standing.cap < WHOLE else 0.0
        worse = replace(standing, worse_since=since, held_until=max(standing.held_until, held))
        excess = look.excess(cost, since)
        # What was seen before its cap last changed says nothing about how it does since
        return _fallen(worse, cost, excess, look) if excess and now - max(since, standing.moved_at) >= choice.seconds else worse
    calm = replace(standing, worse_since=None)
    if now - standing.moved_at < choice.seconds or now < standing.held_until:
        return calm
    if standing.cap < WHOLE:
        least = min(other.value for other in look.costs.values())
        rises = cost.value <= least + choice.hysteresis / 2
        return replace(calm, cap=min(WHOLE, standing.cap + RISE), moved_at=now, rising=True) if rises else calm
    return replace(calm, falls=0, rising=False) if now - standing.moved_at > CALM else calm


def _fallen(standing: Standing, cost: Cost, excess: float, look: _Look) -> Standing:
    """Lower a region's cap to where its load would no longer make it worse, at least to the floor; at the floor it stays."""
    policy = look.policy
    # Load follows the requests: what one region loses another gets, so each part that moves counts twice
    stays = 1 - (excess - policy.choice.hysteresis / 2) / (2 * cost.load) if cost.load else 0.0
    too_much = (
        standing.rising and standing.worse_since is not None and standing.worse_since - standing.moved_at <= 2 * policy.choice.seconds
    )
    cap = max(policy.floor, look.had - 2 * RISE if too_much else int(look.had * stays))
    if look.had <= cap:
        return standing
    fallen = replace(standing, cap=cap, moved_at=look.now, rising=False, falls=standing.falls + 1)
    held = look.now + _hold(fallen, policy.choice)
    return replace(fallen, taken_from=standing.taken_from if too_much else held, held_until=held)


def _hold(standing: Standing, choice: Choice) -> float:
    """Return for how long a region that fell so often is held."""
    doubled: float = choice.return_seconds * 2.0 ** min(standing.falls - 1, 20)
    return min(max(LONGEST_HOLD, choice.return_seconds), doubled)


def _beside_a_fall(standing: Standing, had: int, takes: bool, now: float) -> Standing:
    """Have the good regions take what another one loses, and those that are worse, or that nobody knows, keep what they have."""
    if takes:
        return replace(standing, cap=WHOLE)
    return standing if standing.cap <= had else replace(standing, cap=had, moved_at=now)
