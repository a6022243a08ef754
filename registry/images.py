"""Images copied between OCI registries, blob by blob, with their digests: what is there is skipped, and all of it is read back.

Blobs come before the manifest that names them, and what an index names before the index; then what refers to the image (its
signatures, attestations and bills of materials), and the tag last. So whoever is killed leaves nothing that names what is
missing, and the next copy goes on with what is not there yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.canonical import canonical_json, digest_of
from fleet.errors import IntegrityError, NotSupported
from registry.oci import INDEXES, MANIFESTS, Login, OciRegistry, Place, referrers_tag

Logins = Mapping[str, Login]
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LEVELS = 4
"""How deep an index may name indexes."""


@dataclass(slots=True)
class CopiedImage:
    """What a copy did: the image's digest, blobs sent, mounted from another repository and there already, and bytes sent.

    `manifests` are those of the image, `referrers` those of what refers to it.
    """

    digest: str
    sent: int = 0
    mounted: int = 0
    present: int = 0
    bytes: int = 0
    manifests: list[str] = field(default_factory=list)
    referrers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Copying:
    source: OciRegistry
    target: OciRegistry
    here: Place
    there: Place
    done: CopiedImage


def copy_image(source: OciRegistry, target: OciRegistry, here: Place, there: Place) -> CopiedImage:
    """Copy an image, or an index with every image that it names, and return what was done; its digest stays what it is.

    Every blob and manifest is read back from the target and checked. May be repeated, killed anywhere. Raises UnknownName
    for an image that there is not, IntegrityError for wrong bytes on either side, NotSupported for layers that lie elsewhere.
    """
    data, media_type = source.manifest(here.repository, here.reference)
    digest = digest_of(data)
    if here.digest not in (None, digest) or there.digest not in (None, digest):
        raise IntegrityError(str(here), f"is {digest}, and not what was asked for", "Look at what the tag names now.")
    copying = _Copying(source, target, here, there, CopiedImage(digest))
    copying.done.manifests += _copy_manifest(copying, data, media_type, 0)
    for image in copying.done.manifests:
        _copy_referrers(copying, image, 0)
    if there.tag is not None:
        target.put_manifest(there.repository, there.tag, data, media_type)
        _check_manifest(copying, there.tag, data)
    return copying.done


def _copy_manifest(copying: _Copying, data: bytes, media_type: str, level: int) -> list[str]:
    """Copy what a manifest names and then the manifest; returns the digests of all manifests, itself last."""
    document, copied = _document(copying, data, media_type), list[str]()
    if media_type in INDEXES and level < _LEVELS:
        for child in _descriptors(copying, document, "manifests"):
            found, kind = copying.source.manifest(copying.here.repository, child["digest"])
            copied += _copy_manifest(copying, found, kind, level + 1)
    elif media_type in MANIFESTS:
        blobs = [*_descriptors(copying, {"config": [document.get("config")]}, "config"), *_descriptors(copying, document, "layers")]
        for blob in {each["digest"]: each for each in blobs}.values():
            _copy_blob(copying, blob)
    else:
        raise NotSupported(str(copying.here), f"is a {media_type or 'manifest without a type'}, which is no image", "Copy it with skopeo.")
    digest = digest_of(data)
    listed = copying.target.put_manifest(copying.there.repository, digest, data, media_type)
    _check_manifest(copying, digest, data)
    if (subject := _subject(document)) is not None and not listed:
        _list_referrer(copying, subject, document, {"mediaType": media_type, "digest": digest, "size": len(data)})
    return [*copied, digest]


def _copy_referrers(copying: _Copying, subject: str, level: int) -> None:
    """Copy what refers to a manifest that is there, and what refers to that; raises IntegrityError for one of another subject."""
    for found in _descriptors(copying, {"referrers": copying.source.referrers(copying.here.repository, subject)}, "referrers"):
        digest = str(found["digest"])
        data, media_type = copying.source.manifest(copying.here.repository, digest)
        if _subject(_document(copying, data, media_type)) != subject:
            raise IntegrityError(
                str(copying.here), f"has {digest} among its referrers, which refers to another", "Look at who else writes there."
            )
        copying.done.referrers += _copy_manifest(copying, data, media_type, 0)
        if level < _LEVELS:
            _copy_referrers(copying, digest, level + 1)


def _list_referrer(copying: _Copying, subject: str, document: Mapping[str, Any], named: Mapping[str, Any]) -> None:
    """Add a manifest to the index by which a registry that keeps no list itself tells what refers to its subject."""
    target, repository = copying.target, copying.there.repository
    known = target.referrers(repository, subject)
    if any(isinstance(each, dict) and each.get("digest") == named["digest"] for each in known):
        return
    kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType")
    told = {
        **named,
        **({"artifactType": kind} if kind else {}),
        **({"annotations": notes} if (notes := document.get("annotations")) else {}),
    }
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": [*known, told]})
    target.put_manifest(repository, referrers_tag(subject), index, INDEXES[0])
    _check_manifest(copying, referrers_tag(subject), index)


def _subject(document: Mapping[str, Any]) -> str | None:
    """Return the digest of what a manifest refers to, None where it refers to nothing."""
    found = document.get("subject")
    return str(found.get("digest")) if isinstance(found, dict) else None


def _copy_blob(copying: _Copying, blob: Mapping[str, Any]) -> None:
    digest, size = str(blob["digest"]), int(blob["size"])
    source, target, here, there, done = copying.source, copying.target, copying.here.repository, copying.there.repository, copying.done
    if target.has_blob(there, digest):
        done.present += 1
    elif source.host == target.host and here != there and target.mount(there, digest, here):
        done.mounted += 1
    else:
        target.put_blob(there, digest, size, source.read_blob(here, digest))
        done.sent, done.bytes = done.sent + 1, done.bytes + size
    _drain(target.read_blob(there, digest))


def _check_manifest(copying: _Copying, reference: str, data: bytes) -> None:
    found, _ = copying.target.manifest(copying.there.repository, reference)
    if found != data:
        told = f"gives {digest_of(found)} where {digest_of(data)} was put"
        raise IntegrityError(f"{copying.there.host}/{copying.there.repository}:{reference}", told, "Look at who else writes there.")


def _document(copying: _Copying, data: bytes, media_type: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("mediaType", media_type) != media_type:
            raise ValueError("it says another type of itself")
        return document
    except (ValueError, RecursionError) as problem:
        raise IntegrityError(str(copying.here), f"has a manifest that is none ({problem})", "Look at the registry's storage.") from problem


def _descriptors(copying: _Copying, document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    if not isinstance(found, list) or not all(map(_is_descriptor, found)):
        raise IntegrityError(str(copying.here), f"has {key} that are none", "Look at the registry's storage.")
    if any(each.get("urls") for each in found):
        raise NotSupported(str(copying.here), "has layers that lie elsewhere than in the registry", "Build it without foreign layers.")
    return found


def _is_descriptor(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get("size"), int) and _DIGEST.fullmatch(str(found.get("digest"))) is not None


def _drain(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass
