"""Exporting: a stored revision as an OCI layout that other tools read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bentos.oci.kinds import REF_NAME
from bentos.oci.modelpack import write_modelpack
from fleet.errors import InputError, OperationFailed, UnknownName
from fleet.versions import Revision
from flows.desires import desires
from flows.house import House
from flows.tending import ORIGIN, store_of
from flows.work import release_revision, stable_of


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the revision, the digest and name of its OCI manifest, and how many files and bytes it has."""

    revision: Revision
    digest: str
    name: str
    files: int
    size: int


def export(house: House, model: str, version: str | None, to: Path, region: str | None = None) -> Exported:
    """Write a stored revision, the stable one without a version, as an OCI layout into a new folder; nothing is left where that fails.

    Raises UnknownName for what was never packaged or is stored no more, InputError for a folder that is taken, IntegrityError
    for wrong bytes, OperationFailed where there is no room.
    """
    revision = _revision(house, model, version)
    if region is not None and region not in (ORIGIN, *house.fleet.regions):
        raise UnknownName(f"region '{region}'", f"is not declared (known: {', '.join((ORIGIN, *house.fleet.regions))})")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(str(to), "is not empty", "Give a new folder.")
    store = store_of(house, region or ORIGIN)
    manifest = store.manifest(revision.digest)
    try:
        written = write_modelpack(manifest, revision, store.get_part, to)
    except BaseException as problem:
        shutil.rmtree(to, ignore_errors=True)
        if isinstance(problem, OSError):
            raise OperationFailed(str(to), f"could not be written ({problem.strerror})", "Make room there, and try again.") from problem
        raise
    return Exported(revision, written.digest, written.more["annotations"][REF_NAME], len(manifest.entries), manifest.size)


def _revision(house: House, model: str, version: str | None) -> Revision:
    house.model(model)
    if version is None:
        stable = stable_of(house, model)
        if stable is None:
            raise UnknownName(f"model '{model}'", "has no stable revision yet", "Name --version.")
        return stable
    packaged = [release_revision(house, desire) for desire in desires(house.ledger, model) if desire.version == version]
    found = [revision for revision in packaged if revision is not None]
    if not found:
        raise UnknownName(f"version {version} of '{model}'", "was never packaged by a release", "See `convoy status`, or release it.")
    return found[-1]
