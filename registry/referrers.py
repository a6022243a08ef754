"""What says something of a revision, kept beside it, each a blob of its own.

Attestations, bills of materials, the manifests of its images, how it was tuned, and what is known of its variants.

A blob comes before the note that names it, and both are create-only; who reads checks the blob against its digest.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from fleet.canonical import canonical_json, digest_of
from fleet.errors import IntegrityError
from fleet.tuning import when_tuned
from registry.store import ContentStore

ATTESTATION = "application/vnd.dsse.envelope.v1+json"
BOM = "application/vnd.cyclonedx+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
"""An image of the revision: its digest is the document's own, as a registry names it."""
TUNING = "application/vnd.convoy.tuning.v1+json"
VARIANT = "application/vnd.convoy.variant.v1+json"
_NAME = re.compile(r"[0-9a-f]{64}")


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
    """Return what is kept beside a revision, in the order of the digests; what names no document is left out."""
    found = (_read(store, subject, name) for name in store.notes("referrers", _hex(subject)) if _NAME.fullmatch(name))
    return tuple(each for each in found if each is not None)


def documents(store: ContentStore, subject: str, media_type: str) -> tuple[bytes, ...]:
    """Return the documents of one type beside a revision that can be read, each checked against its digest."""
    return read_all(store, subject, media_type)[0]


def read_all(store: ContentStore, subject: str, media_type: str) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Return the documents of one type beside a revision, and why others could not be read: those are missing or have other bytes.

    Whoever needs one finds it missing; whoever can write rubbish beside a revision stops nobody with it.
    """
    found, unreadable = [], []
    for each in referrers(store, subject):
        if each.media_type != media_type:
            continue
        try:
            found.append(store.get_part(each.digest))
        except IntegrityError as problem:
            unreadable.append(f"{problem.subject} {problem.reason}")
    return tuple(found), tuple(unreadable)


def newest_tuning(store: ContentStore, subject: str) -> bytes | None:
    """Return how a revision was tuned last, None where it never was; what is no tuning of it is left out."""
    found = [(when, data) for data in documents(store, subject, TUNING) if (when := when_tuned(data, subject))]
    return max(found)[1] if found else None


def copy_referrers(subject: str, source: ContentStore, target: ContentStore) -> int:
    """Copy what is kept beside a revision to another store, what cannot be read left out; returns how many were not there.

    Raises IntegrityError where the target has something else under the name of one.
    """
    there = {found.digest for found in referrers(target, subject)}
    copied = 0
    for found in referrers(source, subject):
        if found.digest in there and target.has_blob(found.digest):
            continue
        try:
            data = source.get_part(found.digest)
        except IntegrityError:
            continue
        attach(target, subject, found.media_type, data)
        copied += 1
    return copied


def _read(store: ContentStore, subject: str, name: str) -> Referrer | None:
    try:
        document = json.loads(store.noted("referrers", f"{_hex(subject)}/{name}"))
        found = Referrer(str(document["digest"]), str(document["mediaType"]), int(document["size"]))
    except (ValueError, KeyError, TypeError, RecursionError, IntegrityError):
        return None
    return found if _hex(found.digest) == name else None


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
