"""Golden answers in the regions: asked of each region's own server before any traffic, and again on a schedule."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from clouds.serving import Endpoint, RevisionStatus, State
from control.doctor.case import Case
from control.doctor.findings import Level
from control.doctor.golden import golden_answers as doctor_looks
from control.gates_command import results_of
from fleet.canonical import digest_of
from fleet.declared_gates import Gates
from fleet.errors import Unreachable
from fleet.evidence import GateOutcome
from fleet.headers import TRAFFIC_HEADER
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects, golden_answers
from flows.check_golden import line
from flows.desires import model_stream, observe_candidate, release_stream
from flows.endings import reject
from flows.golden_answers import ask_in, reproduce
from flows.golden_checks import CHECKED, check, golden_stream
from flows.house import House
from flows.kept_golden import keep, kept_of
from flows.work import Claim, Work
from policies.golden import golden_file
from policies.golden_set import GoldenSet
from registry.ledger import NewEvent
from support.stack import REGIONS, house_without_servers

REVISION = Revision("toy", "2", "sha256:" + "2" * 64)
SET = GoldenSet("a test", (("x", "FP64"),), ((1.0,), (2.5,)), ("output",), ((2.0,), (5.0,)))


@dataclass
class Region:
    """A region's server that doubles x, off by so much; it remembers how requests were labelled."""

    name: str
    off: float = 0.0
    status: int = 200
    revision: str = REVISION.digest
    away: bool = False
    labels: list[str] = field(default_factory=list)
    port: int = 0
    retired: list[str] = field(default_factory=list)

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        state = State.STARTING if self.away else State.READY
        return RevisionStatus(model, region, digest, state, Endpoint("127.0.0.1", self.port))

    def retire(self, region: str, model: str, digest: str) -> None:
        self.retired.append(digest)


def server_of(region: Region) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            region.labels.append(self.headers[TRAFFIC_HEADER])
            (tensor,) = json.loads(self.rfile.read(int(self.headers["content-length"])))["inputs"]
            output = {"name": "output", "datatype": "FP64", "shape": [1], "data": [tensor["data"][0] * 2 + region.off]}
            body = json.dumps(
                {"outputs": [output]} if region.status == 200 else {"error": f"ValueError: {tensor['data']} is wrong"}
            ).encode()
            self.send_response(region.status)
            self.send_header("x-convoy-revision", region.revision)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def regions() -> Iterator[dict[str, Region]]:
    found = {name: Region(name) for name in REGIONS}
    servers = []
    for region in found.values():
        server = server_of(region)
        region.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def house(tmp_path: Path, regions: dict[str, Region], monkeypatch: pytest.MonkeyPatch) -> House:
    found = house_without_servers(tmp_path)
    monkeypatch.setattr(House, "target", lambda _, region: regions[region])
    declare(found, golden={"parity": 2})
    return found


def declare(house: House, **gates: Any) -> None:
    """Change what fleet.yaml says of the model's gates."""
    model = house.model("toy").model_copy(update={"gates": Gates.model_validate(gates)})
    vars(house)["fleet"] = house.fleet.model_copy(update={"models": {"toy": model}})


@pytest.fixture
def work(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """A release that was deployed everywhere, whose gates left a golden set."""
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert desire is not None
    lease = house.leases.take("toy", "test", 30)
    assert lease is not None
    monkeypatch.setattr(golden_answers, "ask_in", SimpleNamespace(submit=lambda *given: Done(ask_in.fn, given)))
    monkeypatch.setattr("flows.said.show_gates", lambda *_: None)
    monkeypatch.setattr("flows.endings.show_ending", lambda *_: None)
    with house.leases.held(lease) as held, disable_run_logger():
        found = Work.of(house, desire, Claim(held))
        left = golden_file(found.folder / "gates" / "golden-answers")
        left.parent.mkdir(parents=True)
        left.write_bytes(SET.to_bytes())
        found.journal.enter(ReleasePhase.VALIDATING)
        found.journal.effect(effects.GATES, lambda: {"refusals": [], "results": [], "golden": keep(found)})
        found.journal.enter(ReleasePhase.PACKAGING)
        found.journal.effect(effects.PACKAGE, lambda: {"digest": REVISION.digest})
        for phase in (ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING):
            found.journal.enter(phase)
        yield found


class Done:
    """A task that has run when its future is made."""

    def __init__(self, act: Any, given: tuple[Any, ...]) -> None:
        self._problem: Exception | None = None
        try:
            act(*given)
        except Exception as problem:  # noqa: BLE001 - raised to whoever asks for the result
            self._problem = problem

    def wait(self) -> None:
        pass

    def result(self) -> None:
        if self._problem is not None:
            raise self._problem


def completed(work: Work) -> list[str]:
    return [str(event.effect_key) for event in work.journal.events() if event.type == "effect.completed"]


def promote(house: House, release: str) -> None:
    stable = {"version": REVISION.version, "digest": REVISION.digest, "release": release}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))


def test_regions_that_reproduce_the_answers_may_have_traffic_and_are_asked_once(work: Work, regions: dict[str, Region]) -> None:
    assert reproduce(work, REVISION) == ()
    assert [key for key in completed(work) if key.startswith("golden:")] == [f"golden:{region}" for region in REGIONS]
    assert {tuple(region.labels) for region in regions.values()} == {("golden", "golden")}
    assert reproduce(work, REVISION) == ()
    assert {len(region.labels) for region in regions.values()} == {2}


