"""What must be so at every moment: folded from the ledger as it grows, and looked at whenever an edge's routes are written."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.effects import PACKAGE
from registry.events import ChainCheck, Event, Head

if TYPE_CHECKING:
    from machine_world import World

MODEL = "toy"
ENDED_WITHOUT = ("rolled back", "superseded", "rejected")
UNDER_WAY = ("deploying", "shadowing", "canary", "baking", "promoting", "rolling back")
ONCE = ("effect.intended", "effect.completed", "phase.entered", "operator.commanded", "operator.obeyed")


@dataclass
class Told:
    """What the ledger has of one release."""

    digest: str = ""
    passed: bool = False
    refused: bool = False
    phases: list[str] = field(default_factory=list)
    approved: set[str] = field(default_factory=set)
    commands: Counter[str] = field(default_factory=Counter)
    obeyed: Counter[str] = field(default_factory=Counter)
    deployed: set[str] = field(default_factory=set)
    harmed: bool = False
    aborted: bool = False
    paused: bool = False

    @property
    def phase(self) -> str:
        return self.phases[-1] if self.phases else "requested"


class Facts:
    """The ledger folded so far; every `check` raises AssertionError in words."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chain = ChainCheck()
        self._hashes: list[str] = []
        self._once: Counter[tuple[str, str, str]] = Counter()
        self._orders: dict[str, tuple[int, int]] = {}
        self._promoted: set[str] = set()
        self.releases: defaultdict[str, Told] = defaultdict(Told)
        self.wanted: list[tuple[str, str]] = []
        self.stables: list[str] = []
        self.versions: dict[str, str] = {}
        self.epoch = 0

    def catch_up(self) -> None:
        """Take in what the ledger has gained, checked link by link."""
        for event in self._world.ledger.events(self._chain.head.seq):
            self._chain.follow(event)
            self._hashes.append(event.hash)
            self._take(event)

    def check_ledger(self) -> None:
        """The whole chain holds, and what was seen of it before is how it begins."""
        self.catch_up()
        self._world.ledger.verify()
        events = self._world.ledger.events()
        assert [event.hash for event in events] == self._hashes, "the ledger is not what it was with more behind it"
        assert self._world.ledger.head() == Head(len(events), self._hashes[-1] if events else self._chain.head.hash)

    def check_edge(self, name: str) -> None:
        """What an edge was just told to route is allowed, and not older than what it had."""
        self.catch_up()
        edge = next((edge for edge in getattr(self._world, "edges", ()) if edge.name == name), None)
        held = None if edge is None else edge.keeper._held.get(MODEL)
        if edge is None or held is None:
            return
        table = held.table
        before = self._orders.get(name, (0, 0))
        assert table.order >= before, f"edge {name} took table {table.order} after {before}"
        self._orders[name] = table.order
        lease = self._world.house.leases.recorded(MODEL)
        assert lease is not None
        assert table.epoch <= lease.epoch, f"edge {name} has epoch {table.epoch}, and no lease ever had it"
        for digest in {share.revision for share in (*held.in_force.shares_in(name), *table.safe) if share.weight}:
            self._check_may_answer(name, digest)
        if held.in_force.shadow is not None:
            self._check_may_answer(name, held.in_force.shadow.revision)
        self._check_way_back(name, {share.revision for share in table.safe if share.weight})

    def check_weights(self) -> None:
        """Each edge's Envoy deals out the whole and nothing else, as its agent means it."""
        for edge in self._world.edges:
            held = edge.keeper._held.get(MODEL)
            if held is None or edge.envoy.deaf or edge.line.name == "DEAD":
                continue
            wanted = {share.revision: share.weight for share in held.in_force.shares_in(edge.name)}
            found = {revision: edge.percent_of(MODEL, revision) for revision in wanted}
            assert sum(found.values()) == 100, f"edge {edge.name} deals out {found}"
            assert found == wanted, f"edge {edge.name} means {wanted} and deals out {found}"

    def check_stopping(self, region: str, digest: str) -> None:
        """Nothing is stopped that an edge may give a request to, and stable never is."""
        self.catch_up()
        version = self.versions.get(digest, digest)
        assert not self.stables or digest != self.stables[-1], f"stable version {version} was stopped in {region}"
        for edge in self._world.edges:
            percent = edge.percent_of(MODEL, digest)
            assert percent == 0, f"version {version} was stopped in {region} while edge {edge.name} gave it {percent:g} %"

    def check_stable_stands(self) -> None:
        """The revision that was promoted last runs in every region that it ran in."""
        if self.stables:
            for region in self._world.house.model(MODEL).regions:
                assert (region, self.stables[-1]) in self._world.regions.began, f"stable does not run in {region}"

    def check_orders(self) -> None:
        """An order is recorded and obeyed once; nothing that was judged harmful is promoted; every release ends once."""
        for name, told in self.releases.items():
            twice = {key: times for key, times in (told.commands + Counter()).items() if times > 1}
            assert not twice, f"{name} was given {twice}"
            assert all(times == 1 for times in told.obeyed.values()), f"{name} obeyed {told.obeyed}"
            assert told.obeyed.keys() <= told.commands.keys(), f"{name} obeyed what nobody ordered"

    def _check_may_answer(self, name: str, digest: str) -> None:
        version = self.versions.get(digest, digest)
        assert digest in self.versions, f"edge {name} gives requests to {digest}, which nobody packaged"
        own = [told for told in self.releases.values() if told.digest == digest]
        assert any(told.passed for told in own) or digest in self.stables, f"edge {name}: version {version} passed no gates"
        under_way = any(told.phase in UNDER_WAY for told in own)
        assert under_way or digest in self.stables[-1:], f"edge {name}: version {version} gets requests, and its release is over"
        regions = set(self._world.house.model(MODEL).quorum)
        assert any(told.deployed >= regions for told in own), f"edge {name}: version {version} was not deployed everywhere"
        if self._world.house.model(MODEL).approval.required and digest not in self.stables:
            assert any(digest in told.approved for told in own), f"edge {name}: nobody approved version {version}"

    def _check_way_back(self, name: str, safe: set[str]) -> None:
        promoting = {told.digest for told in self.releases.values() if told.phase == "promoting"}
        allowed = {*self.stables[-1:], *promoting}
        assert safe <= allowed, f"edge {name}: what is safe there is neither stable nor being promoted ({safe}, phases {self.releases})"

    def _take_command(self, release: Told, event: Event) -> None:
        match event.payload["command"]:
            case "approve":
                release.approved.add(str(event.payload["digest"]))
            case "abort":
                release.aborted = True
            case "pause":
                release.paused = True
            case "resume" | "promote":
                release.paused = False

    def _check_entered(self, name: str, release: Told) -> None:
        if release.phase == "promoting":
            assert not release.harmed, f"{name} is promoted after harm was found"
            assert not release.refused, f"{name} is promoted though a gate refused it"
            assert not release.aborted, f"{name} is promoted though it was aborted"
            assert not release.paused, f"{name} is promoted though it is paused"
        if release.phase in ENDED_WITHOUT and release.digest not in ("", *self.stables[-1:]):
            for edge in self._world.edges:
                percent = edge.percent_of(MODEL, release.digest)
                assert percent == 0, f"{name} ended as {release.phase} and edge {edge.name} gives it {percent:g} %"

    def _take(self, event: Event) -> None:
        if event.epoch:
            assert event.epoch >= self.epoch, f"event {event.seq} has epoch {event.epoch} after {self.epoch}"
            self.epoch = event.epoch
        if event.type in ONCE:
            self._take_once(event)
        kind, _, name = event.stream.partition("/")
        told = event.payload
        if kind == "model" and event.type == "candidate.observed" and told["version"] is not None:
            self.wanted.append((str(told["release"]), str(told["version"])))
        elif kind == "model" and event.type == "stable.set":
            assert told["release"] not in self._promoted, f"{told['release']} was made stable twice"
            self._promoted.add(str(told["release"]))
            self.stables.append(str(told["digest"]))
        elif kind == "release":
            self._take_release(self.releases[name], event)

    def _take_once(self, event: Event) -> None:
        what = str(event.effect_key or event.payload.get("phase") or event.intent_id)
        key = (event.stream, event.type, what)
        self._once[key] += 1
        assert self._once[key] == 1, f"{event.stream}: {event.type} of {what} stands there {self._once[key]} times"

    def _take_release(self, release: Told, event: Event) -> None:
        told = event.payload
        match event.type:
            case "phase.entered":
                release.phases.append(str(told["phase"]))
                self._check_entered(event.stream, release)
            case "effect.completed" if event.effect_key == PACKAGE:
                release.digest = str(told["digest"])
            case "effect.completed" if event.effect_key == "gates":
                release.refused = bool(told["refusals"])
                release.passed = not release.refused
            case "effect.completed" if str(event.effect_key).startswith("deploy:"):
                release.deployed.add(str(told["region"]))
            case "canary.judged":
                release.harmed = release.harmed or told["outcome"] == "roll back"
            case "operator.commanded":
                release.commands[str(event.intent_id)] += 1
                self._take_command(release, event)
            case "operator.obeyed":
                release.obeyed[str(event.intent_id)] += 1
            case _:
                pass
