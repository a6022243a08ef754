"""The service gate on a real Bento: started once, loaded, asked odd things, judged; and gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from prefect.logging import disable_run_logger

from bentos.build import build
from fleet.declared_gates import Gates
from fleet.declared_service import Odd, Service
from fleet.errors import NotSupported
from fleet.evidence import GateOutcome
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects, measuring
from flows.desires import observe_candidate
from flows.endings import reject
from flows.house import House
from flows.measuring import ask_odd, measure
from flows.said import said_so_far
from flows.trial_load import bodies_for, loaded, percentile
from flows.work import Claim, Work
from policies.odd_requests import OddRequest
from policies.service import Measured, judge_service
from support.stack import house_without_servers

SERVICE = {"rate": 40, "seconds": 1, "cold_start_ms": 300_000, "p99_ms": 60_000, "memory_mib": 8000}


@contextmanager
def packaged(root: Path) -> Iterator[Work]:
    """A release of a toy model, packaged into the origin store and not replicated yet."""
    house = house_without_servers(root)
    model = house.model("toy").model_copy(update={"gates": Gates.model_validate({"service": SERVICE})})
    vars(house)["fleet"] = house.fleet.model_copy(update={"models": {"toy": model}})
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    lease = house.leases.take("toy", "test", 300)
    assert desire is not None
    assert lease is not None
    with house.leases.held(lease) as held, disable_run_logger():
        work = Work.of(house, desire, Claim(held))
        for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING):
            work.journal.enter(phase)
        digest = house.origin.put_tree(bento(root)).digest
        work.journal.effect(effects.RESOLVE, dict)
        work.journal.effect(effects.PACKAGE, lambda: {"digest": digest})
        yield work


def bento(root: Path) -> Path:
    """Save and package a model that doubles its input."""
    import mlflow.pyfunc
    import pandas

    example = pandas.DataFrame({"x": [2.0, 3.0]})
    mlflow.pyfunc.save_model(
        root / "model",
        python_model=str(written(root / "doubles.py")),
        signature=mlflow.models.infer_signature(example, [1.0]),
        input_example=example,
        pip_requirements=[],
    )
    build(root / "model", "toy", "1", root / "bento")
    return root / "bento"


def written(file: Path) -> Path:
    file.write_text(
        "import mlflow.pyfunc\nfrom mlflow.models import set_model\n"
        "class Doubles(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input['x'].to_numpy() * 2\n"
        "set_model(Doubles())\n"
    )
    return file


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    with packaged(tmp_path_factory.mktemp("measured")) as found:
        yield found


@pytest.fixture(scope="module")
def measured(work: Work) -> Measured:
    """What one real start of the service came to; what the flow says of it stands in the ledger afterwards."""
    found: list[Measured] = []
    real = measuring._measured

    def once(*given: Any) -> Measured:
        found.append(real(*given))
        return found[0]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measuring, "_measured", once)
        patched.setattr(measuring, "show_all", lambda _: None)
        revision = work.revision
        assert revision is not None
        refused = measure.fn(work, revision)
        assert measure.fn(work, revision) == refused
    assert len(found) == 1
    return found[0]


def test_a_real_service_is_started_measured_and_gone(work: Work, measured: Measured) -> None:
    assert measured.problem == ""
    assert measured.cold_start_ms > measured.load_ms > 0
    assert measured.warm_up_ms > 0
    assert measured.peak_mib is not None
    assert 20 < measured.peak_mib < 8000
    load = measured.load
    assert load is not None
    assert load.failed == 0
    assert 0 < load.p50_ms <= load.p99_ms
    assert not (work.folder / "trial").exists()
    assert [process for process in psutil.process_iter() if str(work.folder) in environment_of(process)] == []


def environment_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("CONVOY_SERVICE_ROOT", "")
    except (psutil.Error, OSError):
        return ""


def test_a_model_that_doubles_a_missing_value_is_refused_until_that_is_left_out(work: Work, measured: Measured) -> None:
    # Whatever the machine is busy with: this is about the answers
    calm = replace(measured, load=replace(measured.load, sent=41, scheduled=41, lag_p99_ms=Decimal(0)))  # type: ignore[type-var]
    refused = judge_service(Service(), calm)
    assert refused.outcome is GateOutcome.FAILED
    assert refused.reasons[0] == "a request with null in column 'x' was answered with a NaN in output output"
    without = replace(calm, odd=tuple(each for each in calm.odd if each.kind is not Odd.MISSING_VALUE))
    assert judge_service(Service(), without).outcome is GateOutcome.PASSED
    assert {each.kind for each in measured.odd} == set(Odd)


def test_what_it_came_to_stands_in_the_ledger_and_ends_the_release(work: Work, measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = said_so_far(work.journal.events())
    assert (said.gate, said.outcome) == ("service", GateOutcome.FAILED)
    assert said.took_ms > 0
    assert {"cold start ms", "load ms", "warm-up ms", "p50 ms", "p99 ms", "memory MiB"} <= set(dict(said.figures))
    monkeypatch.setattr("flows.endings.show_ending", lambda *_: None)
    assert reject(work, said.reasons) is ReleasePhase.REJECTED
    assert [str(event.effect_key) for event in work.journal.events() if event.type == "effect.completed"] == [
        "resolve",
        "package",
        "service",
    ]


def test_a_model_without_rows_to_send_is_told_how_to_have_some(tmp_path: Path) -> None:
    house = house_without_servers(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    digest = house.origin.put_tree(tmp_path / "tree").digest
    with pytest.raises(NotSupported, match="there are no requests to send: the model was logged without an input example") as told:
        bodies_for(house, Revision("toy", "1", digest), "toy-1", [])
    assert "Or declare gates.golden." in told.value.remedy


def test_an_odd_request_that_ends_the_process_is_the_last_one_that_is_sent() -> None:
    gone: Any = SimpleNamespace(process=SimpleNamespace(poll=lambda: -11, returncode=-11))
    requests = [OddRequest(Odd.UNSEEN_VALUE, what, b"{}") for what in ("one", "another")]
    (found,) = ask_odd(gone, "http://127.0.0.1:9/", requests)
    assert (found.what, found.trouble) == ("one", "ended the process with status -11")


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    ordered = [Decimal(value) for value in range(1, 101)]
    assert (percentile(ordered, 50), percentile(ordered, 99), percentile(ordered[:3], 99), percentile([], 99)) == (50, 99, 3, 0)


def test_a_load_is_read_from_its_log_and_its_totals() -> None:
    sent = [{"milliseconds": 2.5, "status": 200, "error": ""}, {"milliseconds": 9.0, "status": 0, "error": "TimeoutError: "}]
    found = loaded(sent, {"scheduled": 3, "p99_lag_ms": 0.4})
    assert (found.scheduled, found.sent, found.failed, found.p99_ms, found.first_failure) == (3, 2, 1, Decimal("9.0"), "TimeoutError: ")
    assert not found.held


def test_a_release_without_budgets_or_past_its_packaging_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house: House = house_without_servers(tmp_path)
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    lease = house.leases.take("toy", "test", 30)
    assert desire is not None
    assert lease is not None
    monkeypatch.setattr(measuring, "_judged", lambda *_: pytest.fail("something was started"))
    with house.leases.held(lease) as held, disable_run_logger():
        work = Work.of(house, desire, Claim(held))
        for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING):
            work.journal.enter(phase)
        assert measure.fn(work, Revision("toy", "1", "sha256:" + "1" * 64)) == ()
        model = house.model("toy").model_copy(update={"gates": Gates.model_validate({"service": SERVICE})})
        vars(house)["fleet"] = house.fleet.model_copy(update={"models": {"toy": model}})
        work.journal.enter(ReleasePhase.REPLICATING)
        assert measure.fn(work, Revision("toy", "1", "sha256:" + "1" * 64)) == ()
        assert not work.journal.completed(effects.SERVICE)
