"""OpenSSF model-signing bundles, verified with nothing left out of what they must cover.

By default model-signing ignores `.git`, `.gitattributes`, `.gitignore` and `.github`, and whatever paths the signer told
it to: files may be added there afterwards and the signature still verifies. So every plain file of the folder must be
among the signed ones here, and links, special files and empty folders are refused.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fleet.errors import InputError
from registry.closed_world import clashes

LARGEST = 64 << 20
PREDICATE = "https://model_signing/signature/v1.0"


def verify_with_key(model: Path, bundle: Path, public_key: Path) -> tuple[str, ...]:
    """Return why a folder is not what an EC key signed, nothing when it is; raises InputError for a key that cannot be read."""
    from model_signing import verifying

    with _readable(public_key):
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    return _verified(config, model, bundle)


def verify_with_certificates(model: Path, bundle: Path, chain: tuple[Path, ...]) -> tuple[str, ...]:
    """Return why a folder is not what the holder of a certificate signed; the certificate must lead to one of the chain's roots.

    An empty chain would let the operating system's roots vouch for anybody: raises InputError, as for one that cannot be read.
    """
    from model_signing import verifying

    if not chain:
        raise InputError("model-signing bundle", "no certificate is trusted", "Give the certificates that may vouch for the signer.")
    with _readable(*chain):
        config = verifying.Config().use_certificate_verifier(certificate_chain=chain)
    return _verified(config, model, bundle)


@contextmanager
def _readable(*files: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError) as problem:
        named = ", ".join(map(str, files))
        raise InputError(named, f"cannot be read as keys or certificates ({_brief(problem)})", "Give PEM files.") from problem


def _verified(config: Any, model: Path, bundle: Path) -> tuple[str, ...]:
    """Have model-signing check signature and digests, then hold the folder against all that was signed."""
    if model.is_symlink() or not model.is_dir():
        return (f"{model} is not a folder",)
    try:
        with bundle.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as problem:
        raise InputError(str(bundle), f"cannot be read ({problem.strerror})", "Give the bundle's file.") from problem
    if len(data) > LARGEST:
        return (f"the bundle has more than {LARGEST} bytes",)
    try:
        statement = _statement(data)
        config.set_hashing_config(_reading(statement["predicate"]["serialization"], bundle))
        with tempfile.TemporaryDirectory(prefix="convoy-bundle-") as scratch:
            # The same bytes for both: the file may lie in the folder that is doubted
            copy = Path(scratch) / "bundle.json"
            copy.write_bytes(data)
            config.verify(model, copy)
    except Exception as problem:  # noqa: BLE001 - whatever it stumbles over, it did not verify
        return (f"model-signing refuses it: {_brief(problem)}",)
    return tuple(sorted(_unsigned(model, _signed(statement), bundle)))


def _statement(data: bytes) -> Any:
    """Return what a bundle states; nothing of it is believed before its signature was checked."""
    statement = json.loads(base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"], validate=True))
    if statement["predicateType"] != PREDICATE:
        raise ValueError("an older form, which does not say how files were read")
    return statement


def _reading(said: Any, bundle: Path) -> Any:
    """Return how files are to be read, as the signer did, all but the bundle itself; a bundle that lies of it does not verify.

    Model-signing guesses the same, but fails over the size of a shard, which it wrote as 1024.0 itself.
    """
    from model_signing import hashing

    config, algorithm = hashing.Config().set_ignored_paths(paths=[bundle], ignore_git_paths=False), said["hash_type"]
    if said["method"] == "shards":
        return config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=int(said["shard_size"]), allow_symlinks=False)
    return config.use_file_serialization(hashing_algorithm=algorithm, allow_symlinks=False)


def _signed(statement: Any) -> frozenset[str]:
    """Return the files that a statement, whose signature was checked, covers."""
    predicate = statement["predicate"]
    names = [resource["name"] for resource in predicate["resources"]]
    # A shard is written as FILE:START:END
    return frozenset(name.rsplit(":", 2)[0] if predicate["serialization"]["method"] == "shards" else name for name in names)


def _unsigned(model: Path, signed: frozenset[str], bundle: Path) -> Iterator[str]:
    found: set[str] = set()
    for folder, folders, files in os.walk(model, followlinks=False):
        here = Path(folder)
        if not folders and not files and here != model:
            yield f"the folder {_name(model, here)!r} is empty, and no signature covers it"
        for path in (here / name for name in (*folders, *files)):
            name, mode = _name(model, path), path.lstat().st_mode
            found.add(name)
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                yield f"{name!r} is no plain file"
            elif name not in signed and path.absolute() != bundle.absolute():
                yield f"{name!r} is not signed"
    yield from clashes(found)


def _name(model: Path, path: Path) -> str:
    return str(PurePosixPath(path.relative_to(model)))


def _brief(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem)[:500]}" if str(problem) else type(problem).__name__
