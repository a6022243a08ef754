"""The golden set of a release: left by its gates in the origin store, named by digest in its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.canonical import digest_of
from fleet.versions import Revision
from flows import effects
from flows.desires import desires, release_stream
from flows.house import House
from flows.work import Work, release_revision
from policies.golden import GoldenAnswers, golden_file
from policies.golden_set import GoldenSet
from registry.ledger import JSON


@dataclass(frozen=True, slots=True)
class Kept:
    """A golden set with the release that it is of, and its digest in the origin store."""

    release: str
    digest: str
    golden: GoldenSet


def keep(work: Work) -> JSON:
    """Store the golden set that the gates left, if they left one, and return what the ledger says of it."""
    file = golden_file(work.folder / "gates" / GoldenAnswers.name.replace(" ", "-"))
    if not file.is_file():
        return None
    data = file.read_bytes()
    golden = GoldenSet.from_bytes(data)
    work.house.origin.put_blob(digest_of(data), data)
    return {"digest": digest_of(data), "rows": len(golden.rows), "origin": golden.origin}


def golden_set(house: House, release: str) -> GoldenSet | None:
    """Return the golden set of a release, None where its gates left none."""
    kept = kept_by(house, release)
    return None if kept is None else kept.golden


def kept_by(house: House, release: str) -> Kept | None:
    """Return what the gates of a release left in the origin store; raises IntegrityError for a blob that is wrong or gone."""
    for event in reversed(house.ledger.stream(release_stream(release), "effect.completed")):
        told = event.payload.get("golden") if event.effect_key == effects.GATES else None
        if isinstance(told, Mapping):
            digest = str(told["digest"])
            return Kept(release, digest, GoldenSet.from_bytes(house.origin.get_part(digest)))
    return None


def kept_of(house: House, revision: Revision) -> Kept | None:
    """Return the newest golden set of a revision, whichever release brought it; None where there is none."""
    for desire in reversed(desires(house.ledger, revision.model)):
        found = release_revision(house, desire)
        if found is not None and found.digest == revision.digest and (kept := kept_by(house, desire.release)) is not None:
            return kept
    return None
