"""What must stay stored: what serves, what a rollback brings back, and what a release under way is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet.canonical import canonical_json
from flows.desires import Why, desires, release_stream, unfinished
from flows.house import House
from flows.work import once_stable, proven_revision, release_revision
from registry.ledger import JSON

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def wanted(house: House, model: str) -> frozenset[str]:
    """Return the digests of a model's revisions that must stay in every region that serves it, by the ledger alone.

    These are the last `keep_revisions` different ones that were stable, and those of every release that has not ended.
    """
    newest = dict.fromkeys(found.digest for found in reversed(once_stable(house, model)))
    kept = set(list(newest)[: house.settings.keep_revisions])
    for desire in unfinished(house.ledger, model):
        proven = proven_revision(house, model, desire.version) if desire.why is Why.ROLLBACK else None
        kept |= {found.digest for found in (release_revision(house, desire), proven) if found is not None}
    return frozenset(kept)


def replicated(house: House, model: str) -> frozenset[str]:
    """Return the digests of every revision of a model that a release has packaged."""
    found = (release_revision(house, desire) for desire in desires(house.ledger, model))
    return frozenset(revision.digest for revision in found if revision is not None)


def named_beside(house: House, model: str, revisions: frozenset[str]) -> frozenset[str]:
    """Return every digest that the releases of some revisions, and those under way, name in the ledger.

    Golden answers and variants among them, which lie in the origin store alone.
    """
    open_ones = {desire.release for desire in unfinished(house.ledger, model)}
    named: set[str] = set()
    for desire in desires(house.ledger, model):
        revision = release_revision(house, desire)
        if desire.release in open_ones or (revision is not None and revision.digest in revisions):
            for event in house.ledger.stream(release_stream(desire.release)):
                named |= set(_digests(event.payload))
    return frozenset(named)


def _digests(payload: JSON) -> Iterator[str]:
    yield from _DIGEST.findall(canonical_json(payload).decode())
