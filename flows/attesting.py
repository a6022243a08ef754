"""Saying what was done to a revision: signed statements and bills of materials, kept beside it in the origin store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.canonical import canonical_json, digest_of
from fleet.errors import ConvoyError, OperationFailed
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.approvals import counting
from flows.attested import BUILDER, check_attested
from flows.containing import packages_of_container
from flows.gate_report import as_payload, of_payload
from flows.orders import Order
from flows.retrying import on_transient
from flows.work import APPROVED, Work
from policies.files.gate import ModelFiles
from policies.gates import may_go_on
from registry.attestations import Claim, Kind, attest
from registry.bom import Data, ModelCard, environment_bom, model_bom, packages_of
from registry.bom_container import Recorded, Untold, container_bom
from registry.ledger import JSON, Event
from registry.referrers import ATTESTATION, BOM, attach, copy_referrers

REQUIREMENTS = "env/python/requirements.txt"
"""Where a Bento keeps the lock of its environment."""


@task(cache_policy=NO_CACHE, **on_transient)
def attest_release(work: Work, revision: Revision) -> None:
    """Keep beside a new revision who built, scanned and validated it, and what it is made of.

    A stored revision that is gone back to has all that from the release that made it.
    """
    if work.phase is not ReleasePhase.PACKAGING or not work.journal.completed(effects.RESOLVE):
        return
    work.check()
    work.journal.effect(effects.ATTEST, lambda: _attested(work, revision), digest=revision.digest)


@task(cache_policy=NO_CACHE, **on_transient)
def attest_approval(work: Work, revision: Revision) -> bool:
    """Keep beside the revision, in every region too, by whose approvals it may have traffic; nothing where nobody had to.

    False, and nothing is let through, where one was taken back or ran out meanwhile: the release waits again.
    """
    if work.declared.approval.required and work.proven is None and work.phase not in APPROVED:
        try:
            work.journal.effect(effects.ATTEST_APPROVAL, lambda: _approved(work, revision), digest=revision.digest)
        except _LapsedError as lapsed:
            get_run_logger().warning("%s: %s", work.desire.release, lapsed)
            return False
    return True


class _LapsedError(ConvoyError):
    """Fewer people's approvals count than a moment ago."""


def _attested(work: Work, revision: Revision) -> dict[str, JSON]:
    done = {str(event.effect_key): event for event in work.journal.events() if event.type == "effect.completed"}
    statements: dict[str, JSON] = {claim.kind.value: _kept(work, claim) for claim in _claims(work, revision, done)}
    at = done[effects.PACKAGE].at
    origin = work.house.origin
    bills = {
        "environment": _environment_bill(work, revision, at),
        "model": model_bom(revision, _card(done), at),
    }
    kept: dict[str, JSON] = {name: attach(origin, revision.digest, BOM, bill).digest for name, bill in bills.items()}
    return {"digest": revision.digest, "statements": statements, "bills": kept}


def _environment_bill(work: Work, revision: Revision, at: datetime) -> bytes:
    """Return the bill of what a revision is served with: the lock's packages, or what a container's package managers recorded."""
    container = work.declared.image.container
    if container is None:
        return environment_bom(revision, packages_of(_lock(work, revision)), at)
    told = packages_of_container(work.house, revision)
    recorded = [Recorded(each.kind, each.name, each.version) for each in told.packages]
    return container_bom(revision, recorded, Untold(container.digest, told.untold), at)


def _approved(work: Work, revision: Revision) -> dict[str, JSON]:
    declared, release = work.declared.approval, work.desire.release
    given = [order for order in counting(declared, work.orders, work.house.ledger.now()) if order.digest == revision.digest]
    if len(given) < declared.people:
        raise _LapsedError(release, f"{len(given)} of {declared.people} approvals still count")
    statements: list[JSON] = [_kept(work, _approval(work, revision, order)) for order in given]
    orders = [order.id for order in given]
    for region in work.regions:
        copy_referrers(revision.digest, work.house.origin, work.house.region_store(region))
        check_attested(work, revision, region, frozenset(orders))
    return {"digest": revision.digest, "statements": statements, "orders": list(orders)}


