"""A container of the model's owner in the place of Convoy's service: packaged with the model, and tried out before any region has it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from subprocess import TimeoutExpired

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from bentos.conformance.asking import ASK_SECONDS, Subject
from bentos.conformance.contracts import CONTRACTS, judge
from bentos.conformance.images import known
from bentos.container.build import MEMORY_BYTES, Asked, build_contained
from bentos.container.packages import Told, packages_in
from clouds.local.placements import STOP_SECONDS
from clouds.local.trial import Trial, trial
from clouds.serving import Deployment
from fleet.contained import root_of
from fleet.declared import Model
from fleet.declared_image import Container
from fleet.errors import NotSupported, OperationFailed
from fleet.manifest import Manifest
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.gate_report import as_payload, refusals
from flows.house import House
from flows.measuring import PLACE
from flows.retrying import on_transient
from flows.said import said_by, show_all
from flows.trial_load import bodies_for, inputs_of
from flows.work import Work
from policies.container import FAILED, PASSED, Conformance, Kept, judge_container
from registry.ledger import JSON

CONTRACT = "convoy"
READY, ENDS = "it becomes ready as the revision", f"it ends within {STOP_SECONDS} s of SIGTERM"
ASKED = (READY, *(rule.name for rule in CONTRACTS[CONTRACT]), ENDS)
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


@task(cache_policy=NO_CACHE, **on_transient)
def try_container(work: Work, revision: Revision) -> tuple[str, ...]:
    """Hold the container that fleet.yaml declares against the contract; returns why the release may not go on, or nothing.

    A stored revision that is gone back to was tried before, and one that is replicated already is past this.
    """
    declared = work.declared.image.container
    if declared is None or work.phase is not ReleasePhase.PACKAGING or not work.journal.completed(effects.RESOLVE):
        return ()
    work.check()
    work.journal.effect(effects.CONTAINER, lambda: _judged(work, revision, declared), digest=revision.digest)
    show_all(work)
    return tuple(map(str, refusals(said_by(work.journal.events(), effects.CONTAINER))))


def build_declared(declared: Model, fleet_folder: Path, source: Path, named: tuple[str, str], to: Path) -> Manifest:
    """Make the revision of a model version and the container that fleet.yaml declares; `named` is (model, version).

    Raises what `build_contained` raises.
    """
    container, memory = declared.image.container, declared.image.resources.memory
    assert container is not None
    most = MEMORY_BYTES if memory is None else int(memory[:-2]) * UNITS[memory[-2:]]
    return build_contained(source, *named, to, Asked(fleet_folder / container.layout, container.digest, most))


def packages_of_container(house: House, revision: Revision) -> Told:
    """Return what package managers recorded in the container of a stored revision, and what cannot be told of it."""
    with tempfile.TemporaryDirectory(prefix="convoy-container-") as scratch:
        folder = Path(scratch) / "revision"
        house.fetch_from_origin(revision.digest, folder)
        return packages_in(root_of(folder))


def _judged(work: Work, revision: Revision, declared: Container) -> dict[str, JSON]:
    began = time.monotonic()
    result = judge_container(conformance_of(work, revision, declared.digest))
    result = replace(result, took_ms=round((time.monotonic() - began) * 1000))
    get_run_logger().info("%s: the container %s: %s", work.desire.release, result.outcome, "; ".join(result.reasons))
    return {"digest": revision.digest, "image": declared.digest, "results": [as_payload(result)]}


def conformance_of(work: Work, revision: Revision, image: str) -> Conformance:
    """Start a packaged container once as a region starts it, ask it for the contract, and end it; nothing of it is left.

    Raises IntegrityError where it is not what was packaged.
    """
    house = work.house
    deployment = Deployment(revision.model, PLACE, revision.digest)
    try:
        with trial(deployment, house.fetch_from_origin, work.folder / "container", house.stack.stack_id) as running:
            return Conformance(image, ASKED, tuple(_found(work, revision, running)))
    except NotSupported as problem:
        return Conformance(image, ASKED, problem=f"{problem.subject}: {problem.reason}")


def _found(work: Work, revision: Revision, running: Trial) -> Iterator[Kept]:
    try:
        started = running.ready(work.house.settings.deploy_seconds)
    except OperationFailed as problem:
        yield Kept(READY, FAILED, problem.reason)
        return
    yield Kept(READY, PASSED, f"after {started.cold_ms:g} ms")
    with httpx.Client(base_url=running.url, timeout=ASK_SECONDS, trust_env=False) as client:
        subject = known(Subject(client, revision.digest, revision.model, request=_request(work, revision, running)))
        for each in judge(subject, (CONTRACT,)):
            yield Kept(each.rule, each.outcome.value, each.reason)
    running.process.terminate()
    with suppress(TimeoutExpired):
        running.process.wait(STOP_SECONDS)
    ended = running.process.poll() is not None
    yield Kept(ENDS, PASSED if ended else FAILED, "it ended" if ended else "it did not end, and was killed")


def _request(work: Work, revision: Revision, running: Trial) -> bytes | None:
    """Return a request that the model should answer, None where none is known: then a row of zeros is tried."""
    try:
        return bodies_for(work.house, revision, work.desire.release, inputs_of(running.url, revision.model))[0]
    except (NotSupported, OperationFailed):
        return None
