"""Tending the stores: each is scrubbed, what is wrong or missing is brought from its peers, and what the regions hold is compared.

Nothing here needs Prefect. The ledger has what every pass found and, before and after it, every repair.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from clouds.serving import Deployment
from clouds.unpacked import unpacked
from fleet.canonical import short
from fleet.errors import Busy, ConvoyError, IntegrityError, LedgerBroken, Refused, UnknownName
from fleet.transfers import grants_for
from flows.crossing import line_to
from flows.house import House
from flows.wanted import replicated, wanted
from flows.work import Claim, claim
from registry import entropy
from registry.closed_world import differences
from registry.ledger import JSON, NewEvent
from registry.lines import Line
from registry.repair import bring, mendable, repair
from registry.scrub import Kind, Pace, Scrubbed, ScrubIndex, scrub
from registry.store import ContentStore

ORIGIN = "origin"
STORES = ".stores"
"""The lease of whoever tends the stores; no model can be called so."""
PREFIX = "store/"
SCRUBBED, INTENDED, REPAIRED, LEFT = "scrub.ended", "repair.intended", "repair.completed", "repair.failed"
MOST_TOLD, MOST_FILES = 100, 5
Tell = Callable[[str], None]
Result = TypeVar("Result")


@dataclass
class Tended:
    """What was found and done, store by store: each pass, each repair in words, and what could not be repaired."""

    passes: dict[str, Scrubbed] = field(default_factory=dict)
    repaired: list[str] = field(default_factory=list)
    problems: list[ConvoyError] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        read = sum(found.read for found in self.passes.values())
        faults = sum(len(found.faults) for found in self.passes.values())
        left = f", {len(self.problems)} problems left" if self.problems else ""
        return f"{read} blobs read in {len(self.passes)} stores, {faults} faults, {len(self.repaired)} repairs{left}"


@dataclass(frozen=True)
class Tending:
    """One run of it: the stores that could be opened, who does it, and how it tells."""

    house: House
    stores: Mapping[str, ContentStore]
    claim: Claim
    actor: str
    tell: Tell
    found: Tended

    def peers(self, name: str) -> Sequence[ContentStore]:
        """Return the stores from which another is repaired: those of its provider, then the origin, then the rest."""
        regions = self.house.fleet.regions
        near = [other for other in regions if name in regions and regions[other].provider == regions[name].provider]
        return [self.stores[other] for other in dict.fromkeys((*near, *self.stores)) if other in self.stores and other != name]

    def line(self, name: str) -> Line | None:
        """Return the bounded line to a store, None where it has none."""
        return None if name == ORIGIN else line_to(self.house, name)

    def record(self, name: str, kind: str, payload: Mapping[str, JSON], intent: str | None = None) -> None:
        """Append one event to a store's stream."""
        self.house.ledger.append(NewEvent(PREFIX + name, kind, dict(payload), self.actor, intent_id=intent))

    def mend(self, name: str, what: Mapping[str, JSON], act: Callable[[], str]) -> None:
        """Repair something: the intent first, then the act, which says what it did, then its completion or why it failed."""
        self.claim.check(self.house)
        intent = uuid.uuid4().hex
        self.record(name, INTENDED, what, intent)
        try:
            done = act()
        except LedgerBroken:
            raise
        except ConvoyError as problem:
            self.record(name, LEFT, {**what, "reason": f"{problem.subject}: {problem.reason}"}, intent)
            self.found.problems.append(problem)
            self.tell(f"{name}: {problem}")
            return
        self.record(name, REPAIRED, {**what, "done": done}, intent)
        self.found.repaired.append(f"{name}: {done}")
        self.tell(f"{name}: {done}")

    def attempt(self, name: str, look: Callable[[], Result]) -> Result | None:
        """Return what a look gives; None where it cannot be had now, which keeps no other store from being looked at."""
        try:
            return look()
        except LedgerBroken:
            raise
        except ConvoyError as problem:
            self.found.problems.append(problem)
            self.tell(f"{name}: {problem}")
            return None


