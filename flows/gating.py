"""Validating: the version is fetched, its materials are gathered, and the gates decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from bentos.build import MODEL_FOLDER, SERVICE
from fleet.addresses import Reach, without_password
from fleet.builders import TAG, Built, builder_of
from fleet.declared import Model
from fleet.errors import ConvoyError, InputError, IntegrityError
from fleet.operators import read_operators
from fleet.phases import ReleasePhase
from fleet.versions import DataLineage, ModelVersion
from flows import effects
from flows.desires import asked_by
from flows.gate_report import as_payload, refusals
from flows.kept_golden import keep
from flows.retrying import on_transient
from flows.rights import advisories_of, needs_for, waivers_for
from flows.showing import show_gates
from flows.signatures import signature_doubts
from flows.work import Work
from policies.files.gate import ModelFiles
from policies.gates import STAGES, Candidate, evaluate_all
from policies.waivers import Subject
from registry.ledger import JSON
from registry.lineage import describe, fetch, read_tags, record_tags
from registry.models import MlflowModels

T = TypeVar("T")
PINNED = ("evaluation", "validation", "golden")
"""The rows that fleet.yaml pins for the gates; those that a version learned from are named by its own tags."""
SOURCE_TAG = "convoy.source_digest"


@dataclass(frozen=True, slots=True)
class Source:
    """The version's model files on this machine; `digest` names their bytes, `builder` is whose claim to them was checked."""

    version: ModelVersion
    folder: Path
    digest: str
    builder: str | None


@task(cache_policy=NO_CACHE, **on_transient)
def resolve(work: Work) -> Source:
    """Fetch the model files of the wanted version and record their digest, their data's lineage and the run that trained it."""
    work.journal.enter(ReleasePhase.VALIDATING)
    version = work.house.models.version(work.model, work.desire.version)
    folder = work.folder / "source"
    manifest = work.house.models.download(version, folder)
    lineage = _from_its_author(work, lambda: read_tags(version.tags))
    seen = work.journal.effect(
        effects.RESOLVE,
        lambda: {
            "source_digest": manifest.digest,
            "run": version.run_id,
            "lineage": None if lineage is None else _lineage_payload(lineage),
            "builder": _from_its_author(work, lambda: _builder(work, version, manifest.digest)),
            "training_run": _from_its_author(work, lambda: _training_run(work, version, folder)),
        },
        version=version.version,
    )
    if seen["source_digest"] != manifest.digest:
        raise IntegrityError(
            f"model '{work.model}' version {version.version}",
            f"its files changed during the release ({seen['source_digest']} became {manifest.digest})",
            "Register them as a new version.",
        )
    builder = seen.get("builder")
    return Source(version, folder, manifest.digest, None if builder is None else str(builder))


def _builder(work: Work, version: ModelVersion, digest: str) -> str | None:
    """Return whose claim to have built the version holds, None where nobody claims it."""
    if (text := version.tags.get(TAG)) is None:
        return None
    found = builder_of(read_operators(work.house.home), text, Built(version.model, version.version, digest))
    if found is None:
        get_run_logger().warning("%s: the claim to have built it is of nobody who is known, or of other files", work.desire.release)
    return found


@task(cache_policy=NO_CACHE, **on_transient)
def validate(work: Work, source: Source) -> tuple[str, ...]:
    """Let the gates look at the version; returns why it may not go on, or nothing."""
    decided = work.journal.effect(effects.GATES, lambda: _decide(work, source))
    found = decided.get("refusals", [])
    return tuple(str(reason) for reason in found) if isinstance(found, list) else ("the gates' answer cannot be read",)


def _decide(work: Work, source: Source) -> dict[str, JSON]:
    pinned = pinned_rows(work.declared, work.house.reach)
    tag_lineage(work.house.models, source, pinned)
    results = evaluate_all(STAGES, _candidate(work, source, pinned))
    show_gates(work, results)
    return {
        "refusals": refusals(results),
        "results": [as_payload(result) for result in results],
        "data": {name: _lineage_payload(lineage) for name, lineage in pinned.items()},
        "golden": keep(work),
    }


