"""A release under everything that can happen to it, in any order: what must be so is so at every moment, and it ends."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machine_places import Kind, Line
from machine_time import Run
from machine_world import LEASE, MODEL, TABLE, World

from control import api
from control.webhooks import DELIVERY, SIGNATURE, TIMESTAMP
from fleet.commands import Command
from fleet.errors import ConvoyError
from fleet.operators import DEFAULT, read_operators
from fleet.phases import ReleasePhase
from flows.desires import Desire, alias_owed, phase_of, unfinished
from flows.operating import Wish, operate
from flows.parking import parked
from flows.rollback_request import ask_for
from support.stack import REGIONS

MOST_AT_ONCE = 3
ROUNDS = 60
SHM = Path("/dev/shm")
CANARY = {"steps": [{"weight": 20, "seconds": 10}, {"weight": 50, "seconds": 10}], "max_seconds": 80, "pause_seconds": 60}
NO_VERDICT = {"ask_seconds": 40, "extend_seconds": 30}
SHADOW = {"shadow": {"percent": 50, "seconds": 15}}
TRAFFIC = (
    {},
    SHADOW | {"bake_seconds": 15},
    {"mode": "blue-green", "bake_seconds": 15},
    {"mode": "blue-green", "bake_seconds": 15} | SHADOW,
)
KINDS = some.sampled_from((*Kind, *3 * (Kind.GOOD, Kind.HARMFUL, Kind.UNDECIDED)))
MOMENTS = some.one_of(
    some.tuples(some.just("edge"), some.integers(1, 60)),
    some.tuples(some.just("effect"), some.integers(1, 60)),
    some.tuples(some.just("ledger"), some.integers(1, 60)),
)
ENDS = {
    Kind.GOOD: set(ReleasePhase),
    Kind.REFUSED: {ReleasePhase.REJECTED, ReleasePhase.SUPERSEDED, ReleasePhase.ROLLED_BACK},
    Kind.UNFIT: {ReleasePhase.FAILED, ReleasePhase.SUPERSEDED, ReleasePhase.ROLLED_BACK},
}
LAST = {Kind.GOOD: "promoted", Kind.REFUSED: "rejected", Kind.UNFIT: "failed"}


class Releases(RuleBasedStateMachine):
    """One model's releases, its controllers, edges and people."""

    @initialize(
        traffic=some.sampled_from(TRAFFIC),
        asks=some.sampled_from((False, False, True)),
        late=some.sampled_from(("roll back", "ask", "extend")),
        waves=some.booleans(),
        kind=KINDS,
        last=some.sampled_from(Kind),
    )
    def a_first_version_is_stable(self, traffic: dict[str, Any], asks: bool, late: str, waves: bool, kind: Kind, last: Kind) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="convoy-machine-", dir=SHM if SHM.is_dir() else None))
        canary = CANARY | NO_VERDICT | {"without_verdict": late}
        if traffic.get("mode") == "blue-green":
            del canary["steps"]
        elif waves:
            canary["waves"] = [[region] for region in REGIONS[:2]]
        self.world = World(self.root, traffic, {"canary": canary, "approval": {"required": asks, "within_seconds": 120}})
        self.house, self.runs = self.world.house, self.world.runs
        self.token = read_operators(self.house.home).token_of(DEFAULT)
        self.last, self.asks = last, asks
        self.given: list[Wish] = []
        self.posted: list[tuple[str, str, float]] = []
        self.want(Kind.GOOD)
        self.settle()
        assert self.world.facts.releases["toy-1"].phase == "promoted"
        self.post_new(self.want(kind))

    # --- what is wanted, and how anybody hears of it

    @rule(kind=KINDS, heard=some.sampled_from((True, True, False)))
    def a_newer_version_is_wanted(self, kind: Kind, heard: bool) -> None:
        version = self.want(kind)
        if heard:
            self.post_new(version)

    @precondition(lambda self: self.world.mlflow.mail or self.posted)
    @rule(pick=some.integers(0, 9), again=some.booleans())
    def a_webhook_comes_late_or_again(self, pick: int, again: bool) -> None:
        mail = self.world.mlflow.mail
        if mail and not (again and self.posted):
            self.post_new(mail.pop(pick % len(mail)))
        else:
            self.post(*self.posted[pick % len(self.posted)])

    @rule(seconds=some.sampled_from((1, 6, 16)))
    def a_run_begins_though_nobody_asked(self, seconds: float) -> None:
        self.world.started.append("by hand")
        self.begin()
        self.runs.pass_time(seconds)

    @rule(seconds=some.sampled_from((0, 6)))
    def going_back_is_asked_for(self, seconds: float) -> None:
        with suppress(ConvoyError):
            ask_for(self.house, MODEL, None, "the test")
        self.reconcile()
        self.runs.pass_time(seconds)

    # --- time, and controllers that stop in it

    @rule(seconds=some.sampled_from((1, 6, 11, 16)))
    def time_passes(self, seconds: float) -> None:
        if not self.runs.alive:
            self.reconcile()
        self.runs.pass_time(seconds)

    @rule(seconds=some.sampled_from((10, 25, 60)))
    def reconcile_looks_and_time_passes(self, seconds: float) -> None:
        self.reconcile()
        self.runs.pass_time(seconds)

    @rule(moments=MOMENTS)
    def a_controller_halts(self, moments: tuple[str, int]) -> None:
        self.halt(moments)

    @rule(moments=MOMENTS, pick=some.integers(0, 99))
    def somebody_orders_in_the_middle(self, moments: tuple[str, int], pick: int) -> None:
        self.halt(moments)
        if self.waiting:
            self.order_what_fits(self.waiting[0], pick)
        self.runs.pass_time(1)

    @rule(moments=MOMENTS, seconds=some.sampled_from((0, LEASE + 1, TABLE + 1)))
    def a_controller_is_killed(self, moments: tuple[str, int], seconds: float) -> None:
        self.halt(moments).kill()
        self.runs.pass_time(seconds)
        self.reconcile()

    @rule(moments=MOMENTS, seconds=some.sampled_from((1, LEASE + 1, TABLE + 1)), more=some.sampled_from((1, 2, 13)), wakes=some.booleans())
    def a_controller_freezes(self, moments: tuple[str, int], seconds: float, more: float, wakes: bool) -> None:
        run = self.halt(moments)
        run.frozen = True
        self.runs.pass_time(seconds)
        self.reconcile()
        self.runs.pass_time(more)
        run.frozen = not wakes
        self.runs.pass_time(1)

    @precondition(lambda self: any(run.frozen for run in self.runs.alive))
    @rule()
    def the_frozen_wake(self) -> None:
        self.thaw()
        self.runs.pass_time(1)

    @rule(seconds=some.sampled_from((-4000, -40, 40, 4000)))
    def the_clock_is_set(self, seconds: float) -> None:
        self.world.clock.ahead += seconds

    # --- what is away

    @rule(which=some.integers(0, 1), line=some.sampled_from(Line), seconds=some.sampled_from((0, 10, TABLE + 5)), stays=some.booleans())
    def a_line_changes(self, which: int, line: Line, seconds: float, stays: bool) -> None:
        edge = self.world.edges[which]
        edge.become(line)
        self.runs.pass_time(seconds)
        if not stays:
            edge.become(Line.UP)

    @precondition(lambda self: any(edge.line is not Line.UP for edge in self.world.edges))
    @rule()
    def all_lines_heal(self) -> None:
        self.heal()

    @rule(seconds=some.sampled_from((0, 10, 30)), stays=some.booleans())
    def mlflow_goes_and_comes(self, seconds: float, stays: bool) -> None:
        self.world.mlflow.away = True
        self.runs.pass_time(seconds)
        self.world.mlflow.away = stays

    # --- what people say

    @precondition(lambda self: self.waiting)
    @rule(pick=some.integers(0, 99), newest=some.booleans(), seconds=some.sampled_from((0, 6)))
    def somebody_orders(self, pick: int, newest: bool, seconds: float) -> None:
        self.order_what_fits(self.waiting[-1 if newest else 0], pick)
        self.runs.pass_time(seconds)

    @precondition(lambda self: self.given)
    @rule(pick=some.integers(0, 9))
    def the_same_order_comes_again(self, pick: int) -> None:
        before = self.world.ledger.head()
        assert operate(self.house, self.given[pick % len(self.given)], self.token, "another door").again
        assert self.world.ledger.head() == before

    # --- what must be so

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        if hasattr(self, "world"):
            facts = self.world.facts
            facts.catch_up()
            facts.check_weights()
            facts.check_orders()
            facts.check_stable_stands()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.end()
        finally:
            self.world.close()
            shutil.rmtree(self.root)

    def end(self) -> None:
        """Heal everything, and look at what became of each release and of one more that nobody disturbs."""
        self.world.mlflow.away = False
        self.heal()
        self.thaw()
        self.settle()
        version = self.want(self.last)
        self.settle()
        facts = self.world.facts
        facts.check_ledger()
        for name, wanted in facts.wanted:
            self.check_end(name, self.world.mlflow.kinds[wanted])
        release, newest = facts.wanted[-1]
        shown = "shadow" in str(self.house.model(MODEL).traffic.shadow or "")
        ended = LAST.get(self.last, "rolled back")
        assert newest == version
        assert facts.releases[release].phase == ended, f"{release}, {self.last}, ended as {facts.releases[release].phase} ({shown})"
        self.check_world()

    def check_end(self, name: str, kind: Kind) -> None:
        told = self.world.facts.releases[name]
        phase = ReleasePhase(told.phase)
        assert phase.terminal, f"{name} never ended: it is {phase}"
        assert phase in ENDS.get(kind, set(ReleasePhase)), f"{name} is {kind} and ended as {phase}"

    def check_world(self) -> None:
        """Nothing but stable is left anywhere, and every alias that is owed is set."""
        stable, mlflow = self.world.facts.stables[-1], self.world.mlflow
        assert {digest for _, digest in self.world.regions.began} == {stable}
        assert {place for place, _ in self.world.regions.began} == set(self.house.model(MODEL).regions)
        for edge in self.world.edges:
            assert edge.percent_of(MODEL, stable) == 100
        assert mlflow.aliases["champion"] == self.world.facts.versions[stable]
        assert alias_owed(self.world.ledger, MODEL) is None
        assert self.house.leases.current(MODEL) is None

    # --- how it is done

    @property
    def waiting(self) -> tuple[Desire, ...]:
        return unfinished(self.world.ledger, MODEL)

    def reconcile(self) -> None:
        with suppress(ConvoyError):
            self.world.reconcile()
        self.begin()

    def want(self, kind: Kind) -> str:
        """Register a version and let the alias name it, as a person does with MLflow's own client."""
        mlflow = self.world.mlflow
        away, mlflow.away = mlflow.away, False
        version = mlflow.register(kind)
        mlflow.set_alias(MODEL, "candidate", version)
        mlflow.away = away
        return version

    def begin(self) -> None:
        """Begin the runs that were asked for, as far as the runner has room."""
        for _ in self.world.started:
            if len(self.runs.alive) < MOST_AT_ONCE:
                self.runs.begin(self.world.release)
        self.world.started.clear()

    def halt(self, moments: tuple[str, int]) -> Run:
        """Let a controller on for so many moments, and stop it there; one begins where none is at work."""
        able = [run for run in self.runs.alive if not run.frozen]
        if not able and not self.waiting:
            self.want(Kind.GOOD)
            self.reconcile()
            able = [run for run in self.runs.alive if not run.frozen]
        run = able[0] if able else self.runs.begin(self.world.release)
        run.only, run.left = moments
        self.runs.pass_time(60)
        return run

    def thaw(self) -> None:
        for run in self.runs.alive:
            run.frozen = False

    def heal(self) -> None:
        for edge in self.world.edges:
            edge.become(Line.UP)

    def order_what_fits(self, desire: Desire, pick: int) -> None:
        phase = phase_of(self.world.ledger, desire.release)
        fitting = [command for command in Command if command.fits(phase) and command is not Command.ABORT] or [Command.PROMOTE]
        commands = [*fitting, *fitting, *fitting, Command.ABORT]
        self.order(desire, commands[pick % len(commands)])

    def order(self, desire: Desire, command: Command) -> None:
        seconds = 30 if command is Command.EXTEND else None
        wish = Wish(MODEL, command.value, "the test", seconds, desire.release, id=f"wish-{self.world.ledger.head().seq:05}")
        with suppress(ConvoyError):
            operate(self.house, wish, self.token, "the test")
            self.given.append(wish)
        self.begin()

    def post_new(self, version: str) -> None:
        self.posted.append((f"delivery-{len(self.posted)}", version, self.world.clock.time()))
        self.post(*self.posted[-1])

    def post(self, delivery: str, version: str, sent: float) -> None:
        """Deliver a webhook as MLflow signs it."""
        body = json.dumps(
            {"entity": "model_version_alias", "action": "created", "data": {"name": MODEL, "alias": "candidate", "version": version}}
        )
        signed = f"{delivery}.{int(sent)}.{body}".encode()
        seal = base64.b64encode(hmac.new(self.house.credentials.webhook_secret.encode(), signed, hashlib.sha256).digest()).decode()
        with suppress(ConvoyError):
            api.receive(self.house, {DELIVERY: delivery, TIMESTAMP: str(int(sent)), SIGNATURE: f"v1,{seal}"}, body.encode())
        self.begin()

    def settle(self) -> None:
        """Let reconcile and time do the rest; whoever is asked for approval says yes."""
        for _ in range(ROUNDS):
            self.world.reconcile()
            self.begin()
            self.runs.pass_time(TABLE * 3)
            for desire in self.waiting:
                if parked(self.house, desire):
                    operate(self.house, Wish(MODEL, "approve", "the test", release=desire.release), self.token, "the test")
            self.world.reconcile()
            if not self.waiting and not self.runs.alive and not self.world.started:
                return
        raise AssertionError(f"nothing ends: {self.world.facts.releases}")


logging.getLogger("traffic.keeper").setLevel(logging.ERROR)
QUICK = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    # What is found is told as it was found: to make it smaller takes minutes, which only the long one has
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
TestReleases = Releases.TestCase
TestReleases.settings = QUICK


class Long(Releases):
    """The same, for longer."""


TestReleasesLong = pytest.mark.hours(pytest.mark.timeout(0)(Long.TestCase))
TestReleasesLong.settings = settings(
    QUICK, max_examples=2000, stateful_step_count=50, derandomize=False, phases=(Phase.generate, Phase.shrink)
)
