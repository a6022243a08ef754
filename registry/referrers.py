"""What says something of a revision, kept beside it, each a blob of its own.

Attestations, bills of materials, the manifests of its images, what tuning it gave, and optimised variants of it.

A blob comes before the note that names it, and both are create-only; who reads checks the blob against its digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from fleet.canonical import canonical_json, digest_of
from fleet.errors import IntegrityError
from registry.store import ContentStore

ATTESTATION = "application/vnd.dsse.envelope.v1+json"
BOM = "application/vnd.cyclonedx+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
"""An image of the revision: its digest is the document's own, as a registry names it."""
TUNING = "application/vnd.convoy.tuning.v1+json"
VARIANT = "application/vnd.convoy.variant.v1+json"


@dataclass(frozen=True, slots=True)
class Referrer:
    """One document about a revision."""

    digest: str
    media_type: str
    size: int


def attach(store: ContentStore, subject: str, media_type: str, data: bytes) -> Referrer:
    """Keep a document beside a revision and return how it is found; the same one again changes nothing."""
    referrer = Referrer(digest_of(data), media_type, len(data))
    store.put_blob(referrer.digest, data)
    note = canonical_json({"digest": referrer.digest, "mediaType": media_type, "size": referrer.size})
    store.note("referrers", f"{_hex(subject)}/{_hex(referrer.digest)}", note)
    return referrer


def referrers(store: ContentStore, subject: str) -> tuple[Referrer, ...]:
    """Return what is kept beside a revision, in the order of the digests; raises IntegrityError for a note that is none."""
    return tuple(_read(store, subject, name) for name in store.notes("referrers", _hex(subject)))


def documents(store: ContentStore, subject: str, media_type: str) -> tuple[bytes, ...]:
    """Return the documents of one type beside a revision, each checked against its digest."""
    return tuple(store.get_part(found.digest) for found in referrers(store, subject) if found.media_type == media_type)


def copy_referrers(subject: str, source: ContentStore, target: ContentStore) -> int:
    """Copy what is kept beside a revision to another store; returns how many documents that were not there."""
    there = {found.digest for found in referrers(target, subject)}
    missing = [found for found in referrers(source, subject) if found.digest not in there]
    for found in missing:
        attach(target, subject, found.media_type, source.get_part(found.digest))
    return len(missing)


def _read(store: ContentStore, subject: str, name: str) -> Referrer:
    where = f"{_hex(subject)}/{name}"
    try:
        document = json.loads(store.noted("referrers", where))
        found = Referrer(str(document["digest"]), str(document["mediaType"]), int(document["size"]))
        if _hex(found.digest) != name:
            raise ValueError("it names another")
    except (ValueError, KeyError, TypeError) as problem:
        raise IntegrityError(f"referrers/{where} in store {store.name}", "does not name a document", "Look at the object.") from problem
    return found


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