def _approval(work: Work, revision: Revision, order: Order) -> Claim:
    """Return one person's approval as a claim, under the epoch in which it was asked for."""
    entered = (event for event in work.journal.events() if event.type == "phase.entered")
    waited = [event.epoch for event in entered if event.payload["phase"] == ReleasePhase.AWAITING_APPROVAL.value]
    details: dict[str, JSON] = {"order": order.id}
    return Claim(Kind.APPROVAL, work.model, revision.digest, work.desire.release, waited[-1], order.at, order.operator, details=details)


def _kept(work: Work, claim: Claim) -> str:
    """Sign a claim with its kind's key and keep it; returns the statement's digest, the same whenever it is said again."""
    signed = attest(claim, work.house.attestation_keys(claim.kind).key)
    return attach(work.house.origin, claim.digest, ATTESTATION, signed.to_bytes()).digest


def _claims(work: Work, revision: Revision, done: Mapping[str, Event]) -> Iterator[Claim]:
    """Yield what the release's own book says of the revision, at the time and under the epoch when it was found."""
    resolved, gates, built = done[effects.RESOLVE], done[effects.GATES], done[effects.PACKAGE]

    def claim(kind: Kind, event: Event, by: str, passed: bool, details: Mapping[str, JSON]) -> Claim:
        return Claim(kind, work.model, revision.digest, work.desire.release, event.epoch, event.at, by, passed, details)

    source: dict[str, JSON] = {"source": resolved.payload["source_digest"], "version": work.desire.version}
    yield claim(Kind.BUILD, built, BUILDER, passed=True, details=source | {"run": resolved.payload.get("run")})
    asked = (gates, done.get(effects.OPTIMISE), done.get(effects.CONTAINER), done.get(effects.SERVICE))
    results = [result for event in asked if event for result in of_payload(event.payload.get("results"))]
    scanned = [result for result in results if result.gate == ModelFiles.name]
    if not scanned:
        raise OperationFailed(
            work.desire.release, f"an older Convoy asked its gates, '{ModelFiles.name}' not among them", "Release it again."
        )
    for kind, by, mine in ((Kind.SCAN, ModelFiles.name, scanned), (Kind.VALIDATION, "gates", results)):
        outcomes: dict[str, JSON] = {result.gate: result.outcome.value for result in mine}
        report = digest_of(canonical_json([as_payload(result) for result in mine]))
        yield claim(kind, gates, by, may_go_on(mine), {"outcomes": outcomes, "report": report})


def _lock(work: Work, revision: Revision) -> Iterator[str]:
    """Yield the lines of the lock in a stored Bento, nothing where it has none."""
    origin = work.house.origin
    for entry in origin.manifest(revision.digest).entries:
        if entry.path == REQUIREMENTS:
            yield from b"".join(origin.get_part(part.digest) for part in entry.parts).decode().splitlines()


def _card(done: Mapping[str, Event]) -> ModelCard:
    """Return what the ledger knows of a model for its card: the rows that it learned from and was judged by, and its run's metrics."""
    trained, judged = done[effects.RESOLVE].payload, done[effects.GATES].payload.get("data")
    named = {"training": trained.get("lineage"), **(judged if isinstance(judged, Mapping) else {})}
    rows = tuple(
        Data(name, str(told["sha256"]), f"{told['path']} at {told['commit']} of {told['repository']}")
        for name, told in sorted(named.items())
        if isinstance(told, Mapping)
    )
    run = trained.get("training_run")
    metrics = run.get("metrics") if isinstance(run, Mapping) else None
    figures = sorted(metrics.items()) if isinstance(metrics, Mapping) else []
    return ModelCard(datasets=rows, metrics=tuple((name, str(Decimal(str(value)))) for name, value in figures))
