"""The walk of a canary: its steps, wave after wave of regions, and what each region's requests meet meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.declared import Canary, Step
from flows.routing import Deal
from flows.spending import steps_of
from registry.ledger import JSON


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the walk: the weight before it in the regions of its wave, the step, and whether it is the last one.

    `wave` counts from 1. `regions` are those of the wave, none where every region walks at once; those of the waves
    before it stay `reached`, at the weight of their last step, and those `ahead` have nothing.
    """

    before: int
    step: Step
    last: bool
    wave: int = 1
    regions: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    reached_weight: int = 0
    ahead: tuple[str, ...] = ()

    def deal(self, weight: int, most: int = 100) -> Deal:
        """Return what the canary gets in each region, with a weight in those of the wave and `most` of it anywhere."""
        past = ((region, min(self.reached_weight, most)) for region in self.reached)
        return Deal(weight, elsewhere=(*past, *((region, 0) for region in self.ahead)))

    @property
    def where(self) -> dict[str, JSON]:
        """The wave and its regions as the ledger has them; nothing where every region walks at once."""
        return {"wave": self.wave, "regions": list(self.regions)} if self.regions else {}

    @property
    def in_words(self) -> str:
        """The wave's regions in words, empty where every region walks at once."""
        return f" in {', '.join(self.regions)}" if self.regions else ""

    @property
    def name(self) -> str:
        """The step in words, for the run of its task."""
        where = f"-in-wave-{self.wave}" if self.regions else ""
        return f"canary-at-{self.step.weight}-percent{where}"


def stages_of(canary: Canary) -> tuple[Stage, ...]:
    """Return the whole walk: every step in all regions at once, or wave by wave."""
    steps, waves = steps_of(canary), canary.waves or ((),)
    found = []
    for number, regions in enumerate(waves, start=1):
        reached = tuple(region for wave in waves[: number - 1] for region in wave)
        ahead = tuple(region for wave in waves[number:] for region in wave)
        for at, step in enumerate(steps):
            before, last = steps[at - 1].weight if at else 0, number == len(waves) and at == len(steps) - 1
            found.append(Stage(before, step, last, number, regions, reached, steps[-1].weight if reached else 0, ahead))
    return tuple(found)
