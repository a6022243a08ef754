"""Collecting garbage: what no region serves, no rollback needs and no release under way is made of is deleted, after a while.

A release or rollback comes first. Marking changes nothing that anybody reads. To sweep, every model's lease is held, so that
nobody copies meanwhile, and given back at once when a release was asked for; what such a release needs is then in the ledger.
Where one region cannot be asked, nothing is deleted in any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from fleet.errors import Busy
from flows.desires import model_stream, unfinished
from flows.house import House
from flows.tending import ORIGIN, PREFIX, Tell, store_of
from flows.wanted import named_beside, wanted
from flows.work import Claim, claim
from registry import entropy
from registry.garbage import Marked, Swept, due, mark, sweep
from registry.ledger import JSON, NewEvent
from registry.store import ContentStore

MARKED, SWEEPING, SWEPT = "garbage.marked", "garbage.sweeping", "garbage.swept"
MOST_TOLD = 100
MIB = 1 << 20


@dataclass
class Collected:
    """What was marked and deleted, store by store, and why nothing was deleted where that is so."""

    marked: dict[str, Marked] = field(default_factory=dict)
    swept: dict[str, Swept] = field(default_factory=dict)
    put_off: str = ""

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        tombstones = sum(found.set for found in self.marked.values())
        deleted = sum(len(found.deleted) for found in self.swept.values())
        size = sum(found.bytes for found in self.swept.values())
        later = f"; the rest later: {self.put_off}" if self.put_off else ""
        return f"{tombstones} tombstones set, {deleted} blobs deleted ({size / MIB:.1f} MiB){later}"


def collect(house: House, claimed: Claim, actor: str, tell: Tell, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Collected:
    """Set tombstones in every store, and delete what has had one for `garbage_days` and is still not needed.

    May be repeated, killed anywhere. Raises what a region answers that cannot be asked, with nothing deleted anywhere; a
    release that is under way or begins puts the deleting off, which `put_off` says.
    """
    stores = {name: store_of(house, name) for name in (ORIGIN, *house.fleet.regions)}
    models = known_models(house)
    found = Collected()
    before = now() - timedelta(days=house.settings.garbage_days)
    needed = needed_of(house, models, stores)
    for name, store in stores.items():
        claimed.check(house)
        forget_unwanted(house, store, models)
        found.marked[name] = mark(store, needed, before, now())
        if found.marked[name].set:
            _record(house, name, MARKED, {"set": found.marked[name].set}, actor)
    try:
        # Anew: what began since is in the ledger now, and nothing begins while the models are held
        models = known_models(house)
        with held_models(house, models, actor) as guard:
            needed = needed_of(house, models, stores)
            for name, store in stores.items():
                found.swept[name] = sweep_store(house, (name, store), needed, before, guard, actor)
    except Busy as problem:
        found.put_off = f"{problem.subject} {problem.reason}"
    tell(found.sentence)
    return found


def sweep_store(
    house: House, named: tuple[str, ContentStore], needed: frozenset[str], before: datetime, guard: Callable[[], None], actor: str
) -> Swept:
    """Sweep one store, with the intent in the ledger before it and what was deleted after it."""
    name, store = named
    if waiting := due(store, before):
        _record(house, name, SWEEPING, {"before": before.isoformat(), "due": len(waiting)}, actor)
    swept = sweep(store, needed, before, guard)
    if swept.deleted:
        told: list[JSON] = list(swept.deleted[:MOST_TOLD])
        _record(house, name, SWEPT, {"deleted": len(swept.deleted), "bytes": swept.bytes, "told": told}, actor)
    return swept


def needed_of(house: House, models: tuple[str, ...], stores: Mapping[str, ContentStore]) -> frozenset[str]:
    """Return every digest that must stay, as the ledger, each region's store and what runs there say; raises where one cannot be asked."""
    needed: set[str] = set()
    for model in models:
        kept = wanted(house, model)
        needed |= kept | named_beside(house, model, kept)
        needed |= {ref.digest for store in stores.values() if (ref := store.resolve(model)) is not None}
        # Wherever it may still run: what fleet.yaml takes out of a region runs on until every edge was seen without it
        for region in house.fleet.regions:
            needed |= {status.revision for status in house.target(region).status(model, region)}
    return frozenset(needed)


def known_models(house: House) -> tuple[str, ...]:
    """Return every model that is declared or that the ledger knows of, sorted."""
    recorded = (stream.removeprefix(model_stream("")) for stream in house.ledger.streams(model_stream("")))
    return tuple(sorted({*house.fleet.models, *recorded}))


def forget_unwanted(house: House, store: ContentStore, models: tuple[str, ...]) -> None:
    """Take out of a store's trees what need not stay, so that no region is given it again."""
    for model in models:
        if entropy.root(store, model) is not None:
            gone = set(entropy.members(store, model)) - wanted(house, model)
            entropy.change(store, model, remove=gone)


@contextmanager
def held_models(house: House, models: tuple[str, ...], actor: str) -> Iterator[Callable[[], None]]:
    """Hold every model's lease while the block runs; gives the guard that raises Busy once one is lost or a release is asked for.

    Raises Busy, holding none, when one is somebody else's.
    """
    with ExitStack() as stack:
        claims: list[Claim] = []
        for model in models:
            held = stack.enter_context(claim(house, model, actor))
            if held is None:
                raise Busy(f"model '{model}'", "is held by a release", "It comes first.")
            claims.append(held)
        head = house.ledger.head().seq
        asked = _asked(house, models)

        def guard() -> None:
            nonlocal head
            for held in claims:
                held.check(house)
            if (now := house.ledger.head().seq) != head:
                head = now
                # Of any model: one that nobody knew has no lease here
                if new := _asked(house, known_models(house)) - asked:
                    raise Busy(min(new), "was asked for meanwhile", "It comes first.")

        yield guard


def _asked(house: House, models: tuple[str, ...]) -> frozenset[str]:
    return frozenset(desire.release for model in models for desire in unfinished(house.ledger, model))


def _record(house: House, name: str, kind: str, payload: Mapping[str, JSON], actor: str) -> None:
    house.ledger.append(NewEvent(PREFIX + name, kind, dict(payload), actor))
