"""Signing keys on disk: the secret half for its owner alone, the public half for whoever verifies.

A key is Ed25519 or ECDSA on P-256; its id is the SHA-256 of its public half (SubjectPublicKeyInfo, DER). Every `*.pub`
beside a key is trusted, so that a key is changed by renaming its public half and letting a new one be made.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.canonical import digest_of
from fleet.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What verifies signatures of one key."""

    id: str
    _key: Ed25519PublicKey | EllipticCurvePublicKey = field(repr=False)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether this key's owner signed that message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, message)
            else:
                self._key.verify(signature, message, _ecdsa())
        except InvalidSignature:
            return False
        return True

    def to_pem(self) -> bytes:
        """Return the key as others keep it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs; never printed."""

    public: PublicKey
    _key: Ed25519PrivateKey | EllipticCurvePrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, _ecdsa())


Trusted = Mapping[str, PublicKey]
"""The public keys that are believed, by their ids."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The key that one signs with, and those whose signatures one believes: its own among them."""

    key: SigningKey
    trusted: Trusted


def ensure_keyring(folder: Path) -> Keyring:
    """Return the keyring of a folder, its key generated where there was never one.

    `signing.key` may be read by its owner alone; `signing.pub` is its public half. Two at once get the same key. Raises
    InputError where a public half is left whose key is gone, and for what is no key.
    """
    file, public = folder / "signing.key", folder / "signing.pub"
    # The public half first: another one may make both between the two looks
    if public.exists() and not file.exists():
        raise InputError(
            str(file), "is gone, and its public half is there", f"Restore it; or rename {public.name} to OTHER.pub for a new key."
        )
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_once(file, _new_key(), 0o600)
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
    except OSError as problem:
        raise InputError(str(file), f"cannot be made, or kept from others ({problem.strerror})", "Give its folder to us.") from problem
    key = read_key(file)
    _write_once(public, key.public.to_pem(), 0o644)
    trusted = trusted_in(folder)
    if key.public.id not in trusted:
        raise InputError(str(public), f"is not the public half of {file.name}", "Restore the two that belong together.")
    return Keyring(key, trusted)


def read_key(file: Path) -> SigningKey:
    """Return a signing key from a PEM file (PKCS #8, without a password); raises InputError, which shows nothing of it."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as problem:
        raise InputError(str(file), f"cannot be read as a signing key ({type(problem).__name__})", "Restore it from a backup.") from None
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise InputError(str(file), "is a key of another kind", "Use Ed25519, or ECDSA on P-256.")
    return SigningKey(_public(key.public_key(), str(file)), key)


def trusted_in(place: Path) -> dict[str, PublicKey]:
    """Return the public keys of a file, which may hold several, or of every `*.pub` in a folder; raises InputError without any."""
    files = sorted(place.glob("*.pub")) if place.is_dir() else [place]
    try:
        texts = [(file, file.read_bytes()) for file in files]
    except OSError as problem:
        raise InputError(str(place), f"cannot be read ({type(problem).__name__})", "Give the file with the public key.") from problem
    found = [public_key(block.group(), str(file)) for file, text in texts for block in _PEM.finditer(text)]
    if not found:
        raise InputError(str(place), "holds no public key", "Give a PEM file with the public key, such as ledger.pub.")
    return {key.id: key for key in found}


def public_key(pem: bytes, subject: str) -> PublicKey:
    """Return a public key from PEM; raises InputError that names `subject`."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        return _public(load_pem_public_key(pem), subject)
    except ValueError as problem:
        raise InputError(subject, "holds a public key that cannot be read", "Give it as PEM (SubjectPublicKeyInfo).") from problem


def _public(key: object, subject: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not (isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1))):
        raise InputError(subject, "is a key of another kind", "Use Ed25519, or ECDSA on P-256.")
    return PublicKey(digest_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)), key)


def _ecdsa() -> ECDSA:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_once(file: Path, data: bytes, mode: int) -> None:
    """Write a file whole and on the disk, unless it is there; the first of two at once wins."""
    if file.exists():
        return
    draft = file.with_name(f".{uuid.uuid4().hex}.draft")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
