"""Waivers: two people say together that one thing which a gate refuses may go, in one version, until a day.

A waiver is a JSON document beside fleet.yaml. What is signed are its canonical bytes (RFC 8785) behind a line that
nothing else of ours is signed with; how the file is written, and in which order people signed, does not matter.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError

PEOPLE = 2
PURPOSE = b"convoy-waiver-v1\n"
MOST_BYTES = 64 << 10
Text = Annotated[str, Field(min_length=1, max_length=500)]


def _moment(text: str) -> str:
    """Refuse what is no moment in UTC."""
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as problem:
        raise ValueError("must be a moment in UTC, such as 2026-12-31T00:00:00Z") from problem
    return text


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Waiver(_Document):
    """What is waived: a thing exactly as the gate names it, for a model's version, for the digest of its files, or for both."""

    version: Literal[1] = 1
    gate: Text
    thing: Text
    model: Text
    model_version: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None = None
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    reason: Text
    expires: Annotated[str, AfterValidator(_moment)]

    @model_validator(mode="after")
    def _is_about_one_version(self) -> Waiver:
        if self.model_version is None and self.digest is None:
            raise ValueError("must name a model_version or a digest: a waiver is never for every version")
        return self

    @property
    def until(self) -> datetime:
        """When it no longer holds."""
        return datetime.strptime(self.expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)

    def to_sign(self) -> bytes:
        """Return the bytes that are signed."""
        return PURPOSE + canonical_json(self.model_dump(mode="json"))


class Signature(_Document):
    """One person's signature (base64) and the id of the key it was made with."""

    key: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    signature: Annotated[str, Field(max_length=200)]


class SignedWaiver(_Document):
    """A waiver with its signatures, none of which was checked by reading it."""

    waiver: Waiver
    signatures: Annotated[tuple[Signature, ...], Field(max_length=20, strict=False)] = ()

    def to_json(self) -> bytes:
        """Return the document as it is kept in a file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count: Ed25519 public keys (base64) by person, and how many days ahead a waiver may hold."""

    keys: Mapping[str, str]
    longest_days: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What a waiver must be about: a model, its version, and the digest of that version's files."""

    model: str
    version: str
    digest: str


def read_waiver(data: bytes, subject: str) -> SignedWaiver:
    """Read a document; raises InputError, which names `subject`, for what is no waiver or says something twice."""
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"is larger than {MOST_BYTES} bytes")
        return SignedWaiver.model_validate(json.loads(data, object_pairs_hook=_once))
    except ValidationError as problem:
        found = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'it'}: {error['msg']}" for error in problem.errors(include_url=False))
        raise InputError(subject, found, "Correct it, and sign it again.") from problem
    except (ValueError, RecursionError) as problem:
        raise InputError(subject, f"is no waiver ({problem})", "Write one with `convoy waiver draft`.") from problem


def holds(signed: SignedWaiver, trust: Trust, subject: Subject, now: datetime) -> str:
    """Say why a waiver does not hold for a version now, in words that follow "it"; nothing where it does."""
    waiver = signed.waiver
    if waiver.model != subject.model:
        return f"is for the model '{waiver.model}'"
    if waiver.model_version is not None and waiver.model_version != subject.version:
        return f"is for version {waiver.model_version}"
    if waiver.digest is not None and waiver.digest != subject.digest:
        return "is for other files than these"
    if now >= waiver.until:
        return f"expired at {waiver.expires}"
    if waiver.until > now + timedelta(days=trust.longest_days):
        return f"holds until {waiver.expires}, and {trust.longest_days} days ahead is the longest"
    people = signers(signed, trust)
    if len(people) < PEOPLE:
        return f"is signed by {' and '.join(people) or 'nobody'} of the declared people, and {PEOPLE} of them must sign the very same"
    return ""


def signers(signed: SignedWaiver, trust: Trust) -> tuple[str, ...]:
    """Return the declared people whose signatures verify, each once, sorted."""
    message = signed.waiver.to_sign()
    return tuple(
        sorted(
            person
            for person, public in trust.keys.items()
            if any(each.key == key_id(public) and _verifies(public, each.signature, message) for each in signed.signatures)
        )
    )


def key_id(public: str) -> str:
    """Return the id of a public key (base64): the digest of its bytes."""
    return digest_of(base64.b64decode(public))


def _verifies(public: str, signature: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
