"""The ledger under tampering: 10,000 events, changed at every hundredth place in turn, in a real database with real copies.

Each kind is tried twice: as a careless hand leaves the rows, and as one does who makes every hash, place and head row
right again, and removes the ledger's own heads behind the place. What is left then are the copies in the stores.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from sqlalchemy import delete, insert, select, update

from benchmarks.form import Row, measured
from fleet.errors import LedgerBroken
from registry.anchors import Proven, anchor_if_due, held_by, verify_all
from registry.events import GENESIS, Event, Head, NewEvent, sealed
from registry.keys import Keyring, ensure_keyring
from registry.ledger import Ledger, _columns
from registry.store import ContentStore
from registry.tables import EVENTS, HEAD, TREE_HEADS

EVENTS_IN_ALL, EVERY = 10_000, 100
SECONDS = 2.0
ROUNDS, QUICK_ROUNDS = 5, 3
QUICK_STEP = 5_000
AT_ONCE = 1_000
Tampering = Callable[[Sequence[Event], int], list[Event]]


def _edit(events: Sequence[Event], at: int) -> list[Event]:
    return [*events[:at], replace(events[at], payload={**events[at].payload, "weight": 100}), *events[at + 1 :]]


def _drop(events: Sequence[Event], at: int) -> list[Event]:
    return [*events[:at], *events[at + 1 :]]


def _swap(events: Sequence[Event], at: int) -> list[Event]:
    swapped = [replace(events[at], seq=events[at - 1].seq), replace(events[at - 1], seq=events[at].seq)]
    return [*events[: at - 1], *swapped, *events[at + 1 :]]


def _cut(events: Sequence[Event], at: int) -> list[Event]:
    return list(events[:at])


TAMPERINGS: dict[str, Tampering] = {"edited": _edit, "dropped": _drop, "swapped": _swap, "cut off from there": _cut}


@dataclass(frozen=True)
class Site:
    """A signed ledger of a release's kind of events, and two regions' stores."""

    ledger: Ledger
    keys: Keyring
    stores: dict[str, ContentStore]
    events: tuple[Event, ...]

    def verify(self) -> Proven:
        """Do what `convoy ledger verify` does, the reading of the stores included."""
        return verify_all(self.ledger, self.keys.trusted, {name: held_by(store, name) for name, store in self.stores.items()})

    def put(self, events: Sequence[Event], heads: int) -> None:
        """Put these rows in the place of all, with a head row that fits; keep so many signed heads."""
        with self.ledger.database.writing() as connection:
            connection.execute(delete(EVENTS))
            for first in range(0, len(events), AT_ONCE):
                connection.execute(insert(EVENTS), [_columns(event) for event in events[first : first + AT_ONCE]])
            connection.execute(update(HEAD).values(seq=events[-1].seq, hash=events[-1].hash))
            connection.execute(delete(TREE_HEADS).where(TREE_HEADS.c.number > heads))


def rows(quick: bool) -> list[Row]:
    """Return every row; the quick run changes fewer places."""
    step = QUICK_STEP if quick else EVERY
    root = Path(tempfile.mkdtemp(prefix="convoy-ledger-"))
    try:
        _sign(root)
        with _site(root) as site:
            times = list(_times(site, QUICK_ROUNDS if quick else ROUNDS))
        ways = [(root, name, careful, step) for name in TAMPERINGS for careful in (False, True)]
        # Behind the times, which are measured alone: here what counts is what is found
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            return [*times, *pool.map(_way, ways)]
    finally:
        shutil.rmtree(root)


def _way(way: tuple[Path, str, bool, int]) -> Row:
    """Return how many places of one way of tampering were not found, in a copy of the site."""
    root, name, careful, step = way
    with tempfile.TemporaryDirectory(prefix="convoy-ledger-") as scratch:
        own = Path(scratch) / "site"
        shutil.copytree(root, own)
        with _site(own) as site:
            return _missed(site, name, careful, step)


def _times(site: Site, rounds: int) -> Iterator[Row]:
    subjects = {
        "chain, 100 signed heads, copies in two stores": (site.verify, SECONDS),
        "chain and heads' roots, as each flow does first": (site.ledger.verify, None),
        "floor: only reading the rows": (lambda: _read(site), None),
    }
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for position in range(rounds + 1):
        for name, (act, _) in subjects.items():
            began = time.perf_counter()
            act()
            if position:
                taken[name].append(time.perf_counter() - began)
    for name, (_, target) in subjects.items():
        yield measured(f"{EVENTS_IN_ALL:,} events verified", name, taken[name], "s", target)


def _missed(site: Site, name: str, careful: bool, step: int) -> Row:
    """Return how many of the changed places a verification did not find."""
    missed = tried = 0
    heads = site.ledger.tree_heads()
    for place in range(step, EVENTS_IN_ALL + 1, step):
        changed = TAMPERINGS[name](site.events, place - 1)
        # One who is careful removes what would tell on him; another does not know of it
        keep = (place - 1) // EVERY if careful else len(heads)
        site.put(_resealed(changed) if careful else changed, keep)
        tried += 1
        try:
            site.verify()
            missed += 1
        except LedgerBroken:
            pass
        with site.ledger.database.writing() as connection:
            lost = [{"number": signed.head.number, "envelope": signed.data.decode()} for signed in heads[keep:]]
            if lost:
                connection.execute(insert(TREE_HEADS), lost)
    site.put(site.events, len(heads))
    site.verify()
    how = "every hash made right again" if careful else "the rows alone"
    return Row(f"an event {name}, {how}", f"not found, of {tried} places", float(missed), "places", None, tried, 0.0)


STORES = ("us", "eu")


def _sign(root: Path) -> None:
    """Write a ledger below a folder, signed after every hundred events, with copies in two stores."""
    with _site(root) as site:
        site.ledger.migrate()
        for first in range(0, EVENTS_IN_ALL, EVERY):
            _append(site.ledger, site.events[first : first + EVERY])
            anchor_if_due(site.ledger, site.keys, site.stores, EVERY)


@contextmanager
def _site(root: Path) -> Iterator[Site]:
    """Open the ledger below a folder."""
    ledger = Ledger(f"sqlite:///{root / 'ledger.db'}")
    stores = {name: ContentStore.at(root / name) for name in STORES}
    try:
        yield Site(ledger, ensure_keyring(root / "keys"), stores, tuple(_chain()))
    finally:
        ledger.close()


def _append(ledger: Ledger, events: Sequence[Event]) -> None:
    with ledger.database.writing() as connection:
        connection.execute(insert(EVENTS), [_columns(event) for event in events])
        connection.execute(update(HEAD).values(seq=events[-1].seq, hash=events[-1].hash))


def _chain() -> Iterator[Event]:
    """Yield events as a canary's looks write them, over a hundred releases."""
    began, head = datetime(2026, 11, 22, tzinfo=UTC), Head(0, GENESIS)
    for number in range(EVENTS_IN_ALL):
        counts = [{"revision": f"sha256:{side * 64}", "attempts": 37 + number % 5, "bad": number % 3, "region": "eu"} for side in "ab"]
        new = NewEvent(f"release/employment-{number % 100}", "canary.judged", {"weight": number % 51, "counts": counts}, "release flow", 3)
        event = sealed(new, head, number // 100 + 1, began + timedelta(seconds=number))
        head = Head(event.seq, event.hash)
        yield event


def _resealed(events: Sequence[Event]) -> list[Event]:
    head, places, found = Head(0, GENESIS), dict[str, int](), []
    for event in events:
        places[event.stream] = places.get(event.stream, 0) + 1
        new = NewEvent(event.stream, event.type, event.payload, event.actor, event.epoch)
        event = sealed(new, head, places[event.stream], event.at)
        head = Head(event.seq, event.hash)
        found.append(event)
    return found


def _read(site: Site) -> None:
    with site.ledger.database.reading() as connection:
        connection.execute(select(EVENTS).order_by(EVENTS.c.seq)).all()