def pinned_rows(declared: Model, reach: Reach) -> dict[str, DataLineage]:
    """Return where the rows lie that fleet.yaml declares for the gates, each read once to take its digest."""
    wanted = (declared.evaluation, declared.gates.contract.validation, declared.gates.golden)
    return {
        name: describe(rows.repository, rows.revision, rows.path, reach)
        for name, rows in zip(PINNED, wanted, strict=True)
        if rows is not None and rows.repository is not None and rows.path is not None
    }


def _training_run(work: Work, version: ModelVersion, folder: Path) -> JSON:
    """Return the run that trained the version, None where it was logged without one."""
    run = work.house.models.training(version, folder)
    return None if run is None else run.as_json()


def tag_lineage(models: MlflowModels, source: Source, pinned: Mapping[str, DataLineage]) -> None:
    """Write into MLflow which files were looked at and by which rows, beside the rows that the version learned from.

    What stands there already is not written again.
    """
    wanted = {SOURCE_TAG: source.digest}
    for name, lineage in pinned.items():
        wanted |= record_tags(lineage, name)
    for key, value in wanted.items():
        if source.version.tags.get(key) != value:
            models.tag(source.version, key, value)


def _lineage_payload(lineage: DataLineage) -> JSON:
    """Return a lineage as the ledger keeps it: for ever, so without what may be a password in its places."""
    places = {"repository": without_password(lineage.repository), "remote": without_password(lineage.remote)}
    return {name: places.get(name, getattr(lineage, name)) for name in lineage.__slots__}


def _candidate(work: Work, source: Source, pinned: Mapping[str, DataLineage]) -> Candidate:
    house = work.house
    contract = work.declared.contract
    fleet_folder = house.fleet_file.parent
    training = _from_its_author(work, lambda: read_tags(source.version.tags))
    rows = work.folder / "data"
    now = datetime.now(UTC)
    waivers = waivers_for(work.declared, fleet_folder, Subject(work.model, source.version.version, source.digest), now)
    fetched = {name: fetch(lineage, rows / f"{name}-{Path(lineage.path).name}", house.reach) for name, lineage in pinned.items()}
    return Candidate(
        model=work.model,
        declared=work.declared,
        folder=source.folder,
        champion=_champion(work),
        training=None if training is None else fetch(training, rows / f"training-{Path(training.path).name}", house.reach),
        evaluation=fetched.get("evaluation"),
        contract=fleet_folder / contract if contract else None,
        work=work.folder / "gates",
        seconds=house.settings.gate_seconds,
        builder=source.builder,
        version=source.version.version,
        actor=asked_by(house.ledger, work.desire),
        tags=source.version.tags,
        lineage=training,
        regions=house.fleet.regions,
        fleet_folder=fleet_folder,
        validation=fetched.get("validation"),
        golden=fetched.get("golden"),
        service=SERVICE,
        signature=_from_its_author(work, lambda: signature_doubts(work.declared, fleet_folder, source.folder)),
        needs=_from_its_author(work, lambda: needs_for(work.declared, house.settings, source.folder)),
        advisories=advisories_of(house.settings),
        now=now,
        waivers=waivers,
        waived=waivers.things(ModelFiles.name),
    )


def _from_its_author(work: Work, read: Callable[[], T]) -> T:
    """Return what is read of what the version's author wrote; raises InputError, which ends the release, where that breaks its reader.

    What a machine may get over (a disk that is full, a server that is away) is raised as it is, and tried again.
    """
    try:
        return read()
    except (ConvoyError, OSError):
        raise
    except Exception as problem:
        get_run_logger().exception("%s: what its author wrote broke its reader", work.desire.release)
        raise InputError(
            f"model '{work.model}' version {work.desire.version}",
            f"has files or tags that broke their reader ({type(problem).__name__})",
            "Log the model again with MLflow; if its files are as MLflow writes them, report it.",
        ) from problem


def _champion(work: Work) -> Path | None:
    """Return the model files of the stable revision, out of the store: what serves, not what MLflow holds today."""
    stable = work.stable
    if stable is None:
        return None
    folder = work.folder / "champion"
    work.house.origin.fetch_tree(stable.digest, folder)
    return folder / MODEL_FOLDER
