"""DSSE envelopes: what was signed, as which type, by whom.

The signature covers the type and the payload with their lengths (the specification's PAE), so that no document passes
for one of another type. https://github.com/secure-systems-lab/dsse, envelope.md and protocol.md, version 1.0.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError
from registry.keys import SigningKey, Trusted

LARGEST = 16 << 20
MOST_SIGNATURES = 16
"""Bytes of an envelope that is read: more is nobody's statement."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature with the id of the key that it claims."""

    key: str
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and signatures, none of which was checked by reading it."""

    type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """Return the envelope as canonical JSON."""
        return canonical_json(
            {
                "payloadType": self.type,
                "payload": base64.b64encode(self.payload).decode(),
                "signatures": [{"keyid": found.key, "sig": base64.b64encode(found.bytes).decode()} for found in self.signatures],
            }
        )

    @property
    def digest(self) -> str:
        """The digest of its bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """Read an envelope; raises InputError for what is none."""
        if len(data) > LARGEST:
            raise InputError("envelope", f"has {len(data)} bytes, at most {LARGEST} are read")
        try:
            document = json.loads(data, object_pairs_hook=once)
            if len(document["signatures"]) > MOST_SIGNATURES:
                raise ValueError("more signatures than anybody gives")
            signatures = tuple(Signature(_text(found.get("keyid", "")), _decoded(found["sig"])) for found in document["signatures"])
            return cls(_text(document["payloadType"]), _decoded(document["payload"]), signatures)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise InputError("envelope", f"is no DSSE envelope ({type(problem).__name__})") from problem

    def signers(self, trusted: Trusted) -> frozenset[str]:
        """Return the ids of the trusted keys whose signatures verify; a key id is only a hint, so each key is tried on its own."""
        message = pae(self.type, self.payload)
        return frozenset(
            key.id
            for key in trusted.values()
            for found in self.signatures
            # Others may write a key's id in their own way, or leave it out
            if key.verifies(found.bytes, message)
        )


def sealed(kind: str, payload: bytes, key: SigningKey) -> Envelope:
    """Return an envelope with one signature."""
    return Envelope(kind, payload, (Signature(key.public.id, key.sign(pae(kind, payload))),))


def pae(kind: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object whose keys each stand once; raises ValueError: two readers could take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _decoded(text: object) -> bytes:
    try:
        found = base64.b64decode(_text(text), validate=True)
    except binascii.Error as problem:
        raise ValueError("not base64") from problem
    if base64.b64encode(found).decode() != text:
        raise ValueError("not the one way to write these bytes")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text is due")
    return value
