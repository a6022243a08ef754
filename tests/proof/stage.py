"""The stack on which releases are killed: two regions, quick canaries, short leases, models for each way to end."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clouds.local.supervisor import Supervisor
from fleet.commands import Command
from fleet.home import Home
from fleet.operators import DEFAULT, read_operators
from fleet.settings import Settings
from flows.desires import CANDIDATE, ask_again, desires, release_stream, unfinished
from flows.effects import Effect, Ending
from flows.house import House
from flows.operating import Wish, operate
from flows.parking import parked
from flows.rollback_request import ask_for
from flows.work import release_revision, stable_of
from proof.cases import HELD_STEPS, LOST, REGIONS, TRADING_STEPS
from proof.teller import Teller
from support.stack import GATES, TestStack, toy_fleet, write_fleet
from support.waiting import wait_until

ACTOR = "proof"
SEED = "seed"
BEHAVIOURS = {
    "1": ("good", True, 0.0),
    "2": ("good", True, 1.0),
    "3": ("drops", True, 0.0),
    "4": ("good", False, 0.0),
    "5": (f"unfit {LOST}", True, 0.0),
    "6": (f"shifts {LOST}", True, 0.0),
    "7": ("breaks", True, 0.0),
}
"""The versions that every model has: behaviour, whether it has a schema, offset."""
WANTED = {
    Ending.FIRST: "1",
    Ending.ROLLED_BACK: "3",
    Ending.REJECTED: "4",
    Ending.SUPERSEDED: "2",
    Ending.FAILED: "5",
    Ending.UNFIT: "7",
    Ending.UNLIKE: "6",
}
HELD = (Ending.ROLLED_BACK, Ending.REJECTED, Ending.SUPERSEDED, Ending.FAILED)
KINDS = {
    "trade": (Ending.PROMOTED, Ending.BACK),
    "held": HELD,
    "seen": (Ending.SHADOWED,),
    "once": (Ending.AT_ONCE,),
    "asked": (Ending.APPROVED,),
    "said": (Ending.ABORTED, Ending.PROMOTED_NOW),
    "gated": (Ending.MEASURED, Ending.UNFIT, Ending.UNLIKE),
}
"""The endings of the models of a kind, which are declared alike; a first release is on a model of its own."""
TOLD_SECONDS = 240.0
LEASE_SECONDS = 2.0


@dataclass(frozen=True)
class Stage:
    """A running stack, the process that tells its releases, and the sources of the versions."""

    stack: TestStack
    teller: Teller
    sources: dict[str, str]
    versions: dict[str, set[str]] = field(default_factory=dict)

    @property
    def house(self) -> House:
        """The installation."""
        return self.stack.house

    def want(self, model: str, ending: Ending) -> str:
        """Open the desire whose release ends so; returns the release."""
        if ending is Ending.BACK:
            return ask_for(self.house, model, None, ACTOR).release
        stable = stable_of(self.house, model)
        version = WANTED.get(ending) or ("1" if stable is not None and stable.version == "2" else "2")
        self.have(model, version)
        if self.house.models.alias(model, CANDIDATE) == version:
            return ask_again(self.house.ledger, model, version, ACTOR).release
        return self.stack.want(model, version)

    def bring_up(self, model: str) -> None:
        """Release version 1 of a model."""
        self.want(model, Ending.FIRST)
        self.finish(model)
        assert stable_of(self.house, model) is not None, f"{model} was not promoted"

    def finish(self, model: str, tellings: int = 8) -> int:
        """Tell a model's releases as reconcile would, until none is unfinished; returns how often."""
        for count in range(tellings):
            if not unfinished(self.house.ledger, model):
                # One that was killed after its release had ended still holds the model for some seconds
                self.wait_for_lease(model)
                return count
            self.wait_for_lease(model)
            self.answer(model)
            self.teller.tell(model).wait(TOLD_SECONDS)
        assert not unfinished(self.house.ledger, model), f"{model} has not ended after {tellings} tellings"
        return tellings

    def wait_for_lease(self, model: str) -> None:
        """Wait until a dead controller's lease has run out."""
        wait_until(lambda: self.house.leases.current(model) is None, 60, 0.1, f"the lease of {model} has run out")

    def answer(self, model: str) -> bool:
        """Approve whatever of a model waits for that; returns whether anything did."""
        waiting = [desire for desire in unfinished(self.house.ledger, model) if parked(self.house, desire)]
        for desire in waiting:
            self.say(model, desire.release, Command.APPROVE)
        return bool(waiting)

    def say(self, model: str, release: str, command: Command) -> None:
        """Order something as a person does; while somebody holds the model nobody is woken, for here the stage alone tells releases."""
        lease = self.house.leases.take(model, ACTOR, LEASE_SECONDS)
        token = read_operators(self.house.home).token_of(DEFAULT)
        try:
            operate(self.house, Wish(model, command.value, ACTOR, release=release), token, ACTOR)
        finally:
            if lease is not None:
                self.house.leases.give_back(lease)

    def say_at(self, model: str, release: str, effect: Effect, command: Command) -> threading.Event:
        """Order something as soon as a release has completed an effect; the event is set when it was ordered."""
        return self._at(release, effect, lambda: self.say(model, release, command))

    def supersede_at(self, model: str, release: str, effect: Effect) -> threading.Event:
        """Go back to the stable version as soon as a release has completed an effect; the event is set when it was asked for."""
        stable = stable_of(self.house, model)
        assert stable is not None
        return self._at(release, effect, lambda: ask_for(self.house, model, stable.version, ACTOR))

    def _at(self, release: str, effect: Effect, act: Callable[[], object]) -> threading.Event:
        asked = threading.Event()

        def watch() -> None:
            def done() -> bool:
                events = self.house.ledger.stream(release_stream(release))
                return any(event.type == "effect.completed" and event.effect_key == effect for event in events)

            wait_until(done, TOLD_SECONDS, 0.1, f"{release} has completed {effect}")
            act()
            asked.set()

        threading.Thread(target=watch, daemon=True).start()
        return asked

    def digest_of(self, model: str, release: str) -> str:
        """Return the digest of the revision of a release, or of an earlier one of the same version; nothing before it was ever packaged."""
        known = desires(self.house.ledger, model)
        (wanted,) = (desire for desire in known if desire.release == release)
        packaged = [release_revision(self.house, desire) for desire in known if desire.version == wanted.version]
        return next((found.digest for found in reversed(packaged) if found is not None), "")

    def revision_of(self, model: str, release: str) -> str:
        """Return the digest of what a release packaged, nothing when it never did."""
        (wanted,) = (desire for desire in desires(self.house.ledger, model) if desire.release == release)
        found = release_revision(self.house, wanted)
        return found.digest if found else ""

    def leave(self, model: str) -> None:
        """Stop what a model runs, so that a model that has done its part takes no memory."""
        for region in REGIONS:
            for status in self.house.target(region).status(model, region):
                self.house.target(region).retire(region, model, status.revision)

    def have(self, model: str, version: str) -> None:
        """Register the versions up to one under a model's name, from the files that were logged once."""
        from mlflow import MlflowClient

        client = MlflowClient(self.house.stack.mlflow_url)
        have = self.versions.setdefault(model, set())
        if not have:
            client.create_registered_model(model)
        while version not in have:
            number = str(len(have) + 1)
            source = self.sources[number]
            made = client.create_model_version(model, source, model_id=source.rpartition("/")[2])
            assert str(made.version) == number
            have.add(number)


