"""Packaging, replicating and deploying: one digest, in every region, warm before any traffic."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from bentos.build import build
from bentos.twice import difference
from clouds.serving import Deployment, RevisionStatus, State
from fleet.errors import IntegrityError, OperationFailed, Unreachable
from fleet.manifest import Manifest
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.attested import check_attested
from flows.containing import build_declared
from flows.copying_shown import Board, watched
from flows.crossing import Way, bring, misplaced, ways
from flows.gating import Source
from flows.house import House
from flows.optimising import attach_variants, served_variant
from flows.retrying import on_transient
from flows.rights import build_options
from flows.work import Work
from registry import entropy
from registry.ledger import JSON
from registry.referrers import copy_referrers
from registry.replicate import PartSource, Shared
from registry.store import ContentStore, Ref

POLL_SECONDS = 0.3


@task(cache_policy=NO_CACHE, **on_transient)
def package(work: Work, source: Source) -> Revision:
    """Make the version one Bento in the origin store; two packagings of the same files agree on the digest."""
    work.journal.enter(ReleasePhase.PACKAGING)
    work.check()
    done = work.journal.effect(effects.PACKAGE, lambda: _build(work, source), source_digest=source.digest)
    return Revision(work.model, work.desire.version, str(done["digest"]))


def take_proven(work: Work, proven: Revision) -> Revision:
    """Take the stored revision of a rollback as it is: it was validated and packaged before, and needs no MLflow now."""
    work.journal.enter(ReleasePhase.VALIDATING, "this revision was stable before and is still stored")
    work.journal.enter(ReleasePhase.PACKAGING)
    work.journal.effect(effects.PACKAGE, lambda: {"digest": proven.digest, "files": 0, "bytes": 0})
    return proven


def _build(work: Work, source: Source) -> dict[str, str | int]:
    bento = work.folder / "bento"
    manifest = _built(work, source, bento)
    if work.declared.gates.reproducible:
        _check_reproducible(manifest, _built(work, source, work.folder / "bento-again"), work)
    stored = work.house.origin.put_tree(bento)
    if stored.digest != manifest.digest:
        raise IntegrityError(str(bento), "the Bento changed between building and storing", "Run the release again.")
    attach_variants(work, stored.digest)
    return {"digest": stored.digest, "files": len(stored.entries), "bytes": stored.size}


def _built(work: Work, source: Source, bento: Path) -> Manifest:
    if bento.exists():
        # A controller that was killed right here left it, whole or not
        shutil.rmtree(bento)
    if work.declared.image.container is not None:
        named = (work.model, work.desire.version)
        return build_declared(work.declared, work.house.fleet_file.parent, source.folder, named, bento)
    options = replace(build_options(work.declared, work.house.fleet_file.parent), variant=served_variant(work))
    return build(source.folder, work.model, work.desire.version, bento, options)


def _check_reproducible(first: Manifest, second: Manifest, work: Work) -> None:
    if why := difference(first, second):
        raise IntegrityError(
            f"the Bento of {work.model} version {work.desire.version}",
            f"is not reproducible: of two builds, {why}",
            "Find what writes the time, the machine or chance into that file.",
        )


def planned(work: Work, revision: Revision) -> tuple[str, ...]:
    """Return why the revision must not lie in some of the model's regions, before it is copied anywhere; nothing when it may."""
    return misplaced(work.house, work.model, revision.digest) if work.phase is ReleasePhase.PACKAGING else ()


def replicate(work: Work, revision: Revision) -> None:
    """Copy the revision to its regions' stores and read it back there: over all borders at once, then inside each provider."""
    work.journal.enter(ReleasePhase.REPLICATING)
    work.check()
    routes = ways(work.house.fleet, work.regions)
    with watched(work, revision) as board:
        # What crosses several borders is read, and checked, once
        origin = Shared(work.house.origin)
        everywhere(replicate_to.submit(work, revision, way, origin, board) for way in routes if way.crosses)
        inside = [way for way in routes if not way.crosses]
        everywhere(replicate_to.submit(work, revision, way, work.house.region_store(way.source), board) for way in inside)


@task(cache_policy=NO_CACHE, task_run_name="replicate-to-{way.region}", **on_transient)
def replicate_to(work: Work, revision: Revision, way: Way, source: PartSource, board: Board) -> None:
    """Copy the revision to one region's store, verified there part by part, with what is said of it beside."""
    act = partial(_copy, work, revision, way, source, board)
    work.journal.effect(effects.replicate(way.region), act, digest=revision.digest, region=way.region)


