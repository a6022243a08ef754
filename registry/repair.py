"""Repairing a store from its peers: SHA-256 names the bytes, so one peer that has them is enough, and who it is does not matter.

A bad copy is moved aside and never overwritten. While it is away the store lacks the blob, so nothing that was not
verified is ever read in between; what is put there is read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event

from fleet.errors import ConvoyError, IntegrityError, TransientError
from registry.lines import Line
from registry.referrers import copy_referrers
from registry.replicate import How, replicate
from registry.scrub import Fault, is_manifest
from registry.store import ContentStore

Peers = Sequence[ContentStore]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A blob that is right again: from which store it came, and under which name the bad copy lies in quarantine, if there was one."""

    digest: str
    source: str
    quarantined: str | None


def mendable(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return the faults that are about a blob, those that nothing but manifests name first: a manifest is put back behind its parts."""
    return tuple(sorted((fault for fault in faults if fault.digest), key=lambda fault: (_of_refs(fault), fault.path)))


def repair(digest: str, store: ContentStore, peers: Peers, line: Line | None = None) -> Repaired:
    """Put a blob that is wrong or missing back, from the first peer whose bytes are right; a manifest behind all its parts.

    What is sent to the store and read back from it waits for its line.

    May be repeated, killed anywhere. Raises IntegrityError when no peer has it, with a bad copy moved aside all the same, and
    TransientError when one that may have it did not answer.
    """
    problems: list[ConvoyError] = []
    for peer in peers:
        try:
            data = peer.get_blob(digest)
        except ConvoyError as problem:
            problems.append(problem)
            continue
        quarantined = store.quarantine(digest)
        if is_manifest(data):
            _bring(digest, store, peer, line)
        else:
            _put(digest, data, store, line)
        return Repaired(digest, peer.name, quarantined)
    quarantined = store.quarantine(digest)
    remedy = "Restore it from a backup, or release the version again."
    if quarantined:
        remedy = f"The bad copy lies under quarantine/{quarantined}. {remedy}"
    raise _nowhere(f"blob {digest} in store {store.name}", "is wrong or missing, and no peer has it", problems, remedy)


def bring(digest: str, store: ContentStore, peers: Peers, line: Line | None = None) -> str:
    """Copy a revision and what is kept beside it into a store that lacks it, from the first peer that has all of it; returns which.

    Parts that are wrong are moved aside. Raises IntegrityError when no peer has it whole, TransientError when one that may did not answer.
    """
    problems: list[ConvoyError] = []
    for peer in peers:
        try:
            _bring(digest, store, peer, line)
        except ConvoyError as problem:
            problems.append(problem)
            continue
        return peer.name
    raise _nowhere(f"revision {digest}", f"no peer of {store.name} has all of it", problems, "Release the version again.")


def _nowhere(subject: str, reason: str, problems: Sequence[ConvoyError], remedy: str) -> ConvoyError:
    away = [problem for problem in problems if isinstance(problem, TransientError)]
    told = "; ".join(map(str, problems)) or "there is none"
    return away[0] if away else IntegrityError(subject, f"{reason} ({told})", remedy)


def _put(digest: str, data: bytes, store: ContentStore, line: Line | None) -> None:
    if line is not None:
        line.wait(2 * len(data), Event())
    store.put_blob(digest, data)
    store.get_blob(digest)


def _bring(digest: str, store: ContentStore, peer: ContentStore, line: Line | None) -> None:
    for part in peer.manifest(digest).parts():
        _unless_wrong(store, part.digest)
    replicate(digest, peer, store, How(line))
    copy_referrers(digest, peer, store)


def _unless_wrong(store: ContentStore, digest: str) -> None:
    """Move a part aside that is there and wrong, which a copy would stop at."""
    if store.has_blob(digest):
        store.quarantine(digest)


def _of_refs(fault: Fault) -> bool:
    return any("/" in name for name in fault.named_by)
