"""Every effect of a release by its key, and which of them a release completes by the way it ends.

Nothing else may name an effect: what is listed here is what a rehearsal kills the controller at. Keys stand in ledgers
that must be read for ever, so a key that was ever written keeps its text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

Effect = NewType("Effect", str)
"""What a release does to the world once; the text is its key in the ledger."""

RESOLVE: Final = Effect("resolve")
GATES: Final = Effect("gates")
OPTIMISE: Final = Effect("optimise")
PACKAGE: Final = Effect("package")
SERVICE: Final = Effect("service")
CONTAINER: Final = Effect("container")
ATTEST: Final = Effect("attest")
ATTEST_APPROVAL: Final = Effect("attest:approval")
SHADOW: Final = Effect("shadow")
SEEN: Final = Effect("shadow:seen")
CANARY: Final = Effect("canary")
BAKE: Final = Effect("bake")
STABLE: Final = Effect("stable")
CHAMPION: Final = Effect("alias:champion")
COUNT: Final = Effect("count")


def replicate(region: str) -> Effect:
    """Copying the revision to a region's store."""
    return Effect(f"replicate:{region}")


def deploy(region: str) -> Effect:
    """Starting the revision in a region."""
    return Effect(f"deploy:{region}")


def golden(region: str) -> Effect:
    """Asking a region's own server for the golden answers, before it gets traffic."""
    return Effect(f"golden:{region}")


def weight(percent: int, wave: int = 1) -> Effect:
    """Giving the revision a share of the requests at every edge; in a later wave than the first, in that wave's regions."""
    return Effect(f"weight:{percent}" if wave == 1 else f"weight:{percent}@{wave}")


def point(region: str) -> Effect:
    """Writing into a region's store which revision it serves."""
    return Effect(f"point:{region}")


def retire(region: str, digest: str) -> Effect:
    """Stopping a revision in a region: the one before after a promotion, else the release's own."""
    return Effect(f"retire:{region}:{digest}")


class Ending(StrEnum):
    """The ways in which a release ends that differ in what it does, or in who says so."""

    FIRST = "first release promoted"
    PROMOTED = "promoted after its canary"
    ROLLED_BACK = "rolled back by the judge"
    REJECTED = "rejected by a gate"
    SUPERSEDED = "superseded by a newer version"
    BACK = "rollback to a stable version"
    FAILED = "failed to start in a region"
    SHADOWED = "promoted after its shadow, canary and bake"
    AT_ONCE = "switched at once and promoted after its bake"
    APPROVED = "promoted after a person's approval and its canary"
    ABORTED = "aborted by a person in its canary"
    PROMOTED_NOW = "promoted by a person out of its canary"
    MEASURED = "promoted after its service was measured and its golden answers were given in every region"
    UNFIT = "rejected for what its service takes"
    UNLIKE = "rejected for other answers in a region"
    UNEQUAL = "rejected for other answers of the variant that was to be served"


@dataclass(frozen=True, slots=True)
class Course:
    """What the effects of a release depend on: its regions and revisions, and how far it got.

    `weights` are the canary's steps that it reached, `later` those of each wave after the first, `lost` the regions in
    which its revision never became ready. `shadowed` and `baked` say whether it did so to the end; one that switched at
    `once` had no canary. `measured` and `asked` say whether fleet.yaml declares budgets of the service and golden answers.
    `approved` says whether fleet.yaml wants people's approval, and they gave it; `optimised` whether it declares variants,
    `contained` whether it declares a container of the owner's.
    """

    regions: tuple[str, ...]
    revision: str = ""
    stable: str = ""
    weights: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()
    shadowed: bool = False
    baked: bool = False
    once: bool = False
    later: tuple[tuple[int, ...], ...] = ()
    measured: bool = False
    asked: bool = False
    approved: bool = False
    optimised: bool = False
    contained: bool = False


def effects_of(ending: Ending, course: Course) -> tuple[Effect, ...]:
    """Return the effects that a release completes, each once, in the order of the story.

    Regions are replicated to and deployed to at the same time; here they stand in the order of the declaration.
    """
    return _STORIES[ending](course)


