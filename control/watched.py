"""What a watch shows at one moment: components, regions, the releases under way, and the last word on everything else.

Each part is read by itself, and one that cannot be read now says so in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import Field, JsonValue

from control.edges import EdgeView, edge_views
from control.regions import RegionView, region_views
from control.stack.components import Site, components
from control.stack.view import ComponentView, Prober
from control.views import ReleaseView, View, release_view
from fleet.errors import ConvoyError
from flows.desires import desires, model_stream, phase_of
from flows.house import House
from flows.parking import answerable_until, parked
from flows.stages import stages_of
from registry.ledger import Event
from traffic.edges import Looked, look

T = TypeVar("T")


class ComponentNow(View):
    """One component; `reason` says why it is not healthy."""

    name: str
    healthy: bool
    version: str | None
    reason: str


class ReleaseNow(View):
    """A release under way: its phase since when, who holds it, at which step of how many (0 before the first), and the weight meant.

    The steps of every wave are counted; the weight is that in the regions of the `wave`, which is None where all walk at once.
    `answerable_until` is set while it waits for a person's approval, when nobody holds it.
    """

    release: ReleaseView
    since: datetime
    held_by: str | None
    step: int
    steps: int
    weight: int | None
    wave: int | None = None
    answerable_until: datetime | None = None


class Told(View):
    """The newest event of a stream as it was told: when, how it came out and why."""

    subject: str
    at: datetime
    outcome: str
    reasons: tuple[str, ...]


class ModelNow(View):
    """A model: its releases under way, oldest first, and the last one that ended."""

    under_way: tuple[ReleaseNow, ...]
    last_ended: ReleaseView | None


class Moment(View):
    """Everything at one moment; `problems` says in the place of each part why it could not be read."""

    at: datetime
    home: str
    components: tuple[ComponentNow, ...] = ()
    edges: dict[str, EdgeView] = Field(default_factory=dict)
    regions: dict[str, RegionView] = Field(default_factory=dict)
    models: dict[str, ModelNow] = Field(default_factory=dict)
    told: tuple[Told, ...] = ()
    problems: dict[str, str] = Field(default_factory=dict)


def moment_of(house: House, prober: Prober) -> Moment:
    """Return what there is to see now; raises nothing because something is away or broken."""
    problems: dict[str, str] = {}

    def part(name: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ConvoyError as problem:
            problems[name] = str(problem)
        except Exception as problem:  # noqa: BLE001 - a watch outlives whatever it watches
            problems[name] = f"{type(problem).__name__}: {problem}"
        return otherwise

    nothing: dict[str, RegionView] = {}
    no_edges: dict[str, EdgeView] = {}
    looked = part("edges", lambda: look(house.edges), Looked((), ()))
    no_models: dict[str, ModelNow] = {}
    return Moment(
        at=datetime.now(UTC),
        home=str(house.home.root),
        components=part("components", lambda: components_now(house, prober), ()),
        edges=part("edges", lambda: edge_views(house, looked), no_edges),
        regions=part("regions", lambda: region_views(house, looked.states), nothing),
        models=part("releases", lambda: models_now(house), no_models),
        told=part("last words", lambda: last_words(house), ()),
        problems=problems,
    )


def components_now(house: House, prober: Prober) -> tuple[ComponentNow, ...]:
    """Return how each component answers."""
    site = Site(house.home, house.settings, house.stack, house.credentials)
    return tuple(_component(found) for found in prober.ask(components(site)))


def models_now(house: House) -> dict[str, ModelNow]:
    """Return each declared model's releases that have not ended, and the last one that has."""
    return {name: model_now(house, name) for name in house.fleet.models}


def model_now(house: House, model: str) -> ModelNow:
    """Return one model's releases: only the newest ones are read, however many there were."""
    ledger = house.ledger
    asked = {str(event.payload["release"]): event.at for event in ledger.stream(model_stream(model)) if event.payload.get("release")}
    under_way: list[ReleaseNow] = []
    for desire in reversed(desires(ledger, model)):
        ended = phase_of(ledger, desire.release).terminal
        view = release_view(ledger, desire, asked[desire.release])
        if ended:
            return ModelNow(under_way=tuple(reversed(under_way)), last_ended=view)
        until = answerable_until(house, desire) if parked(house, desire) else None
        under_way.append(release_now(house, view).model_copy(update={"answerable_until": until}))
    return ModelNow(under_way=tuple(reversed(under_way)), last_ended=None)


def release_now(house: House, view: ReleaseView) -> ReleaseNow:
    """Return a release under way with its place in the declared canary."""
    lease = house.leases.current(view.model)
    stages = [(stage.wave, stage.step.weight) for stage in stages_of(house.model(view.model).canary)]
    weight = None if view.canary is None else int(str(view.canary["weight"]))
    wave = 1 if view.canary is None else int(str(view.canary.get("wave", 1)))
    reached = None if weight is None else (wave, weight)
    step = stages.index(reached) + 1 if reached is not None and reached in stages else 0
    since = view.phases[-1].at if view.phases else view.requested
    return ReleaseNow(
        release=view,
        since=since,
        held_by=None if lease is None else lease.holder,
        step=step,
        steps=len(stages),
        weight=weight,
        wave=wave if house.model(view.model).canary.waves else None,
    )


def last_words(house: House) -> tuple[Told, ...]:
    """Return the newest drift of each model, cost reconciliation and drill of each region, as far as there are any."""
    streams = {
        **{f"drift/{model}": "drift.measured" for model in house.fleet.models},
        "costs": "costs.reconciled",
        **{f"drill/{region}": "drill.ended" for region in house.fleet.regions},
    }
    found = {stream: house.ledger.last(stream, kind) for stream, kind in streams.items()}
    return tuple(told(stream, event) for stream, event in found.items() if event is not None)


def told(subject: str, event: Event) -> Told:
    """Return what an event says of how something came out, under whichever of the usual names it says so."""
    words = (event.payload.get(name) for name in ("outcome", "verdict", "status"))
    outcome = next((str(word) for word in words if isinstance(word, str) and word), "recorded")
    return Told(subject=subject, at=event.at, outcome=outcome, reasons=_reasons(event.payload))


def _reasons(payload: Mapping[str, object]) -> tuple[str, ...]:
    reasons = payload.get("reasons", ())
    return tuple(str(reason) for reason in reasons) if isinstance(reasons, list | tuple) else (str(reasons),)


def _component(found: ComponentView) -> ComponentNow:
    return ComponentNow(name=found.name, healthy=found.healthy, version=found.version, reason=found.reason)


def figure(canary: Mapping[str, JsonValue] | None, name: str) -> str:
    """Return a figure of the last judgement as text, a dash where there is none."""
    return "-" if canary is None or canary.get(name) is None else str(canary[name])
