"""How long a plan takes for 10, 100, 1,000 and 10,000 models in 24 regions, from what reconcile saw last."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import insert, update

from benchmarks.form import Row, measured, skipped
from clouds.serving import State
from control.plan_commands import planned
from fleet.canonical import digest_of
from fleet.home import Home
from fleet.parsed import keep_parsed
from fleet.reading import fleet_of
from fleet.settings import NO_TELEMETRY, Settings, inherited_environment
from flows.desires import OBSERVED, model_stream, release_stream
from flows.house import House
from flows.plan import plan_model
from flows.plan_stored import keep, kept
from flows.plan_values import Kept, Observations, Place, Routed, Running, SeenEdges, SeenModel, SeenRegion
from flows.rules import rules_of
from flows.wanting import STABLE_SET, rules_digest, wanted_of_all
from registry.events import NewEvent, recordable, sealed
from registry.ledger import HEAD_ID, _columns
from registry.tables import EVENTS, HEAD

SIZES = (10, 100, 1_000, 10_000)
ASKED, MOST_SECONDS = 1_000, 2.0
REGIONS = tuple(f"region-{number:02}" for number in range(24))
DRIFTED = 100
"""Every so many models one has drifted: a server is gone, and another revision runs in its place."""
PHASES = ("validating", "packaging", "replicating", "deploying", "canary", "promoting", "promoted")
PARSED_AT_MOST = 1_000


def run(quick: bool) -> list[Row]:
    """Return the rows of every size; the quick run leaves the largest out."""
    rows: list[Row] = []
    for models in SIZES:
        if quick and models > ASKED:
            rows += [
                skipped(name, _subject(models), "s", "only in the full run")
                for name in ("plan --stored, the whole command", "plan, in one process")
            ]
            continue
        with installed(models) as house:
            rows += rows_of(house, models, rounds=1 if quick else 5 if models <= ASKED else 3)
    return rows


def rows_of(house: House, models: int, rounds: int) -> list[Row]:
    """Return what planning takes at one size, whole and part by part."""
    subject, target = _subject(models), MOST_SECONDS if models == ASKED else None
    convoy = (str(Path(sys.executable).parent / "convoy"), "plan", "--stored", "--json")
    environment = {**inherited_environment(), **NO_TELEMETRY, "CONVOY_HOME": str(house.home.root)}

    def command() -> object:
        done = subprocess.run(convoy, env=environment, capture_output=True, check=False)
        assert len(orjson.loads(done.stdout)["actions"]) == (2 + len(REGIONS)) * -(-models // DRIFTED), done.stderr
        return None

    def anew() -> House:
        return House(house.settings, house.home)

    text, wanted, seen = house.fleet_text, wanted_of_all(house, house.fleet.models), kept(house.home)
    stored = house.home.observed_file.read_bytes()
    rows = [
        measured("plan --stored, the whole command", subject, _timed(command, rounds), "s", target),
        measured("plan, in one process", subject, _timed(lambda: planned(anew(), None, stored=True), rounds), "s", target),
        measured("of it: fleet.yaml that was read before", subject, _timed(lambda: anew().fleet, rounds), "s"),
        measured("of it: the ledger", subject, _timed(lambda: wanted_of_all(house, house.fleet.models), rounds), "s"),
        measured("of it: what was seen", subject, _timed(lambda: kept(house.home), rounds), "s"),
        measured(
            "of it: the planner alone", subject, _timed(lambda: [plan_model(wanted[each.model], each) for each in seen.models], rounds), "s"
        ),
        measured("limit: the stored bytes parsed, nothing else", subject, _timed(lambda: orjson.loads(stored), rounds), "s"),
    ]
    name = "once: fleet.yaml that nobody read before"
    if models > PARSED_AT_MOST:
        return [*rows, skipped(name, subject, "s", "ten times that of 1,000 models, as the parser goes line by line")]
    return [*rows, measured(name, subject, _timed(lambda: fleet_of(text, "fleet.yaml"), 1), "s")]


@contextmanager
def installed(models: int) -> Iterator[House]:
    """Give an installation with a fleet, the ledger of a promoted release of each model, and what reconcile saw last."""
    with tempfile.TemporaryDirectory(prefix="convoy-plan-") as folder:
        home = Home(Path(folder))
        declared = fleet(models)
        text = json.dumps(declared, indent=1).encode()
        home.fleet_file.write_bytes(text)
        keep_parsed(home.parsed, text, declared)
        house = House(Settings(home=home.root), home)
        house.ledger.migrate()
        promote_all(house)
        keep(home, observations(house))
        yield house
        house.ledger.close()


def fleet(models: int) -> dict[str, Any]:
    """Return a fleet in which every model is served in every region."""
    places = {region: {"target": "local", "provider": "aws", "place": region, "jurisdiction": "US"} for region in REGIONS}
    model = {
        "owner": "models@example.org",
        "on_call": "#models",
        "runbook": "https://runbooks.example.org/models",
        "regions": list(REGIONS),
        "slo": {region: {"latency_ms": 200, "error_rate": 0.01} for region in REGIONS},
        "rto_seconds": 60,
        "rpo_releases": 0,
        "rollback": {"margin": 0.01},
    }
    return {"version": 1, "name": "large", "regions": places, "models": {f"model-{number:05}": model for number in range(models)}}


def promote_all(house: House) -> None:
    """Write what a promoted release of each model leaves in the ledger, all in one transaction."""
    events = [event for model in house.fleet.models for event in _story(model)]
    head, lengths, columns = house.ledger.head(), dict[str, int](), []
    for each in events:
        lengths[each.stream] = lengths.get(each.stream, 0) + 1
        event = sealed(recordable(each), head, lengths[each.stream], house.ledger.now())
        columns.append(_columns(event))
        head = replace(head, seq=event.seq, hash=event.hash)
    with house.ledger.database.writing() as connection:
        connection.execute(insert(EVENTS), columns)
        connection.execute(update(HEAD).where(HEAD.c.id == HEAD_ID).values(seq=head.seq, hash=head.hash))


def observations(house: House) -> Observations:
    """Return what reconcile would see: all as it must be, but for one model in a hundred."""
    rules = {model: rules_digest(rules_of(house.fleet, model)) for model in house.fleet.models}
    return Observations(house.ledger.now(), tuple(_seen(model, number, rules[model]) for number, model in enumerate(house.fleet.models)))


def _story(model: str) -> Iterator[NewEvent]:
    release = f"{model}-1"
    wish = {"version": "1", "release": release, "why": "alias"}
    yield NewEvent(model_stream(model), OBSERVED, wish, "benchmark", model=model)
    for before, phase in zip(("requested", *PHASES), PHASES, strict=False):
        told = {"phase": phase, "from": before, "reasons": []}
        yield NewEvent(release_stream(release), "phase.entered", told, "benchmark", model=model)
    stable = {"version": "1", "digest": _digest(model), "release": release}
    yield NewEvent(model_stream(model), STABLE_SET, stable, "benchmark", model=model)


def _seen(model: str, number: int, rules: str) -> SeenModel:
    digest, places = (
        _digest(model),
        tuple(Place(_digest(model), region, f"10.0.0.1:{9000 + position}") for position, region in enumerate(REGIONS)),
    )
    regions = tuple(
        SeenRegion(
            place.region, (Running(_running(digest, number, place), State.READY, place.at),), Kept(holds=True, names=digest, epoch=1)
        )
        for place in places
    )
    edges = SeenEdges(REGIONS, Routed(((digest, 100.0),), places, rules, 1))
    return SeenModel(model, regions, (edges,), "1", "1")


def _running(digest: str, number: int, place: Place) -> str:
    return digest_of(b"by hand") if number % DRIFTED == 0 and place.region == REGIONS[0] else digest


def _digest(model: str) -> str:
    return digest_of(model.encode())


def _subject(models: int) -> str:
    return f"{models:,} models, {len(REGIONS)} regions"


def _timed(act: Callable[[], object], rounds: int) -> list[float]:
    """Return how long something takes, each time anew."""
    found = []
    for _ in range(rounds + (rounds > 1)):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return found[1:] if rounds > 1 else found
