"""The failover drill: a region's servers are killed under load, what users notice is measured, and the region is put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal

from clouds.drills import breakable
from clouds.serving import State
from fleet.errors import Busy, ConvoyError, Refused
from flows.desires import unfinished
from flows.drill_checks import DrillCheck, DrillPlan, check, demand_quiet, demand_same, told
from flows.drill_journal import BROKEN, ENDED, MEASURED, MENDED, DrillJournal, last_drilled
from flows.drill_load import DrillLoad, loads
from flows.drill_mending import Return, claims, mend
from flows.drill_results import Seen, results_of
from flows.house import House
from flows.work import Claim
from monitoring.drills import SERVED, DrillOutcome, ModelResult, harm_of, judge_drill, served_again
from registry.ledger import JSON

Tell = Callable[[str], None]
STEADY_SECONDS = 30.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DrillReport:
    """A drill that has ended: how, why, and what was measured for each model."""

    drill: str
    region: str
    outcome: DrillOutcome
    reasons: tuple[str, ...]
    began: datetime
    rate: float
    window_seconds: float
    models: tuple[ModelResult, ...]


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill under way: its plan, what it breaks, the claims that keep releases away, and its callers."""

    house: House
    plan: DrillPlan
    what: DrillCheck
    claims: Mapping[str, Claim]
    callers: tuple[DrillLoad, ...]
    tell: Tell
    now: Callable[[], float]

    def guard(self) -> None:
        """Raise Busy unless every model is still ours, and nobody waits for one: a release or rollback comes before a drill."""
        for model, claimed in self.claims.items():
            claimed.check(self.house)
            for desire in unfinished(self.house.ledger, model):
                raise Busy(f"model '{model}'", f"{desire.release} (version {desire.version}) waits for it", "Nothing: the drill gives way.")


def drill(house: House, plan: DrillPlan, actor: str, tell: Tell) -> DrillReport:
    """Lose a region on purpose, measure, put it back, prove it, and judge; a drill that is killed is ended by `reconcile`.

    Raises UnknownName, NotSupported, Refused or Busy before anything was broken. Whatever happens afterwards, the
    region is put back first.
    """
    house.ledger.verify()
    what = check(house, plan.region)
    what.demand()
    demand_quiet(house, what)
    with claims(house, [victim.revision.model for victim in what.victims]) as held:
        demand_same(house, what)
        with loads(house, plan, what.victims) as callers:
            under_way = Drill(house, plan, what, held, callers, tell, monotonic_unix())
            wait_until_steady(under_way)
            demand_same(house, what)
            under_way.guard()
            return lose(under_way, DrillJournal.begin(house.ledger, plan.region, actor, _intended(under_way)))


def lose(under_way: Drill, journal: DrillJournal) -> DrillReport:
    """Break the region, watch, put it back and judge; an error or an interrupt puts it back before it is raised."""
    began = under_way.now()
    seen = Seen()
    try:
        break_(under_way)
        journal.record(BROKEN, {"at": _moment(began).isoformat(), "seconds": _decimal(under_way.now() - began)})
        watch(under_way, began, seen)
        journal.record(MEASURED, {"models": {name: _plain(asdict(found)) for name, found in seen.models.items()}, "stopped": seen.stopped})
    except ConvoyError as problem:
        seen.stopped.append(str(problem))
    except BaseException as problem:
        under_way.tell(f"{type(problem).__name__}: the region is put back first")
        _end_early(under_way, journal, f"it was interrupted ({type(problem).__name__})")
        raise
    for reason in seen.stopped:
        under_way.tell(f"stopped: {reason}")
    returned = put_back(under_way, journal)
    models = results_of(under_way.house, under_way.what, under_way.callers, began, seen, returned)
    promised = {victim.revision.model: victim.objectives for victim in under_way.what.victims}
    verdict = judge_drill([(found, promised[found.model]) for found in models], seen.stopped)
    document: list[JSON] = [_plain(asdict(found)) for found in models]
    journal.record(ENDED, {"outcome": verdict.outcome.value, "reasons": list(verdict.reasons), "models": document})
    plan = under_way.plan
    return DrillReport(journal.drill, plan.region, verdict.outcome, verdict.reasons, _moment(began), plan.rate, plan.window_seconds, models)


def wait_until_steady(under_way: Drill) -> None:
    """Wait until callers are answered, by the region too; raises Refused when they are not: that is an incident, not a drill."""
    window, region = under_way.plan.window_seconds, under_way.plan.region
    under_way.tell(f"{under_way.plan.rate:g} requests a second for each of {len(under_way.callers)} models, until they are steady")
    deadline = under_way.now() + window + STEADY_SECONDS
    while unsteady := [reason for load in under_way.callers if (reason := _unsteady(load, region, window))]:
        under_way.guard()
        broken = [reason for load in under_way.callers if (reason := load.trouble())]
        if broken or under_way.now() > deadline:
            raise Refused(f"drill of '{region}'", "; ".join(broken or unsteady), "Nothing was broken. This is an incident, not a drill.")
        time.sleep(POLL_SECONDS)


