"""What is left of models and regions that fleet.yaml declares no more: looked for, told, and left to a person.

The ledger knows which there were. A region is asked as the last fleet.yaml that was kept with it declares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from clouds.serving import ServingTarget
from clouds.targets import target_of
from fleet.canonical import short
from fleet.declared import Fleet
from fleet.errors import ConvoyError, FleetFileError
from fleet.reading import fleet_of
from flows import effects
from flows.desires import model_stream, unfinished
from flows.fleet_kept import fleet_history, kept_fleet
from flows.house import House
from flows.lagging import CAUGHT_UP, replication_stream
from flows.observing import look_at_edges
from flows.plan_values import Left, Unseen

AGAIN = "Declare it again, or have the fleet.yaml back that had it (`convoy fleet history`): then it is kept as before."
STOP = f"{AGAIN} To end it, stop it there by hand once nobody calls it."
ASK = f"{AGAIN} Or see for yourself that nothing runs there."


def left_behind(house: House) -> tuple[Left, ...]:
    """Return what runs, is routed or is unfinished of models that are declared no more, and what runs in such regions."""
    known = [stream.removeprefix(model_stream("")) for stream in house.ledger.streams(model_stream(""))]
    gone = [model for model in known if model not in house.fleet.models]
    found = [*_of_models(house, gone)] if gone else []
    return (*found, *(each for region in _gone_regions(house) for each in _of_region(house, region, known)))


def _of_models(house: House, models: list[str]) -> Iterator[Left]:
    looked = look_at_edges(house)
    for model in models:
        for region in house.fleet.regions:
            yield from _running(partial(house.target, region), model, region)
        for desire in unfinished(house.ledger, model):
            yield Left(model, desire.release, "is unfinished, and no flow takes it up", AGAIN)
        for state in () if isinstance(looked, Unseen) else looked.states:
            if state.of(model) is not None:
                why = "has a table for it, by which its callers are answered"
                yield Left(model, f"edge {state.edge}", why, f"{AGAIN} Or tell its callers, and leave it: an edge forgets no table.")


def _gone_regions(house: House) -> tuple[str, ...]:
    """Return every region that a revision was ever brought to and that is declared no more, sorted."""
    sent = (key.partition(":")[2] for key in house.ledger.effect_keys(effects.replicate("")))
    came = (str(event.payload["region"]) for event in house.ledger.starting_with(replication_stream(""), CAUGHT_UP))
    return tuple(sorted({*sent, *came} - set(house.fleet.regions)))


def _of_region(house: House, region: str, models: list[str]) -> Iterator[Left]:
    try:
        target = _target_of(house, region)
    except ConvoyError as problem:
        yield Left(region, region, f"cannot be asked what runs there: {problem}", ASK)
        return
    for model in models:
        yield from _running(lambda: target, model, region)


def _running(target: Callable[[], ServingTarget], model: str, region: str) -> Iterator[Left]:
    """Give what runs of a model in a region, as somebody must see to it."""
    try:
        running = target().status(model, region)
    except ConvoyError as problem:
        yield Left(model, region, f"nobody knows what runs there: {problem}", ASK)
        return
    for each in running:
        yield Left(model, region, f"{short(each.revision)} is {each.state.value}, and fleet.yaml declares it no more", STOP)


def _target_of(house: House, region: str) -> ServingTarget:
    """Return what ran a region; raises FleetFileError where no kept fleet.yaml that can be read has it."""
    for known in reversed(fleet_history(house)):
        fleet = _read(house, known.digest)
        if fleet is not None and region in fleet.regions:
            return target_of(fleet.regions[region].target)(house.home, house.stack.stack_id, {region: range(0)})
    raise FleetFileError("fleet.yaml", f"none that was kept and can be read declares region '{region}'", ASK)


def _read(house: House, digest: str) -> Fleet | None:
    """Return a kept fleet.yaml, None for one that does not hold today: an older one may."""
    try:
        return fleet_of(kept_fleet(house, digest)[1], f"fleet.yaml {short(digest)}", house.home.parsed)
    except ConvoyError:
        return None