def test_one_region_that_answers_otherwise_keeps_the_revision_from_all_traffic(work: Work, regions: dict[str, Region]) -> None:
    regions["europe-west4"].off = 0.5
    refused = reproduce(work, REVISION)
    assert refused == (
        "golden answers in europe-west4: 2 of 2 requests differ from the golden answers",
        "golden answers in europe-west4: request 1, output 'output': expected 2.0, got 2.5 (allowed: 0.000001 + 0.000001 of it)",
        "golden answers in europe-west4: request 2, output 'output': expected 5.0, got 5.5 (allowed: 0.000001 + 0.000001 of it)",
    )
    assert reproduce(work, REVISION) == refused
    assert reject(work, refused) is ReleasePhase.REJECTED
    assert {tuple(region.retired) for region in regions.values()} == {(REVISION.digest,)}
    shown = {result.gate: result.outcome for result in results_of(work.house, work.desire.release)}
    assert shown == {f"golden answers in {region}": GateOutcome.PASSED for region in REGIONS} | {
        "golden answers in europe-west4": GateOutcome.FAILED
    }


def test_the_tolerance_tells_other_hardware_from_another_model(work: Work, regions: dict[str, Region]) -> None:
    regions["europe-west4"].off = 1e-7
    assert reproduce(work, REVISION) == ()


def test_the_ledger_holds_no_row_and_the_origin_store_the_whole_set(work: Work, regions: dict[str, Region]) -> None:
    regions["us-east-1"].status = 500
    assert "request 1: expected an answer, got 500 (ValueError)" in " ".join(reproduce(work, REVISION))
    told = work.house.ledger.stream(release_stream(work.desire.release), "effect.completed")
    assert not any("is wrong" in json.dumps(event.payload) for event in told)
    (gates,) = (event.payload["golden"] for event in told if event.effect_key == effects.GATES)
    assert gates == {"digest": digest_of(SET.to_bytes()), "rows": 2, "origin": "a test"}
    kept = kept_of(work.house, REVISION)
    assert kept is not None
    assert kept.golden == SET


@pytest.mark.parametrize("trouble", [{"away": True}, {"status": 503}, {"revision": "sha256:another"}])
def test_a_region_that_cannot_be_asked_now_leaves_the_release_open(work: Work, regions: dict[str, Region], trouble: dict[str, Any]) -> None:
    vars(regions["southeastasia"]).update(trouble)
    with pytest.raises(Unreachable, match="southeastasia"):
        reproduce(work, REVISION)
    assert completed(work)[-2:] == ["golden:us-east-1", "golden:europe-west4"]
    vars(regions["southeastasia"]).update({"away": False, "status": 200, "revision": REVISION.digest})
    assert reproduce(work, REVISION) == ()


def test_nothing_is_asked_without_a_declaration_without_a_set_or_once_it_had_traffic(work: Work, regions: dict[str, Region]) -> None:
    declare(work.house)
    assert reproduce(work, REVISION) == ()
    declare(work.house, golden={})
    work.journal.enter(ReleasePhase.CANARY)
    assert reproduce(work, REVISION) == ()
    assert {len(region.labels) for region in regions.values()} == {0}


def test_a_set_that_a_killed_controller_left_is_kept_only_where_the_gates_left_one(work: Work) -> None:
    golden_file(work.folder / "gates" / "golden-answers").unlink()
    assert keep(work) is None


def test_the_schedule_records_where_it_changed_and_the_doctor_tells(work: Work, regions: dict[str, Region]) -> None:
    house, case = work.house, Case(work.house)
    assert next(found.reason for found in doctor_looks(case)).startswith("were not asked for yet")
    assert line(check(house, "toy", "test")) == "not asked: no version was released yet"
    promote(house, work.desire.release)
    for _ in range(3):
        assert line(check(house, "toy", "test")) == f"reproduced in {', '.join(REGIONS)}"
    assert [found.level for found in doctor_looks(case)] == [Level.OK]

    regions["europe-west4"].off, regions["southeastasia"].away = 1.0, True
    for _ in range(2):
        said = line(check(house, "toy", "test"))
        assert said == "reproduced in us-east-1; different in europe-west4; not asked in southeastasia"
    (found,) = doctor_looks(case)
    assert (found.level, found.remedy) == (Level.PROBLEM, "convoy ledger show --stream golden/toy")
    assert "version 2 gives others in europe-west4 since" in found.reason
    assert "request 1, output 'output': expected 2.0, got 3.0" in found.reason

    regions["europe-west4"].off = 0.0
    check(house, "toy", "test")
    assert [found.level for found in doctor_looks(case)] == [Level.OK]
    told = [event.payload["regions"] for event in house.ledger.stream(golden_stream("toy"), CHECKED)]
    same = dict.fromkeys(REGIONS, "reproduced")
    assert told == [same, same | {"europe-west4": "different"}, same]


def test_a_revision_of_before_is_asked_with_the_set_of_the_release_that_brought_it(work: Work) -> None:
    house = work.house
    again = observe_candidate(house.ledger, "toy", "3", "test")
    assert again is not None
    promote(house, "a rollback")
    kept = kept_of(house, REVISION)
    assert kept is not None
    assert kept.release == work.desire.release
    assert kept_of(house, Revision("toy", "9", "sha256:" + "9" * 64)) is None


def test_what_was_released_without_golden_answers_says_so(house: House) -> None:
    promote(house, "an earlier one")
    assert line(check(house, "toy", "test")) == "not asked: version 2 was released without; the next release brings them"
    declare(house)
    assert line(check(house, "toy", "test")) == "not asked: fleet.yaml declares none"