def open_stores(house: House, found: Tended) -> dict[str, ContentStore]:
    """Return the origin's and every region's store; one that cannot be opened is a problem of its own."""
    stores = {}
    for name in (ORIGIN, *house.fleet.regions):
        try:
            stores[name] = store_of(house, name)
        except ConvoyError as problem:
            found.problems.append(problem)
    return stores


def store_of(house: House, name: str) -> ContentStore:
    """Return the store of a region, or the origin's."""
    return house.origin if name == ORIGIN else house.region_store(name)


def tend(house: House, claimed: Claim, actor: str, tell: Tell, only: str | None = None, everything: bool = False) -> Tended:
    """Scrub all stores, or one, and repair them from one another; then compare what the regions hold, and what they serve from.

    Reads what was not read for `scrub_days`, or everything. Raises UnknownName for a store that there is not; whatever
    goes wrong with one store stands in `problems`, and the others are tended all the same.
    """
    found = Tended()
    tending = Tending(house, open_stores(house, found), claimed, actor, tell, found)
    names = [name for name in tending.stores if only in (None, name)]
    if only is not None and only not in (ORIGIN, *house.fleet.regions):
        raise UnknownName(f"region '{only}'", f"is not declared (known: {', '.join((ORIGIN, *house.fleet.regions))})")
    since = datetime.now(UTC) - (timedelta() if everything else timedelta(days=house.settings.scrub_days))
    for name in names:
        tending.attempt(name, partial(scrub_store, tending, name, since))
    for model in house.fleet.models:
        compare(tending, model, names)
    for name in names:
        tending.attempt(name, partial(check_unpacked, tending, name))
    return found


def scrub_store(tending: Tending, name: str, since: datetime) -> None:
    """Scrub one store and repair what is wrong or missing in it."""
    house, store = tending.house, tending.stores[name]
    pace = Pace(house.settings.scrub_bytes_per_second)
    with ScrubIndex.at(house.home.scrub_index(name)) as index:
        found = scrub(store, index, pace, since, lambda: datetime.now(UTC))
    tending.found.passes[name] = found
    told: list[JSON] = [
        {"kind": fault.kind.value, "path": fault.path, "why": fault.why, "named_by": list(fault.named_by[:MOST_TOLD])}
        for fault in found.faults[:MOST_TOLD]
    ]
    tending.record(
        name, SCRUBBED, {"blobs": found.blobs, "read": found.read, "bytes": found.bytes, "faults": len(found.faults), "told": told}
    )
    for fault in found.faults:
        tending.tell(f"{name}: {fault.path} {fault.why}")
        if fault.digest is None and fault.kind is not Kind.ALIEN:
            remedy = f"Look at the object in store {store.name}."
            tending.found.problems.append(IntegrityError(f"{fault.path} in store {store.name}", fault.why, remedy))
    for fault in mendable(found.faults):
        digest = str(fault.digest)
        tending.mend(name, {"digest": digest, "kind": fault.kind.value}, partial(_repaired, tending, name, digest))


def _repaired(tending: Tending, name: str, digest: str) -> str:
    done = repair(digest, tending.stores[name], tending.peers(name), tending.line(name))
    aside = f", the bad copy lies under quarantine/{done.quarantined}" if done.quarantined else ""
    return f"blob {digest} came from {done.source}{aside}"


def compare(tending: Tending, model: str, only: Sequence[str]) -> None:
    """Have every region of a model hold the same of those revisions that must stay, by the roots of what each holds.

    The origin has no tree: it must hold all of them, for a rollback takes them from there.
    """
    regions = [name for name in tending.house.model(model).regions if name in tending.stores]
    held = [name for name in regions if tending.attempt(name, partial(begun, tending, name, model))]
    kept = tending.attempt(model, partial(wanted, tending.house, model)) or frozenset()
    lacked = tending.attempt(model, partial(missing_of, tending, model, held)) or {}
    for name in [each for each in (ORIGIN, *held) if each in only]:
        lost = tending.attempt(name, partial(_lost, tending, name, model, kept)) or frozenset()
        missing = (lacked.get(name, frozenset()) & kept) | lost
        for digest in sorted(missing) if _may_lie(tending, name, model, missing) else ():
            what: Mapping[str, JSON] = {"digest": digest, "kind": "revision", "model": model}
            tending.mend(name, what, partial(_brought, tending, name, model, digest))


