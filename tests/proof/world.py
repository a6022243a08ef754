"""What must be so after a release, however often it was killed: in the ledger, and in the world."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from clouds.serving import State
from fleet.commands import Command
from fleet.phases import ReleasePhase
from flows.desires import CHAMPION, phase_of, release_stream
from flows.effects import Course, Effect, Ending, effects_of, intended_only
from flows.house import House
from flows.orders import COMMANDED, OBEYED
from flows.work import stable_of

PHASES = {
    Ending.FIRST: ReleasePhase.PROMOTED,
    Ending.PROMOTED: ReleasePhase.PROMOTED,
    Ending.ROLLED_BACK: ReleasePhase.ROLLED_BACK,
    Ending.REJECTED: ReleasePhase.REJECTED,
    Ending.SUPERSEDED: ReleasePhase.SUPERSEDED,
    Ending.BACK: ReleasePhase.PROMOTED,
    Ending.FAILED: ReleasePhase.FAILED,
    Ending.SHADOWED: ReleasePhase.PROMOTED,
    Ending.AT_ONCE: ReleasePhase.PROMOTED,
    Ending.APPROVED: ReleasePhase.PROMOTED,
    Ending.ABORTED: ReleasePhase.ROLLED_BACK,
    Ending.PROMOTED_NOW: ReleasePhase.PROMOTED,
    Ending.MEASURED: ReleasePhase.PROMOTED,
    Ending.UNFIT: ReleasePhase.REJECTED,
    Ending.UNLIKE: ReleasePhase.REJECTED,
}
SAID = {Ending.APPROVED: Command.APPROVE, Ending.ABORTED: Command.ABORT, Ending.PROMOTED_NOW: Command.PROMOTE}
"""What a person says in these endings, once."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How a release must end: its course with the digests as they are, and how many refs each region's store had before."""

    ending: Ending
    model: str
    release: str
    course: Course
    pointed: dict[str, int]

    @property
    def promoted(self) -> bool:
        """Whether the release's own revision is the stable one afterwards."""
        return PHASES[self.ending] is ReleasePhase.PROMOTED

    @property
    def stable(self) -> str:
        """The digest that serves everything afterwards."""
        return self.course.revision if self.promoted else self.course.stable


def refs(house: House, model: str, regions: tuple[str, ...]) -> dict[str, int]:
    """Return how many generations of a model's ref each region's store has."""
    return {region: len(list((house.home.region_store(region) / "refs" / model).glob("*"))) for region in regions}


def wrong(house: House, expected: Expected) -> list[str]:
    """Return what is not as after an uncrashed release, in words."""
    return [*_in_the_ledger(house, expected), *_in_the_regions(house, expected), *_at_the_doors(house, expected)]


def _in_the_ledger(house: House, expected: Expected) -> list[str]:
    events = house.ledger.stream(release_stream(expected.release))
    completed = Counter(Effect(str(event.effect_key)) for event in events if event.type == "effect.completed")
    intended = Counter(Effect(str(event.effect_key)) for event in events if event.type == "effect.intended")
    wanted = set(effects_of(expected.ending, expected.course))
    begun = wanted | set(intended_only(expected.ending, expected.course))
    phases = [str(event.payload["phase"]) for event in events if event.type == "phase.entered"]
    # What people say is written under none
    epochs = [event.epoch for event in events if event.epoch]
    ended = phase_of(house.ledger, expected.release)
    found = [] if ended is PHASES[expected.ending] else [f"it ended {ended}"]
    found += [f"{key} was not completed" for key in sorted(wanted - set(completed))]
    found += [f"{key} was completed and does not belong to this ending" for key in sorted(set(completed) - wanted)]
    found += [f"{key} was intended and does not belong to this ending" for key in sorted(set(intended) - begun)]
    found += [f"{key} was completed {times} times" for key, times in completed.items() if times > 1]
    found += [f"{key} was intended {times} times" for key, times in intended.items() if times > 1]
    found += [f"phase {phase} was entered {times} times" for phase, times in Counter(phases).items() if times > 1]
    said = [SAID[expected.ending].value] if expected.ending in SAID else []
    for kind in (COMMANDED, OBEYED):
        told = [str(event.payload["command"]) for event in events if event.type == kind]
        found += [] if told == said else [f"{kind} stands there for {told} instead of {said}"]
    return found + ([] if epochs == sorted(epochs) else ["an older epoch wrote after a newer one"])


def _in_the_regions(house: House, expected: Expected) -> list[str]:
    found = []
    now = refs(house, expected.model, expected.course.regions)
    for region in expected.course.regions:
        running = {status.revision: status.state for status in house.target(region).status(expected.model, region)}
        if running != {expected.stable: State.READY}:
            found.append(f"{region} runs {running or 'nothing'} instead of {expected.stable} alone")
        ref = house.region_store(region).resolve(expected.model)
        if ref is None or ref.digest != expected.stable:
            found.append(f"the store of {region} names {ref.digest if ref else 'nothing'}")
        if now[region] != expected.pointed[region] + expected.promoted:
            found.append(f"the store of {region} was pointed {now[region] - expected.pointed[region]} times")
    return found


def _at_the_doors(house: House, expected: Expected) -> list[str]:
    found = []
    stable = stable_of(house, expected.model)
    if stable is None or stable.digest != expected.stable:
        found.append(f"the ledger's stable revision is {stable.digest if stable else 'none'}")
    champion = house.models.alias(expected.model, CHAMPION)
    if stable is not None and champion != stable.version:
        found.append(f"alias champion names {champion} instead of {stable.version}")
    for edge in house.edges:
        state = edge.state().of(expected.model)
        share = None if state is None else state.percent_of(expected.stable)
        if share != 100:
            found.append(f"edge {edge.name} gives the stable revision {share} %")
    held = house.leases.current(expected.model)
    return found + ([f"the lease is still held by {held.holder}"] if held else [])