def fleet_of(models: Mapping[str, str]) -> dict[str, Any]:
    """Return a fleet of models by their kinds: traded back and forth, or with a canary that waits until somebody ends it."""
    fleet = toy_fleet(("any",), REGIONS)
    model = fleet["models"]["any"] | {"rollback": {"margin": 0.4}}
    first, second = TRADING_STEPS
    walked = {"steps": [{"weight": first, "seconds": 0.2}, {"weight": second, "seconds": 0.2}], "max_seconds": 120}
    waiting = {"steps": [{"weight": HELD_STEPS[0], "seconds": 60}, {"weight": 90, "seconds": 1}], "max_seconds": 120}
    shadow = {"shadow": {"percent": 100, "seconds": 20, "answers": 10}, "bake_seconds": 1}
    declared = {
        "trade": model | {"canary": walked},
        "held": model | {"canary": waiting},
        "seen": model | {"canary": walked, "traffic": shadow},
        # What is switched at once has no steps
        "once": model | {"canary": {"max_seconds": 120}, "traffic": {"mode": "blue-green", "bake_seconds": 1}},
        "asked": model | {"canary": walked, "approval": {"required": True, "within_seconds": 600}},
        "said": model | {"canary": waiting},
        "gated": model | {"canary": walked, "gates": {**model["gates"], **GATES}},
    }
    return fleet | {"models": {name: declared[kind] for name, kind in models.items()}}


@contextmanager
def staged(models: Mapping[str, str], alone: bool = True) -> Iterator[Stage]:
    """Give a stack with models by their kinds; alone: its runner rests, and nobody but the stage tells releases."""
    from control.stack.down import down
    from control.stack.up import up

    root = Path(tempfile.mkdtemp(prefix="cv-"))
    settings = Settings(home=root, tick_seconds=0.25, lease_seconds=LEASE_SECONDS, table_seconds=5)
    home = Home.of(settings)
    write_fleet(home, fleet_of(models))
    try:
        up(settings, lambda text: None)
        stack = TestStack(settings, House(settings, home))
        if alone:
            Supervisor.of(home).stop("runner")
        teller = Teller(stack.environment, home.logs)
        try:
            yield Stage(stack, teller, sources_of(stack))
        finally:
            teller.close()
    finally:
        down(settings)
        shutil.rmtree(root)


def sources_of(stack: TestStack) -> dict[str, str]:
    """Log each behaviour once; returns where the files of each version lie."""
    from mlflow import MlflowClient

    # It says much about a model that is made by hand for every test
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    client = MlflowClient(stack.house.stack.mlflow_url)
    found = {}
    for number, (behaviour, schema, offset) in BEHAVIOURS.items():
        version = stack.register(SEED, behaviour, schema, offset)
        found[number] = str(client.get_model_version(SEED, version).source)
    return found