def _copy(work: Work, revision: Revision, way: Way, source: PartSource, board: Board) -> dict[str, JSON]:
    told = bring(work.house, way, (revision.model, revision.digest), source, partial(board.tell, way.region))
    remember(work.house.region_store(way.region), revision)
    return told | {"beside": _copy_beside(work, revision, way)}


def remember(store: ContentStore, revision: Revision) -> None:
    """Take a revision that a store has into the tree by which stores are compared; a damaged one is mended by anti-entropy."""
    try:
        entropy.change(store, revision.model, add=[revision.digest])
    except IntegrityError as problem:
        get_run_logger().error("%s: %s", revision.model, problem)


def _copy_beside(work: Work, revision: Revision, way: Way) -> int:
    """Copy the statements about a revision; on the way back, which does not wait for a document, what is wrong is logged."""
    house = work.house
    source = house.origin if way.crosses else house.region_store(way.source)
    try:
        return copy_referrers(revision.digest, source, house.region_store(way.region))
    except IntegrityError as problem:
        if work.proven is None:
            raise
        get_run_logger().error("%s: %s", work.desire.release, problem)
        return 0


def deploy(work: Work, revision: Revision) -> None:
    """Start the revision in every region and wait until each answers with the right digest."""
    work.journal.enter(ReleasePhase.DEPLOYING)
    work.check()
    everywhere(deploy_to.submit(work, revision, region) for region in work.regions)


def everywhere(under_way: Iterable[PrefectFuture[None]]) -> None:
    """Wait for all of them, then raise the first one's error: nothing is still at work when the release goes on."""
    futures = list(under_way)
    for future in futures:
        future.wait()
    for future in futures:
        future.result()


@task(cache_policy=NO_CACHE, task_run_name="deploy-to-{region}", **on_transient)
def deploy_to(work: Work, revision: Revision, region: str) -> None:
    """Start the revision in one region, if what was signed of it holds there, and wait until it is ready."""
    work.journal.effect(effects.deploy(region), lambda: _deploy(work, revision, region), digest=revision.digest, region=region)


def _deploy(work: Work, revision: Revision, region: str) -> dict[str, str]:
    check_attested(work, revision, region)
    status = start_and_wait(work.house, revision, region)
    endpoint = f"{status.endpoint.host}:{status.endpoint.port}" if status.endpoint else ""
    return {"region": region, "digest": revision.digest, "endpoint": endpoint}


def start_and_wait(house: House, revision: Revision, region: str) -> RevisionStatus:
    """Deploy and observe until ready; raises OperationFailed with the region's own reason."""
    target = house.target(region)
    target.deploy(Deployment(revision.model, region, revision.digest), house.fetch_from(region))
    deadline = time.monotonic() + house.settings.deploy_seconds
    while True:
        status = target.status_of(region, revision.model, revision.digest)
        if status.state is State.READY:
            return status
        if status.state in (State.FAILED, State.ABSENT) or time.monotonic() > deadline:
            raise OperationFailed(
                f"region '{region}'",
                f"never became ready with {revision.digest}: {status.reason or 'it is still starting'}",
                "Look at the region's log; the release can be asked for again.",
            )
        time.sleep(POLL_SECONDS)


def retire(work: Work, revision: Revision) -> tuple[str, ...]:
    """Stop a revision everywhere, each region an effect of its own; returns, in words, where it could not be done.

    A region that is away does not keep the others: reconcile stops there what nobody wants.
    """
    left = []
    for region in work.regions:
        try:
            act = partial(_retire, work, revision, region)
            work.journal.effect(effects.retire(region, revision.digest), act, digest=revision.digest, region=region)
        except (Unreachable, OperationFailed) as problem:
            left.append(f"version {revision.version} may still run in {region}: {problem}")
    return tuple(left)


def _retire(work: Work, revision: Revision, region: str) -> dict[str, str]:
    work.house.target(region).retire(region, revision.model, revision.digest)
    status = work.house.target(region).status_of(region, revision.model, revision.digest)
    get_run_logger().info("%s: version %s is %s in %s", work.desire.release, revision.version, status.state.value, region)
    return {"region": region, "digest": revision.digest, "state": status.state.value}


def point(house: House, revision: Revision, region: str, epoch: int) -> Ref:
    """Have a region's own store say which revision it serves; nothing is written where it says so already, under any epoch."""
    store = house.region_store(region)
    said = store.resolve(revision.model)
    return said if said is not None and said.digest == revision.digest else store.point(revision.model, revision.digest, epoch)
