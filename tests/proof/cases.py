"""Which kills are tried: each way to end, each of its effects, each point of it; and some at any moment."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows import effects
from flows.effects import Course, Effect, Ending, effects_of, intended_only
from flows.journal import POINTS

REGIONS = ("us-east-1", "europe-west4")
LOST = "europe-west4"
REVISION, STABLE = "REVISION", "STABLE"
"""Stand for digests that are known once the releases run."""
ANY = "any moment"
NEVER = "never"
UNRECORDED = ("before", "between")
"""The points of an effect that is intended and never completed."""
MOST_OF_IT = 0.8
"""Of the uncrashed release's seconds: a kill later than that may come too late."""

TRADING_STEPS = (30, 60)
HELD_STEPS = (50,)
COURSES = {
    Ending.FIRST: Course(REGIONS, REVISION),
    Ending.PROMOTED: Course(REGIONS, REVISION, STABLE, TRADING_STEPS),
    Ending.ROLLED_BACK: Course(REGIONS, REVISION, STABLE, HELD_STEPS),
    Ending.REJECTED: Course(REGIONS, REVISION, STABLE),
    Ending.SUPERSEDED: Course(REGIONS, REVISION, STABLE, HELD_STEPS),
    Ending.BACK: Course(REGIONS, REVISION, STABLE),
    Ending.FAILED: Course(REGIONS, REVISION, STABLE, lost=(LOST,)),
    Ending.SHADOWED: Course(REGIONS, REVISION, STABLE, TRADING_STEPS, shadowed=True, baked=True),
    Ending.AT_ONCE: Course(REGIONS, REVISION, STABLE, baked=True, once=True),
    Ending.APPROVED: Course(REGIONS, REVISION, STABLE, TRADING_STEPS, approved=True),
    Ending.ABORTED: Course(REGIONS, REVISION, STABLE, HELD_STEPS),
    Ending.PROMOTED_NOW: Course(REGIONS, REVISION, STABLE, HELD_STEPS),
    Ending.MEASURED: Course(REGIONS, REVISION, STABLE, TRADING_STEPS, measured=True, asked=True),
    Ending.UNFIT: Course(REGIONS, REVISION, STABLE, measured=True),
    Ending.UNLIKE: Course(REGIONS, REVISION, STABLE, measured=True, asked=True),
}
OWN: dict[Ending, tuple[Effect, ...]] = {
    Ending.SHADOWED: (
        effects.SHADOW,
        effects.SEEN,
        effects.CANARY,
        *map(effects.weight, TRADING_STEPS),
        effects.BAKE,
        effects.weight(100),
        effects.STABLE,
    ),
    Ending.AT_ONCE: (effects.BAKE, effects.weight(100), effects.STABLE),
    Ending.APPROVED: (*map(effects.deploy, REGIONS), effects.ATTEST_APPROVAL, effects.CANARY),
    Ending.ABORTED: (
        effects.weight(HELD_STEPS[-1]),
        effects.weight(0),
        effects.COUNT,
        *(effects.retire(region, REVISION) for region in REGIONS),
    ),
    Ending.PROMOTED_NOW: (effects.weight(HELD_STEPS[-1]), effects.weight(100), effects.STABLE),
    Ending.MEASURED: (effects.SERVICE, *map(effects.golden, REGIONS)),
    Ending.UNFIT: (effects.SERVICE,),
    Ending.UNLIKE: (effects.golden(LOST), *(effects.retire(region, REVISION) for region in REGIONS)),
}
"""Where these are killed: at what they do otherwise than the endings above, and right before and behind a person's word.

The first effect after an order is obeyed is the next one of these: `attest:approval` after an approval, `weight:0` after an abort.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One kill: a point of an effect, or `ANY` moment, a fraction of the uncrashed release's time, or `NEVER`."""

    ending: Ending
    point: str
    effect: str = ""
    fraction: float = 0.0

    def __str__(self) -> str:
        when = f"at {self.fraction:.0%} of its time" if self.point == ANY else f"{self.point} {self.effect}".strip()
        return f"{self.ending}: killed {when}"


def named(key: Effect, revision: str, stable: str) -> Effect:
    """Return an effect's key with the digests that it stands for."""
    return Effect(key.replace(REVISION, revision).replace(STABLE, stable))


def boundaries(courses: Mapping[Ending, Course]) -> tuple[Case, ...]:
    """Return every point of every effect of each ending, of some endings only what is their own."""
    found = []
    for ending, course in courses.items():
        done = [Case(ending, point, key) for key in OWN.get(ending, effects_of(ending, course)) for point in POINTS]
        begun = [Case(ending, point, key) for key in intended_only(ending, course) for point in UNRECORDED]
        found += done + begun
    return tuple(found)


def moments(count: int, seed: int, endings: Iterable[Ending]) -> tuple[Case, ...]:
    """Return kills at random moments of each ending's time."""
    chance = random.Random(seed)
    return tuple(Case(ending, ANY, fraction=chance.uniform(0.02, MOST_OF_IT)) for ending in endings for _ in range(count))


def sampled(count: int, seed: int, among: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return some of the cases, in their order."""
    chosen = set(random.Random(seed).sample(range(len(among)), min(count, len(among))))
    return tuple(case for position, case in enumerate(among) if position in chosen)
