"""The service gate: the real Bento is started once, measured and asked odd things, before any region gets it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from clouds.local.files import private_folder
from clouds.local.placements import parity_file
from clouds.local.trial import Trial, trial
from clouds.serving import Deployment
from fleet.declared_service import Service
from fleet.errors import IntegrityError, NotSupported, OperationFailed
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.gate_report import as_payload, refusals
from flows.retrying import on_transient
from flows.said import said_by, show_all
from flows.trial_load import ANSWER_SECONDS, Load, bodies_for, inputs_of
from flows.work import Work
from policies.odd_requests import OddRequest, odd_requests, trouble_with
from policies.service import Measured, OddAnswer, judge_service
from registry.ledger import JSON

PLACE = "gate"
"""What the service under trial is told as its region: none of the fleet's."""
MIB = 1 << 20


@task(cache_policy=NO_CACHE, **on_transient)
def measure(work: Work, revision: Revision) -> tuple[str, ...]:
    """Measure the packaged revision where fleet.yaml declares budgets; returns why it may not go on, or nothing.

    A stored revision that is gone back to was measured before, and one that is replicated already is past this.
    """
    declared = work.declared.gates.service
    if declared is None or work.phase is not ReleasePhase.PACKAGING or not work.journal.completed(effects.RESOLVE):
        return ()
    work.check()
    work.journal.effect(effects.SERVICE, lambda: _judged(work, revision, declared), digest=revision.digest)
    show_all(work)
    return tuple(map(str, refusals(said_by(work.journal.events(), effects.SERVICE))))


def _judged(work: Work, revision: Revision, declared: Service) -> dict[str, JSON]:
    began = time.monotonic()
    try:
        measured = _measured(work, revision, declared)
    except IntegrityError:
        raise
    except (OperationFailed, NotSupported) as problem:
        measured = Measured(str(problem))
    took_ms = round((time.monotonic() - began) * 1000)
    result = replace(judge_service(declared, measured), took_ms=took_ms)
    get_run_logger().info("%s: the service %s: %s", work.desire.release, result.outcome, "; ".join(result.reasons))
    return {"digest": revision.digest, "results": [as_payload(result)]}


def _measured(work: Work, revision: Revision, declared: Service) -> Measured:
    """Start the service, load it, look at its memory, and only then ask what may upset it; it is gone afterwards."""
    house = work.house
    deployment = Deployment(revision.model, PLACE, revision.digest)
    private_folder(house.home.parity)
    # what it finds out of the model, the regions need not find out again
    settings = {"PARITY": str(parity_file(house.home, revision.digest))}
    with trial(deployment, house.fetch_from_origin, work.folder / "trial", house.stack.stack_id, settings) as running:
        started = running.ready(house.settings.deploy_seconds)
        inputs = inputs_of(running.url, revision.model)
        bodies = bodies_for(house, revision, work.desire.release, inputs)
        url = f"{running.url}/v2/models/{revision.model}/infer"
        load = Load(url, bodies, declared.rate, declared.seconds, running.log.parent, house.stack.stack_id).run()
        peak = running.peak_bytes()
        odd = ask_odd(running, url, odd_requests(json.loads(bodies[0]), inputs, declared.odd))
    return Measured(
        cold_start_ms=Decimal(str(started.cold_ms)),
        load_ms=None if started.load_ms is None else Decimal(str(started.load_ms)),
        warm_up_ms=None if started.warm_up_ms is None else Decimal(str(started.warm_up_ms)),
        peak_mib=None if peak is None else (Decimal(peak) / MIB).quantize(Decimal("0.1")),
        load=load,
        odd=odd,
    )


def ask_odd(running: Trial, url: str, requests: Sequence[OddRequest]) -> tuple[OddAnswer, ...]:
    """Return how the service takes each odd request; a process that ends of one is told of, and asked no more."""
    found: list[OddAnswer] = []
    with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False, headers={"content-type": "application/json"}) as client:
        for request in requests:
            try:
                answer = client.post(url, content=request.body)
                trouble = trouble_with(answer.status_code, answer.content)
            except httpx.RequestError as problem:
                trouble = f"got no answer ({type(problem).__name__})"
            if running.process.poll() is not None:
                trouble = f"ended the process with status {running.process.returncode}"
            found.append(OddAnswer(request.kind, request.what, trouble))
            if running.process.poll() is not None:
                break
    return tuple(found)