def intended_only(ending: Ending, course: Course) -> tuple[Effect, ...]:
    """Return the effects that are intended and never completed."""
    return tuple(map(deploy, course.lost)) if ending is Ending.FAILED else ()


def _shipped(course: Course) -> tuple[Effect, ...]:
    ready = (deploy(region) for region in course.regions if region not in course.lost)
    return (*map(replicate, course.regions), *ready)


def _packaged(course: Course) -> tuple[Effect, ...]:
    optimised = (OPTIMISE,) if course.optimised else ()
    tried = (*((CONTAINER,) if course.contained else ()), *((SERVICE,) if course.measured else ()))
    return (RESOLVE, GATES, *optimised, PACKAGE, *tried)


def _made(course: Course) -> tuple[Effect, ...]:
    asked = map(golden, course.regions) if course.asked and not course.lost else ()
    return (*_packaged(course), ATTEST, *_shipped(course), *asked)


def _tried(course: Course) -> tuple[Effect, ...]:
    approval = (ATTEST_APPROVAL,) if course.approved else ()
    shadow = (SHADOW, SEEN) if course.shadowed else ()
    waves = enumerate((course.weights, *course.later), start=1)
    canary = () if course.once else (CANARY, *(weight(percent, wave) for wave, reached in waves for percent in reached))
    return (*approval, *shadow, *canary, *((BAKE,) if course.baked else ()))


def _promoted(course: Course) -> tuple[Effect, ...]:
    return (weight(100), STABLE, *map(point, course.regions), CHAMPION)


def _retired(course: Course, digest: str) -> tuple[Effect, ...]:
    return tuple(retire(region, digest) for region in course.regions)


def _first(course: Course) -> tuple[Effect, ...]:
    approval = (ATTEST_APPROVAL,) if course.approved else ()
    return (*_made(course), *approval, *_promoted(course))


def _promoted_after_canary(course: Course) -> tuple[Effect, ...]:
    return (*_made(course), *_tried(course), *_promoted(course), COUNT, *_retired(course, course.stable))


def _rolled_back(course: Course) -> tuple[Effect, ...]:
    return (*_made(course), *_tried(course), weight(0), COUNT, *_retired(course, course.revision))


def _rejected(course: Course) -> tuple[Effect, ...]:
    return (RESOLVE, GATES)


def _unequal(course: Course) -> tuple[Effect, ...]:
    return (RESOLVE, GATES, OPTIMISE)


def _unfit(course: Course) -> tuple[Effect, ...]:
    return _packaged(course)


def _unlike(course: Course) -> tuple[Effect, ...]:
    """Every region is asked, whatever another one answered."""
    return (*_made(course), *_retired(course, course.revision))


def _superseded(course: Course) -> tuple[Effect, ...]:
    """One that has no traffic yet has none to take back."""
    taken_back = (*_tried(course), weight(0), COUNT) if course.weights or course.shadowed or course.baked else ()
    return (*_made(course), *taken_back, *_retired(course, course.revision))


def _back(course: Course) -> tuple[Effect, ...]:
    """A revision that was stable before is neither validated nor built again, and has no canary."""
    return (PACKAGE, *_shipped(course), *_promoted(course), COUNT, *_retired(course, course.stable))


def _failed(course: Course) -> tuple[Effect, ...]:
    return (*_made(course), *_retired(course, course.revision))


_STORIES: Final[dict[Ending, Callable[[Course], tuple[Effect, ...]]]] = {
    Ending.FIRST: _first,
    Ending.PROMOTED: _promoted_after_canary,
    Ending.ROLLED_BACK: _rolled_back,
    Ending.REJECTED: _rejected,
    Ending.SUPERSEDED: _superseded,
    Ending.BACK: _back,
    Ending.FAILED: _failed,
    Ending.SHADOWED: _promoted_after_canary,
    Ending.AT_ONCE: _promoted_after_canary,
    Ending.APPROVED: _promoted_after_canary,
    Ending.ABORTED: _rolled_back,
    Ending.PROMOTED_NOW: _promoted_after_canary,
    Ending.MEASURED: _promoted_after_canary,
    Ending.UNFIT: _unfit,
    Ending.UNLIKE: _unlike,
    Ending.UNEQUAL: _unequal,
}
