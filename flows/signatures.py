"""The OpenSSF signature of a downloaded model, held against the keys or certificates that fleet.yaml names."""

from __future__ import annotations

from pathlib import Path

from fleet.declared import Model
from registry.bundles import verify_with_certificates, verify_with_key


def signature_doubts(declared: Model, fleet_folder: Path, folder: Path) -> tuple[str, ...] | None:
    """Return why a model's files are not those that were signed, nothing where they are, None where no signature is declared.

    Raises InputError for a key or a certificate that cannot be read.
    """
    wanted = declared.gates.signature
    if wanted is None:
        return None
    bundle = folder / wanted.bundle
    if not bundle.is_file() or bundle.is_symlink():
        return (f"the model has no file {wanted.bundle}: sign what MLflow holds, and log the bundle beside it",)
    if wanted.certificates:
        return verify_with_certificates(folder, bundle, tuple(fleet_folder / each for each in wanted.certificates))
    found: list[str] = []
    for key in wanted.keys:
        doubts = verify_with_key(folder, bundle, fleet_folder / key)
        if not doubts:
            return ()
        found += [f"by {key}: {doubt}" for doubt in doubts]
    return tuple(found)
