"""What still runs of a model or in a region that fleet.yaml declares no more: nobody looks after it, so people are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clouds.serving import Telling
from clouds.targets import TARGETS, target_of
from fleet.canonical import short
from flows.house import House
from traffic.edges import look


@dataclass(frozen=True, slots=True)
class Left:
    """Something of a model that nobody looks after: where it is, what it is, and what a person can do."""

    model: str
    where: str
    what: str
    why: str


def left_behind(house: House) -> tuple[Left, ...]:
    """Return what runs, and what edges route, that fleet.yaml does not declare; only of targets that tell all that they run.

    Raises as the targets do; an edge that cannot be asked is a doubt of each model's plan already.
    """
    return (*_running(house), *_routed(house))


def _running(house: House) -> Iterator[Left]:
    models, regions = house.fleet.models, house.fleet.regions
    for name in TARGETS:
        target = target_of(name)(house.home, house.stack.stack_id, {})
        for each in target.deployments() if isinstance(target, Telling) else ():
            if each.model not in models:
                yield Left(each.model, each.region, each.digest, f"{short(each.digest)} runs, {_undeclared(each.model)}")
            elif each.region not in regions:
                again = f"Declare the region again without model '{each.model}', and reconcile stops it."
                yield Left(
                    each.model, each.region, each.digest, f"{short(each.digest)} runs in a region that fleet.yaml has no more. {again}"
                )


def _routed(house: House) -> Iterator[Left]:
    for state in look(house.edges).states:
        for each in state.models:
            if each.table.model in house.fleet.models or not each.weights:
                continue
            to = ", ".join(f"{weight.percent:g} % to {short(weight.revision)}" for weight in each.weights)
            why = f"it routes {to}, {_undeclared(each.table.model)}"
            yield Left(each.table.model, f"edge {state.edge}", each.weights[0].revision, why)


def _undeclared(model: str) -> str:
    return f"and fleet.yaml has no model '{model}' any more. Declare it again to have it looked after: Convoy ends no model by itself."
