"""Validating: the version is fetched, its materials are gathered, and the gates decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from bentos.build import MODEL_FOLDER
from fleet.builders import TAG, Built, builder_of
from fleet.errors import IntegrityError
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
from flows.work import Work
from policies.files.gate import ModelFiles
from policies.gates import STAGES, Candidate, evaluate_all
from policies.waivers import Subject
from registry.ledger import JSON
from registry.lineage import describe, fetch, read_tags


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
    lineage = read_tags(version.tags)
    seen = work.journal.effect(
        effects.RESOLVE,
        lambda: {
            "source_digest": manifest.digest,
            "lineage": None if lineage is None else _lineage_payload(lineage),
            "builder": _builder(work, version, manifest.digest),
            "training_run": _training_run(work, version, folder),
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
    evaluation = _evaluation_lineage(work)
    results = evaluate_all(STAGES, _candidate(work, source, evaluation))
    show_gates(work, results)
    return {
        "refusals": refusals(results),
        "results": [as_payload(result) for result in results],
        "evaluation": None if evaluation is None else _lineage_payload(evaluation),
        "golden": keep(work),
    }


def _training_run(work: Work, version: ModelVersion, folder: Path) -> JSON:
    """Return the run that trained the version, None where it was logged without one."""
    run = work.house.models.training(version, folder)
    return None if run is None else run.as_json()


def _lineage_payload(lineage: DataLineage) -> JSON:
    return {name: getattr(lineage, name) for name in lineage.__slots__}


def _candidate(work: Work, source: Source, evaluation: DataLineage | None) -> Candidate:
    house = work.house
    contract = work.declared.contract
    fleet_folder = house.fleet_file.parent
    training = read_tags(source.version.tags)
    rows = work.folder / "data"
    now = datetime.now(UTC)
    waivers = waivers_for(work.declared, fleet_folder, Subject(work.model, source.version.version, source.digest), now)
    return Candidate(
        model=work.model,
        declared=work.declared,
        folder=source.folder,
        champion=_champion(work),
        training=None if training is None else fetch(training, rows / f"training-{Path(training.path).name}", house.reach),
        evaluation=None if evaluation is None else fetch(evaluation, rows / f"evaluation-{Path(evaluation.path).name}", house.reach),
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
        golden=_golden(work, rows),
        needs=needs_for(work.declared, house.settings, source.folder),
        advisories=advisories_of(house.settings),
        now=now,
        waivers=waivers,
        waived=waivers.things(ModelFiles.name),
    )


def _golden(work: Work, rows: Path) -> Path | None:
    """Return the declared file of golden answers on this machine, None where none is declared."""
    declared = work.declared.gates.golden
    if declared is None or declared.repository is None or declared.path is None:
        return None
    reach = work.house.reach
    lineage = describe(declared.repository, declared.revision, declared.path, reach)
    return fetch(lineage, rows / f"golden-{Path(declared.path).name}", reach)


def _champion(work: Work) -> Path | None:
    """Return the model files of the stable revision, out of the store: what serves, not what MLflow holds today."""
    stable = work.stable
    if stable is None:
        return None
    folder = work.folder / "champion"
    work.house.origin.fetch_tree(stable.digest, folder)
    return folder / MODEL_FOLDER


def _evaluation_lineage(work: Work) -> DataLineage | None:
    declared = work.declared.evaluation
    return None if declared is None else describe(declared.repository, declared.revision, declared.path, work.house.reach)
