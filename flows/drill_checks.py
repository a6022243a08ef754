"""Whether a region may be lost on purpose now: never the last healthy one, never during a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clouds.drills import breakable
from clouds.serving import Deployment, Endpoint, State
from fleet.canonical import short
from fleet.errors import Busy, InputError, Refused, TransientError, UnknownName
from fleet.versions import Revision
from flows.desires import unfinished
from flows.drill_journal import open_drill
from flows.house import House
from flows.rules import rules_of
from flows.work import stable_of
from monitoring.drills import Objectives

RATES = (1.0, 1000.0)
WINDOWS = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """Which region is lost, under how many requests a second for each of its models.

    `window_seconds` is the sliding window that says when callers are served again; a shorter one than 5 s measures
    the same instant with fewer requests behind it. Raises InputError for values that measure nothing.
    """

    region: str
    rate: float = 50.0
    window_seconds: float = 5.0

    def __post_init__(self) -> None:
        for what, value, (least, most) in (("rate", self.rate, RATES), ("window_seconds", self.window_seconds, WINDOWS)):
            if not least <= value <= most:
                raise InputError(what, f"is {value:g}", f"Give a number from {least:g} to {most:g}.")


@dataclass(frozen=True, slots=True)
class Victim:
    """A model's stable revision in the region that is to be lost, and the regions that answer meanwhile."""

    revision: Revision
    region: str
    endpoint: Endpoint | None
    survivors: tuple[str, ...]
    objectives: Objectives

    @property
    def deployment(self) -> Deployment:
        """What is broken and mended."""
        return Deployment(self.revision.model, self.region, self.revision.digest)


@dataclass(frozen=True, slots=True)
class Look:
    """A model's stable revision everywhere: its state by region, and by edge the regions that are healthy and routed there.

    `marks` has the regions that each mark of its residency allows.
    """

    model: str
    states: Mapping[str, State]
    routed: Mapping[str, frozenset[str]]
    marks: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DrillCheck:
    """What a drill of a region would break, and why it must not be, in words."""

    region: str
    victims: tuple[Victim, ...]
    refusals: tuple[str, ...]

    def demand(self) -> None:
        """Raise Refused unless the region may be lost."""
        if self.refusals:
            raise Refused(f"drill of '{self.region}'", "; ".join(self.refusals), "Nothing was done. See `convoy status`.")


def survivors_of(look: Look, region: str) -> tuple[str, ...]:
    """Return the other regions that are ready and routed at every edge."""
    others = [other for other, state in look.states.items() if other != region and state is State.READY]
    return tuple(other for other in others if look.routed and all(other in routed for routed in look.routed.values()))


def refusals_of(look: Look, region: str) -> tuple[str, ...]:
    """Return why a model's region must not be lost now; nothing when it may."""
    found = []
    if look.states[region] is not State.READY:
        found.append(f"{look.model} is {look.states[region].value} there already: that is an incident, not a drill")
    found += [f"{look.model} gets no requests there from edge {edge}" for edge, regions in look.routed.items() if region not in regions]
    if not survivors_of(look, region):
        others = ", ".join(f"{other} {state.value}" for other, state in look.states.items() if other != region) or "there is none"
        found.append(f"it is the last healthy region of {look.model} (ready and routed at every edge; others: {others})")
    for mark, regions in look.marks.items():
        if region in regions and not regions.intersection(survivors_of(look, region)):
            found.append(f"it is the last healthy region of {look.model} for residency '{mark}': such requests would be answered nowhere")
    return tuple(found)


def check(house: House, region: str) -> DrillCheck:
    """Look at every model that a region serves.

    Raises UnknownName for a region that is not declared, NotSupported for one that cannot be broken.
    """
    known = house.fleet.regions
    if region not in known:
        raise UnknownName(f"region '{region}'", "is not in fleet.yaml", f"Known: {', '.join(known)}.")
    breakable(house.target(region), region)
    victims: list[Victim] = []
    refusals: list[str] = []
    for model, declared in house.fleet.models.items():
        stable = stable_of(house, model)
        if region not in declared.regions or stable is None:
            continue
        look = look_at(house, stable)
        refusals += refusals_of(look, region)
        endpoint = house.target(region).status_of(region, model, stable.digest).endpoint
        error_rate = min(slo.error_rate for slo in declared.slo.values())
        objectives = Objectives(declared.rto_seconds, declared.rpo_releases, error_rate)
        victims.append(Victim(stable, region, endpoint, survivors_of(look, region), objectives))
    return DrillCheck(region, tuple(victims), tuple(refusals) if victims else ("it serves no model yet",))


def look_at(house: House, stable: Revision) -> Look:
    """Return where a stable revision is ready, and where each edge's Envoy finds it healthy and sends it everything."""
    regions = house.model(stable.model).regions
    states = {region: house.target(region).status_of(region, stable.model, stable.digest).state for region in regions}
    marks = {residency.mark: frozenset(residency.regions) for residency in rules_of(house.fleet, stable.model).residency}
    return Look(stable.model, states, {edge.name: _routed(house, edge.name, stable) for edge in house.edges}, marks)


def demand_quiet(house: House, check_: DrillCheck) -> None:
    """Raise Busy while a release of one of the region's models, or an earlier drill of it, has not ended."""
    found = []
    for victim in check_.victims:
        model = victim.revision.model
        found += [f"{desire.release} (version {desire.version}) has not ended" for desire in unfinished(house.ledger, model)]
        lease = house.leases.current(model)
        found += [f"{model} is held by {lease.holder}"] if lease is not None else []
    if open_drill(house.ledger, check_.region) is not None:
        found.append("its last drill has not ended")
    if found:
        raise Busy(f"drill of '{check_.region}'", "; ".join(found), "Nothing was done. Try again when that has ended.")


def demand_same(house: House, planned: DrillCheck) -> None:
    """Raise Busy unless a region still serves what was planned before its models were held, Refused when it must not be lost."""
    now = check(house, planned.region)
    now.demand()
    if now.victims != planned.victims:
        served = ", ".join(told(victim) for victim in now.victims) or "no model"
        raise Busy(f"drill of '{planned.region}'", f"it was planned for something else: the region serves {served}", "Try again.")


def releases_behind(house: House, model: str, region: str) -> int:
    """Return how many promotions lie between what a region's own store names and has, and the newest one."""
    store = house.region_store(region)
    ref = store.resolve(model)
    held = ref.digest if ref is not None and store.has_blob(ref.digest) else None
    promoted = [str(event.payload["digest"]) for event in house.ledger.stream(f"model/{model}") if event.type == "stable.set"]
    return next((lag for lag, digest in enumerate(reversed(promoted)) if digest == held), len(promoted))


def told(victim: Victim) -> str:
    """Return a victim in words."""
    model, version = victim.revision.model, victim.revision.version
    return f"{model} version {version} ({short(victim.revision.digest)}), its users served by {', '.join(victim.survivors) or 'nobody'}"


def _routed(house: House, name: str, stable: Revision) -> frozenset[str]:
    edge = next(edge for edge in house.edges if edge.name == name)
    try:
        seen = edge.state().of(stable.model)
    except TransientError:
        # An edge that cannot be asked routes nowhere, as far as we know
        return frozenset()
    if seen is None or not seen.confirmed or seen.percent_of(stable.digest) != 100:
        return frozenset()
    return frozenset(backend.region for backend in seen.backends if backend.revision == stable.digest and backend.healthy is True)
