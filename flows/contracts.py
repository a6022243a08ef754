"""`convoy contract learn`: the rows that a contract is learnt from, fetched as they are pinned, and the file it becomes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fleet.errors import InputError, Refused
from fleet.versions import DataLineage
from flows.house import House
from policies.learning import Slack, as_text, learn
from registry.lineage import describe, fetch, read_tags


class Rows(StrEnum):
    """Which rows of a model a contract is learnt from."""

    TRAINING = "training"
    VALIDATION = "validation"
    EVALUATION = "evaluation"
    GOLDEN = "golden"
    REFERENCE = "reference"

    @property
    def sets(self) -> str:
        """The rows that a number of rows is for: the reference of drift is what the model learned from."""
        return Rows.TRAINING.value if self is Rows.REFERENCE else self.value


def rows_named(name: str) -> Rows:
    """Return rows by their name; raises InputError that lists the known ones."""
    if name not in list(Rows):
        raise InputError("--rows", f"is '{name}' (known: {', '.join(Rows)})", "Name one of these.")
    return Rows(name)


@dataclass(frozen=True, slots=True)
class Learnt:
    """The contract's file and how many expectations it has."""

    file: Path
    expectations: int


def learn_from_file(rows: Path, which: Rows, to: Path, slack: Slack, *, force: bool) -> Learnt:
    """Learn a contract from a file; raises Refused where there is one already and it is not to be replaced."""
    return _write(learn(rows, rows.stem, which.sets, slack), to, force=force)


def learn_from_model(house: House, model: str, which: Rows, slack: Slack, to: Path | None, *, force: bool) -> Learnt:
    """Learn a contract from rows of a model, into a file or where fleet.yaml names the model's contract.

    Raises InputError where neither is given, or where the model has no such rows.
    """
    declared = house.model(model)
    fleet_file = house.fleet_file
    if to is None and declared.contract is None:
        raise InputError(f"model '{model}'", "declares no contract, so there is no file to write", "Name one with --out.")
    target = to or fleet_file.parent / str(declared.contract)
    _check_free(target, force=force)
    with tempfile.TemporaryDirectory(prefix="convoy-contract-") as scratch:
        lineage = _lineage(house, model, which)
        rows = fetch(lineage, Path(scratch) / Path(lineage.path).name, house.reach)
        return _write(learn(rows, model, which.sets, slack), target, force=force)


def _lineage(house: House, model: str, which: Rows) -> DataLineage:
    declared = house.model(model)
    if which is Rows.TRAINING:
        return _training(house, model)
    pinned = {
        Rows.VALIDATION: declared.gates.contract.validation,
        Rows.EVALUATION: declared.evaluation,
        Rows.GOLDEN: declared.gates.golden,
        Rows.REFERENCE: declared.drift.reference if declared.drift else None,
    }
    found = pinned[which]
    if found is None or found.repository is None or found.path is None:
        known = ", ".join(name.value for name, rows in pinned.items() if rows is not None and rows.path is not None) or "none"
        raise InputError(f"model '{model}'", f"declares no {which} rows in fleet.yaml (declared: {known})", "Declare them, or name others.")
    return describe(found.repository, found.revision, found.path, house.reach)


def _training(house: House, model: str) -> DataLineage:
    """Return what the candidate learned from, or the champion where there is none."""
    for alias in ("candidate", "champion"):
        version = house.models.alias(model, alias)
        lineage = None if version is None else read_tags(house.models.version(model, version).tags)
        if lineage is not None:
            return lineage
    raise InputError(f"model '{model}'", "has neither a candidate nor a champion whose data is recorded", "Name other rows with --rows.")


def _write(suite: dict[str, object], to: Path, *, force: bool) -> Learnt:
    _check_free(to, force=force)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(as_text(suite), encoding="utf-8")
    expectations = suite["expectations"]
    return Learnt(to, len(expectations) if isinstance(expectations, list) else 0)


def _check_free(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise Refused(
            str(file), "is there already, and people may have edited it", "Write elsewhere with --out, or replace it with --force."
        )
