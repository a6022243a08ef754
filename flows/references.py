"""The pinned rows that drift is held against: described and fetched once, then taken from this machine.

    <home>/work/references/<SHA-256 of the rows>.<suffix>      the rows
    <home>/work/references/<SHA-256 of a name>.json            their lineage, under repository, revision and path

A commit never changes its rows, so one that was described before needs neither a clone nor the remote. What is no commit
(HEAD, a branch) is looked up each time; while its repository is away, the rows found last time count, and a remark says so.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from clouds.local.files import private_folder, write_private
from fleet.addresses import Reach
from fleet.canonical import canonical_json, digest_of
from fleet.declared import Reference
from fleet.errors import OperationFailed, Unreachable
from fleet.versions import DataLineage
from registry.lineage import ANYWHERE_PUBLIC, commit_of, describe, fetch

HEX = 12


@dataclass(frozen=True, slots=True)
class Pinned:
    """Rows on this machine, where they came from, and what to know about that."""

    lineage: DataLineage
    file: Path
    remarks: tuple[str, ...]


def pinned_reference(work: Path, wanted: Reference, reach: Reach = ANYWHERE_PUBLIC) -> Pinned:
    """Return the rows that a reference names, fetched if they are not in the work folder yet.

    Raises what `registry.lineage.describe` and `fetch` raise.
    """
    folder = private_folder(work / "references")
    lineage, remarks = _lineage(folder, wanted, reach)
    if not lineage.commit.startswith(wanted.revision):
        remarks = (f"The reference's revision {wanted.revision} was commit {lineage.commit[:HEX]} this time.", *remarks)
    file = folder / (lineage.sha256.removeprefix("sha256:") + Path(wanted.path).suffix)
    return Pinned(lineage, fetch(lineage, file, reach), remarks)


def _lineage(folder: Path, wanted: Reference, reach: Reach) -> tuple[DataLineage, tuple[str, ...]]:
    commit = commit_of(wanted.repository, wanted.revision)
    known = None if commit is None else _recalled(_note(folder, wanted, commit))
    if known is not None:
        return known, ()
    try:
        lineage = describe(wanted.repository, commit or wanted.revision, wanted.path, reach)
    except (Unreachable, OperationFailed) as problem:
        last = None if commit else _recalled(_note(folder, wanted, wanted.revision))
        if last is None:
            raise
        away = f"The reference's repository could not be asked ({type(problem).__name__}): its rows as they were found last time count."
        return last, (away,)
    for revision in (wanted.revision, lineage.commit):
        write_private(_note(folder, wanted, revision), canonical_json(dict(asdict(lineage))))
    return lineage, ()


def _note(folder: Path, wanted: Reference, revision: str) -> Path:
    place = Path(wanted.repository)
    repository = str(place.absolute()) if place.exists() else wanted.repository
    name = digest_of(canonical_json([repository, revision, wanted.path])).removeprefix("sha256:")
    return folder / f"{name}.json"


def _recalled(note: Path) -> DataLineage | None:
    """Return what a note says, None where there is none that can be used."""
    with suppress(OSError, ValueError, TypeError):
        return DataLineage(**json.loads(note.read_bytes()))
    return None