def _lost(tending: Tending, name: str, model: str, kept: frozenset[str]) -> frozenset[str]:
    """Return what must stay and is not in a store that should have it: all of it in the origin, in a region what its tree lists."""
    store = tending.stores[name]
    listed = kept if name == ORIGIN else kept.intersection(entropy.members(store, model))
    return frozenset(digest for digest in listed if not store.has_blob(digest))


def _may_lie(tending: Tending, name: str, model: str, lacked: frozenset[str]) -> bool:
    """Whether a store may be given a model's revisions; a region that must not have what it lacks is as it must be, and told."""
    if name == ORIGIN or not lacked:
        return True
    try:
        grants_for(tending.house.fleet, model, name, datetime.now(UTC))
    except Refused as problem:
        tending.tell(f"{name}: {len(lacked)} revisions are not brought there: {problem}")
        return False
    return True


def missing_of(tending: Tending, model: str, regions: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return what each region lacks; where a tree is damaged, it is made anew first."""
    try:
        return lacking(tending, model, regions)
    except IntegrityError:
        for name in regions:
            mend_tree(tending, name, model)
        return lacking(tending, model, regions)


def lacking(tending: Tending, model: str, regions: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return what each region lacks of the revisions that any other holds, reading only what differs."""
    if not regions:
        return {}
    first, *others = regions
    seen = {name: entropy.differences(tending.stores[first], tending.stores[name], model) for name in others}
    beyond = frozenset[str]().union(*(found.only_second for found in seen.values()))
    return {first: beyond, **{name: found.only_first | (beyond - found.only_second) for name, found in seen.items()}}


def begun(tending: Tending, name: str, model: str) -> bool:
    """Have a region's tree of a model's revisions: one that nobody made yet, or that lost a node, is made from what is there."""
    seen = tending.found.passes.get(name)
    if entropy.root(tending.stores[name], model) is None:
        _made(tending, name, model)
    elif seen is not None and seen.faults:
        mend_tree(tending, name, model)
    return True


def mend_tree(tending: Tending, name: str, model: str) -> None:
    """Make a region's tree anew where a node of it is wrong or missing."""
    store = tending.stores[name]
    try:
        for _ in entropy.nodes(store, model):
            pass
    except IntegrityError as problem:
        tending.tell(f"{name}: the tree of {model} is made anew: {problem.subject} {problem.reason}")
        _made(tending, name, model)


def _made(tending: Tending, name: str, model: str) -> None:
    store = tending.stores[name]
    entropy.replace(store, model, [digest for digest in replicated(tending.house, model) if store.has_blob(digest)])


def _brought(tending: Tending, name: str, model: str, digest: str) -> str:
    store = tending.stores[name]
    source = bring(digest, store, tending.peers(name), tending.line(name))
    if name != ORIGIN:
        entropy.change(store, model, add=[digest])
    return f"revision {short(digest)} of {model} came from {source}"


def check_unpacked(tending: Tending, region: str) -> None:
    """Hold the files that a region serves from against their digest; what differs is unpacked again.

    A process that runs already holds what it checked as it started.
    """
    house = tending.house
    if region == ORIGIN:
        return
    for deployment, folder in unpacked(house.target(region), region):
        manifest = tending.stores[region].manifest(deployment.digest)
        if wrong := differences(folder, manifest)[:MOST_FILES]:
            tending.tell(f"{region}: the unpacked {short(deployment.digest)} of {deployment.model} differs: {'; '.join(wrong)}")
            what: Mapping[str, JSON] = {"digest": deployment.digest, "kind": "unpacked", "model": deployment.model, "wrong": list(wrong)}
            tending.mend(region, what, partial(_unpacked_again, tending, deployment))


def _unpacked_again(tending: Tending, deployment: Deployment) -> str:
    house, model, region = tending.house, deployment.model, deployment.region
    with claim(house, model, tending.actor) as held:
        if held is None:
            raise Busy(f"model '{model}'", "is held by a release", "Its files are unpacked again by the next run.")
        house.target(region).deploy(deployment, house.fetch_from(region))
    return f"the files of {model} were unpacked again"
