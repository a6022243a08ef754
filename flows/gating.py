"""Validating: the version is fetched, its materials are gathered, and the gates decide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from registry.lineage import describe, fetch, read_tags

from fleet.declared import Evaluation
from fleet.errors import IntegrityError
from fleet.evidence import GateOutcome, GateResult
from fleet.phases import ReleasePhase
from fleet.versions import ModelVersion
from flows.retrying import on_transient
from flows.showing import show_gates
from flows.work import Work
from policies.gates import ALL_GATES, Candidate, evaluate_all


@dataclass(frozen=True, slots=True)
class Source:
    """The version's model files on this machine; `digest` names their bytes."""

    version: ModelVersion
    folder: Path
    digest: str


@task(cache_policy=NO_CACHE, **on_transient)
def resolve(work: Work) -> Source:
    """Fetch the model files of the wanted version and record their digest and their data's lineage."""
    work.journal.enter(ReleasePhase.VALIDATING)
    version = work.house.models.version(work.model, work.desire.version)
    folder = work.folder / "source"
    manifest = work.house.models.download(version, folder)
    lineage = read_tags(version.tags)
    seen = work.journal.effect(
        "resolve",
        lambda: {
            "source_digest": manifest.digest,
            "lineage": None if lineage is None else {name: getattr(lineage, name) for name in lineage.__slots__},
        },
        version=version.version,
    )
    if seen["source_digest"] != manifest.digest:
        raise IntegrityError(
            f"model '{work.model}' version {version.version}",
            f"its files changed during the release ({seen['source_digest']} became {manifest.digest})",
            "Register them as a new version.",
        )
    return Source(version, folder, manifest.digest)


@task(cache_policy=NO_CACHE, **on_transient)
def validate(work: Work, source: Source) -> tuple[str, ...]:
    """Let the gates look at the version; returns why it may not go on, or nothing."""
    if work.proven is not None:
        work.journal.effect("gates", lambda: {"skipped": "this revision was stable before and is still stored", "refusals": []})
        return ()
    decided = work.journal.effect("gates", lambda: _decide(work, source))
    refusals = decided.get("refusals", [])
    return tuple(str(reason) for reason in refusals) if isinstance(refusals, list) else ()


def _decide(work: Work, source: Source) -> dict[str, list[str]]:
    results = evaluate_all(ALL_GATES, _candidate(work, source))
    for result in results:
        work.journal.record("gate.decided", _as_payload(result))
    show_gates(work, results)
    return {
        "refusals": [f"{result.gate}: {reason}" for result in results if result.outcome is GateOutcome.FAILED for reason in result.reasons]
    }


def _as_payload(result: GateResult) -> dict[str, str | list[str] | dict[str, str]]:
    return {"gate": result.gate, "outcome": result.outcome.value, "reasons": list(result.reasons), "figures": dict(result.figures)}


def _candidate(work: Work, source: Source) -> Candidate:
    house = work.house
    contract = work.declared.contract
    fleet_file = house.settings.fleet or house.home.fleet_file
    return Candidate(
        model=work.model,
        declared=work.declared,
        folder=source.folder,
        champion=_champion(work),
        training=_training(work, source.version),
        evaluation=_evaluation(work, work.declared.evaluation),
        contract=fleet_file.parent / contract if contract else None,
        work=work.folder / "gates",
        seconds=house.settings.gate_seconds,
    )


def _champion(work: Work) -> Path | None:
    stable = work.stable
    if stable is None:
        return None
    folder = work.folder / "champion"
    work.house.models.download(work.house.models.version(work.model, stable.version), folder)
    return folder


def _training(work: Work, version: ModelVersion) -> Path | None:
    lineage = read_tags(version.tags)
    return None if lineage is None else fetch(lineage, work.folder / "data" / Path(lineage.path).name)


def _evaluation(work: Work, declared: Evaluation | None) -> Path | None:
    if declared is None:
        return None
    lineage = describe(declared.repository, declared.revision, declared.path)
    return fetch(lineage, work.folder / "data" / f"evaluation-{Path(declared.path).name}")