def break_(under_way: Drill) -> None:
    """Kill every server of the region, one right after the other."""
    drills = breakable(under_way.house.target(under_way.plan.region), under_way.plan.region)
    for victim in under_way.what.victims:
        under_way.tell(f"killing {told(victim)}")
        drills.break_(victim.deployment)


def watch(under_way: Drill, began: float, seen: Seen) -> None:
    """Look until callers are served again and Convoy says that the region is away, for as long as the RTO allows.

    Notes in `seen` why the drill must stop: harm beyond the limit, a region that comes back by itself, a load that ended.
    """
    longest = max(victim.objectives.rto_seconds for victim in under_way.what.victims)
    deadline = began + longest + 2 * under_way.plan.window_seconds
    while not seen.stopped and under_way.now() < deadline:
        under_way.guard()
        for victim, load in zip(under_way.what.victims, under_way.callers, strict=True):
            model = victim.revision.model
            status = under_way.house.target(victim.region).status_of(victim.region, model, victim.revision.digest)
            client = load.client()
            found = seen.of(model)
            if status.state is not State.READY and found.said is None:
                found.said = under_way.now() - began
                under_way.tell(f"{model}: Convoy says that it is {status.state.value} there, after {found.said:.2f} s")
            elif status.state is State.READY and found.said is not None:
                seen.stopped.append(f"{model} came back by itself while it was measured")
            again = served_again(client, began, under_way.plan.window_seconds)
            if again is not None and found.served_again is None:
                under_way.tell(f"{model}: callers are served again after {again:.2f} s")
            found.served_again = again
            seen.stopped += [f"{model}: {harm}" for harm in (harm_of(client, began), load.trouble()) if harm]
        if all(found.said is not None and found.served_again is not None for found in seen.models.values()):
            return
        time.sleep(POLL_SECONDS)


def put_back(under_way: Drill, journal: DrillJournal) -> dict[str, Return]:
    """Mend the region, under the load that goes on, and prove that it answers again."""
    under_way.tell(f"putting {under_way.plan.region} back")
    returned = mend(under_way.house, under_way.what, under_way.claims, under_way.now, under_way.tell)
    journal.record(MENDED, {"models": {name: _plain(asdict(found)) for name, found in returned.items()}})
    return returned


def longest_ago(house: House, tell: Tell) -> str:
    """Return the region drilled longest ago among those that may be lost now; raises Refused when none may."""
    never = datetime.min.replace(tzinfo=UTC)
    reasons = []
    for region in sorted(house.fleet.regions, key=lambda name: last_drilled(house.ledger, name) or never):
        try:
            check(house, region).demand()
        except ConvoyError as problem:
            tell(f"{region} is passed over: {problem.reason}")
            reasons.append(f"{region}: {problem.reason}")
            continue
        return region
    raise Refused("drill", "; ".join(reasons), "Nothing was done. See `convoy status`.")


def monotonic_unix() -> Callable[[], float]:
    """Return a clock that says Unix seconds and is never set: the load's log goes by such a one too."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


def _unsteady(load: DrillLoad, region: str, window: float) -> str:
    client = load.client()
    end = client.complete_to
    share = client.served_share(end - window, end)
    if not client.due or client.due[0] > end - window or share is None:
        return f"{load.model}: too few requests have ended"
    if share < SERVED:
        return f"{load.model}: only {share:.1%} of the requests of {window:g} s were answered (limit {SERVED:.1%})"
    if not any(request.region == region and request.due >= end - window for request in client.known):
        return f"{load.model}: no request was answered by {region}"
    return ""


def _end_early(under_way: Drill, journal: DrillJournal, reason: str) -> None:
    put_back(under_way, journal)
    journal.record(ENDED, {"outcome": DrillOutcome.ABORTED.value, "reasons": [reason], "models": []})


def _intended(under_way: Drill) -> dict[str, JSON]:
    return {
        "models": {victim.revision.model: victim.revision.digest for victim in under_way.what.victims},
        "survivors": {victim.revision.model: list(victim.survivors) for victim in under_way.what.victims},
        "rate": _decimal(under_way.plan.rate),
        "window_seconds": _decimal(under_way.plan.window_seconds),
    }


def _plain(document: Mapping[str, object]) -> dict[str, JSON]:
    """Return figures as the ledger holds them: fractions as decimals in text."""
    return {key: _decimal(value) if isinstance(value, float) else value for key, value in document.items()}  # type: ignore[misc]


def _decimal(value: float) -> str:
    return str(Decimal(repr(value)).quantize(Decimal("0.001")))


def _moment(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)
