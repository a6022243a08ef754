"""The keys with which people sign waivers: Ed25519, in files that only their owner can read; a private key is never shown."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from fleet.canonical import digest_of
from fleet.errors import InputError, Refused
from policies.waivers import Signature, SignedWaiver


def new_key(file: Path) -> str:
    """Write a new private key into a new file (PEM, PKCS #8, mode 0600) and return its public half (base64)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise InputError(str(file), f"cannot be made ({problem.strerror})", "Give a new file in a folder that is there.") from problem
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def sign(signed: SignedWaiver, file: Path) -> SignedWaiver:
    """Return the waiver with the signature of the key in a file, which takes the place of one by the same key.

    Raises InputError for what is no such key, Refused for one that others can read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if file.stat().st_mode & 0o077:
            raise Refused(str(file), "can be read by others, so its signature proves nothing", f"chmod 600 {file}, or make a new key.")
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as problem:
        raise InputError(str(file), f"cannot be read as a private key ({type(problem).__name__})", "Give your own key's file.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(str(file), "is a key of another kind", "Make one with `convoy waiver key`.")
    mine = digest_of(key.public_key().public_bytes_raw())
    made = Signature(key=mine, signature=base64.b64encode(key.sign(signed.waiver.to_sign())).decode())
    others = tuple(each for each in signed.signatures if each.key != mine)
    return signed.model_copy(update={"signatures": (*others, made)})
