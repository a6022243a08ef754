"""Garbage: what nothing needs gets a tombstone, and is deleted once that has stood long enough and still nothing needs it.

A blob gets no tombstone while it is young: a copy puts blobs before the manifest that names them. `sweep` looks anew at what is
needed before it deletes, asks its guard before each deletion, deletes manifests before their parts and no part of a manifest
that stays. So nobody ever meets a manifest without its parts, whoever is killed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.canonical import canonical_json
from fleet.errors import IntegrityError, UnknownName
from registry import entropy
from registry.events import read_stamp, stamp
from registry.scrub import BLOBS, begins_as_manifest, is_manifest
from registry.store import ContentStore, Stored

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_REFERRER = re.compile(r"referrers/([0-9a-f]{64})/([0-9a-f]{64})")
_REF = re.compile(r"refs/(.+)/\d{12}-\d{12}")
TREES = "trees/"


@dataclass(frozen=True, slots=True)
class Marked:
    """What a mark did: tombstones set and taken away again, and the bytes that may be deleted once they are old enough."""

    set: int
    taken_away: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: the blobs that it deleted, their bytes, and how many were needed again."""

    deleted: tuple[str, ...]
    bytes: int
    needed: int


def reachable(store: ContentStore, needed: Iterable[str]) -> frozenset[str]:
    """Return every digest that must stay in a store: what is needed, what its refs name, and whatever those consist of.

    A revision brings its parts and what is kept beside it, a tree its nodes. Raises IntegrityError when a manifest or a
    tree cannot be read, for then nobody knows.
    """
    refs, beside = _names(store)
    found: set[str] = set()
    for name in sorted(refs):
        found |= _of_ref(store, name)
    waiting = list(found | set(needed))
    found = set()
    while waiting:
        digest = waiting.pop()
        if digest in found:
            continue
        found.add(digest)
        waiting += beside.get(digest, ())
        waiting += _parts(store, digest)
    return frozenset(found)


def mark(store: ContentStore, needed: Iterable[str], before: datetime, now: datetime) -> Marked:
    """Set a tombstone for each blob that nothing needs and that was written before a moment; take those of needed ones away.

    Raises IntegrityError, with nothing marked, when it cannot be known what is needed.
    """
    keep = reachable(store, needed)
    dead = _tombstones(store)
    new = away = size = 0
    for digest, found in _blobs(store).items():
        if digest in keep:
            if digest in dead:
                store.unmark(digest)
                away += 1
            continue
        size += found.size
        if digest not in dead and found.at < before:
            store.note("tombstones", _hex(digest), canonical_json({"at": stamp(now), "size": found.size}))
            new += 1
    return Marked(new, away, size)


def due(store: ContentStore, before: datetime) -> frozenset[str]:
    """Return what has had a tombstone since before a moment."""
    return frozenset(digest for digest, at in _tombstones(store).items() if at < before)


def sweep(store: ContentStore, needed: Iterable[str], before: datetime, guard: Callable[[], None]) -> Swept:
    """Delete what has had a tombstone since before a moment and is still not needed; `guard` raises to end it at once.

    May be repeated, killed anywhere. Raises IntegrityError, with nothing deleted, when it cannot be known what is needed.
    """
    keep = reachable(store, needed)
    blobs = _blobs(store)
    dying: list[str] = []
    again = 0
    for digest, at in _tombstones(store).items():
        if digest in keep or digest not in blobs:
            guard()
            store.unmark(digest)
            again += digest in keep
        elif at < before:
            dying.append(digest)
    dying = _beyond_other_manifests(store, blobs, dying, keep)
    _forget_beside(store, frozenset(dying), guard)
    deleted = []
    for digest in sorted(dying, key=lambda each: (not _is_revision(store, blobs[each]), each)):
        guard()
        store.delete_blob(digest)
        deleted.append(digest)
    return Swept(tuple(deleted), sum(blobs[digest].size for digest in deleted), again)


def _beyond_other_manifests(store: ContentStore, blobs: Mapping[str, Stored], dying: Sequence[str], keep: Collection[str]) -> list[str]:
    """Leave out what a manifest consists of that stays: one that nothing needs yet, for whoever packaged it was killed right then."""
    leaving = {*keep, *dying}
    staying = (digest for digest in blobs if digest not in leaving)
    used = {part for digest in staying for part in _parts(store, digest)}
    return [digest for digest in dying if digest not in used]


def _names(store: ContentStore) -> tuple[set[str], dict[str, list[str]]]:
    """Return the names of a store's refs, and which documents are beside which digest."""
    refs = {match[1] for found in store.objects("refs") if (match := _REF.fullmatch(found.path))}
    beside: dict[str, list[str]] = defaultdict(list)
    for found in store.objects("referrers"):
        if match := _REFERRER.fullmatch(found.path):
            beside[f"sha256:{match[1]}"].append(f"sha256:{match[2]}")
    return refs, beside


def _of_ref(store: ContentStore, name: str) -> set[str]:
    if name.startswith(TREES):
        return set(entropy.nodes(store, name.removeprefix(TREES)))
    found = store.resolve(name)
    return {found.digest} if found else set()


def _parts(store: ContentStore, digest: str) -> list[str]:
    found = store.blob(digest)
    if found is None or not _is_revision(store, found):
        return []
    return [part.digest for part in store.manifest(digest).parts()]


def _is_revision(store: ContentStore, found: Stored) -> bool:
    """Say whether a blob is a manifest; one that begins as one is read whole."""
    digest = f"sha256:{found.path.removeprefix(BLOBS)}"
    if not begins_as_manifest(store.begin(digest)):
        return False
    try:
        return is_manifest(store.get_part(digest))
    except IntegrityError:
        # A part that rotted into looking like one, or a manifest that is wrong: it is read anew by whoever needs it
        return True


def _blobs(store: ContentStore) -> dict[str, Stored]:
    return {f"sha256:{match[1]}": found for found in store.objects(BLOBS) if (match := _BLOB.fullmatch(found.path))}


def _tombstones(store: ContentStore) -> dict[str, datetime]:
    """Return since when each tombstone stands; one that cannot be read is taken away, for nobody knows."""
    found = {}
    for name in store.notes("tombstones"):
        digest = f"sha256:{name}"
        try:
            found[digest] = read_stamp(str(json.loads(store.noted("tombstones", name))["at"]))
        except UnknownName:
            continue
        except (ValueError, KeyError, TypeError):
            store.unmark(digest)
    return found


def _forget_beside(store: ContentStore, gone: frozenset[str], guard: Callable[[], None]) -> None:
    """Take the notes away that lead from or to what is deleted, before it is."""
    for found in list(store.objects("referrers")):
        match = _REFERRER.fullmatch(found.path)
        if match and (f"sha256:{match[1]}" in gone or f"sha256:{match[2]}" in gone):
            guard()
            store.forget_referrer(f"sha256:{match[1]}", f"sha256:{match[2]}")


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
