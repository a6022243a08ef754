"""A model with a container of its owner's goes through the flows: packaged, tried, measured, replicated, served by a real local region."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.logging import disable_run_logger
from test_flows_measuring import written

from clouds.asking import ask
from clouds.local import contained
from clouds.local.spaces import impossible
from clouds.local.supervisor import launch
from control.stack.records import record_stack
from fleet.declared import Model
from fleet.errors import InputError, IntegrityError, NotSupported
from fleet.evidence import GateOutcome, GateResult
from fleet.manifest import manifest_of
from fleet.phases import ReleasePhase
from fleet.versions import ModelVersion, Revision
from flows import attesting, containing, effects, measuring, shipping
from flows.containing import try_container
from flows.desires import observe_candidate
from flows.gating import Source
from flows.images import ImageOrder, Order, package_version
from flows.measuring import measure
from flows.rights import needs_for
from flows.said import said_by
from flows.shipping import start_and_wait
from flows.tuning import Grid, tune
from flows.work import Claim, Work
from registry.bom import problems
from registry.replicate import replicate
from support.own_container import own_layout, program
from support.ports import free_port
from support.stack import house_without_servers

SERVICE = {"rate": 20, "seconds": 1, "cold_start_ms": 300_000, "p99_ms": 60_000, "memory_mib": 8000}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logged model that doubles its input, as the container does."""
    import mlflow.pyfunc
    import pandas

    root = tmp_path_factory.mktemp("logged")
    example = pandas.DataFrame({"x": [2.0, 3.0]})
    mlflow.pyfunc.save_model(
        root / "model",
        python_model=str(written(root / "doubles.py")),
        signature=mlflow.models.infer_signature(example, [1.0]),
        input_example=example,
        pip_requirements=[],
    )
    return root / "model"


@contextmanager
def packaged(root: Path, model_folder: Path, server: bytes, **declared: Any) -> Iterator[tuple[Work, Revision]]:
    """A release of a model with a container, packaged by the flow's own steps and not replicated yet."""
    house = house_without_servers(root)
    record_stack(house.home, free_port())
    digest = own_layout(root / "containers/doubles", server)
    raw = json.loads(house.home.fleet_file.read_text())
    raw["models"]["toy"] |= {"image": {"container": {"layout": "containers/doubles", "digest": digest}}, **declared}
    house.home.fleet_file.write_text(json.dumps(raw))
    vars(house).pop("fleet", None)
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    lease = house.leases.take("toy", "test", 300)
    assert desire is not None
    assert lease is not None
    source = Source(ModelVersion("toy", "1", "models:/toy/1"), model_folder, manifest_of(model_folder).digest, None)
    with house.leases.held(lease) as held, disable_run_logger(), pytest.MonkeyPatch.context() as patched:
        for module in (containing, measuring):
            patched.setattr(module, "show_all", lambda _: None)
        work = Work.of(house, desire, Claim(held))
        work.journal.enter(ReleasePhase.VALIDATING)
        work.journal.effect(effects.RESOLVE, dict)
        yield work, shipping.package.fn(work, source)


def said(work: Work) -> GateResult:
    (result,) = said_by(work.journal.events(), effects.CONTAINER)
    return result


@pytest.fixture
def short() -> Iterator[Path]:
    """pytest's own folders may be too deep for a unix socket."""
    root = Path(tempfile.mkdtemp(prefix="convoy-"))
    yield root / "home"
    shutil.rmtree(root)


def test_it_is_packaged_tried_measured_replicated_and_served_by_a_region_under_one_digest(short: Path, model_folder: Path) -> None:
    if why := impossible():
        pytest.skip(f"no container can be kept apart here: {why}")
    with packaged(short, model_folder, program(), gates={"service": SERVICE, "files": {"code": True}}) as (work, revision):
        assert try_container.fn(work, revision) == ()
        assert said(work).outcome is GateOutcome.PASSED
        assert [row[0] for row in said(work).tables[0].rows] == ["passed"] * len(containing.ASKED)
        assert try_container.fn(work, revision) == (), "a second time from the ledger"
        assert measure.fn(work, revision) == ()
        (service,) = said_by(work.journal.events(), effects.SERVICE)
        assert "load ms" not in dict(service.figures), "it does not say how long loading took"
        house, region = work.house, work.regions[0]
        replicate(revision.digest, house.origin, house.region_store(region))
        supervisor = launch(house.home, house.stack.stack_id)
        try:
            status = start_and_wait(house, revision, region)
            assert status.digest == revision.digest
            body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [21]}]}).encode()
            (answer,) = ask(status, [body], "golden")
            assert json.loads(answer.body)["outputs"][0]["data"] == [42.0]
            assert status.endpoint is not None
            live = httpx.get(f"http://{status.endpoint.host}:{status.endpoint.port}/v2/health/live")
            assert live.headers["x-convoy-region"] == region
            house.target(region).retire(region, "toy", revision.digest)
        finally:
            supervisor.shutdown()
        assert not (work.folder / "container").exists()


def test_its_bill_names_the_image_and_says_what_cannot_be_told(tmp_path: Path, model_folder: Path) -> None:
    with packaged(tmp_path, model_folder, program()) as (work, revision):
        bill = attesting._environment_bill(work, revision, work.house.ledger.now())
    assert problems(bill) == ()
    told = json.loads(bill)
    (image,) = [each for each in told["components"] if each["type"] == "container"]
    container = work.declared.image.container
    assert container is not None
    assert image["hashes"][0]["content"] == container.digest.removeprefix("sha256:")
    assert "no package manager recorded" in json.dumps(image["properties"])
    assert told["compositions"] == [{"aggregate": "incomplete", "assemblies": [image["bom-ref"]]}]


BREAKS = {
    "another digest": (
        lambda text: text.replace(b'os.environ["CONVOY_SERVICE_REVISION"]', b'"sha256:" + "0" * 64'),
        "it becomes ready as the revision: answers as sha256:0000",
    ),
    "no way to start": (lambda _: b"import sys; sys.exit('the weights are of another model')", "the weights are of another model"),
    "broken JSON as its own fault": (
        lambda text: text.replace(b"self.answer(400", b"self.answer(500"),
        "broken JSON is the caller's mistake",
    ),
    "other rows": (
        lambda text: text.replace(b'"outputs": [output]', b'"outputs": []'),
        "a row is answered: POST /v2/models/toy/infer answered 200",
    ),
    "a nameless answer": (
        lambda text: text.replace(b'self.send_header("X-Convoy-Revision", REVISION)', b"self.named(status)").replace(
            b"    def log_message",
            b"""    def named(self, status):
        if status == 200:
            self.send_header("X-Convoy-Revision", REVISION)

    def log_message""",
        ),
        "every answer names the revision: an unknown path answered 404",
    ),
    "columns that are none": (lambda text: text.replace(b'"inputs": [COLUMN]', b'"inputs": [1]'), "it describes its model"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_one_that_breaks_the_contract_is_refused_with_the_rule_and_why(name: str, tmp_path: Path, model_folder: Path) -> None:
    if why := impossible():
        pytest.skip(f"no container can be kept apart here: {why}")
    change, reason = BREAKS[name]
    with packaged(tmp_path, model_folder, change(program())) as (work, revision):
        refusals = try_container.fn(work, revision)
    assert said(work).outcome is GateOutcome.FAILED
    assert [each for each in refusals if each.startswith("container: ") and reason in each], refusals


def test_where_nothing_can_be_kept_apart_nothing_is_started_and_the_release_refused(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contained, "impossible", lambda: "the kernel refuses what keeps a container apart")
    with packaged(tmp_path, model_folder, program()) as (work, revision):
        (refusal,) = try_container.fn(work, revision)
        assert said(work).outcome is GateOutcome.INCONCLUSIVE
        assert refusal.startswith("container (inconclusive): serving a container of one's own: the kernel refuses")
        region = work.regions[0]
        replicate(revision.digest, work.house.origin, work.house.region_store(region))
        with pytest.raises(NotSupported, match="the kernel refuses"):
            start_and_wait(work.house, revision, region)


def test_a_model_without_a_container_and_one_that_is_past_packaging_are_not_tried(tmp_path: Path, model_folder: Path) -> None:
    with packaged(tmp_path, model_folder, b"") as (work, revision):
        work.journal.enter(ReleasePhase.REPLICATING)
        assert try_container.fn(work, revision) == ()
        assert not work.journal.completed(effects.CONTAINER)


def test_a_layout_that_is_not_what_it_says_is_not_packaged(tmp_path: Path, model_folder: Path) -> None:
    with packaged(tmp_path / "good", model_folder, b"") as (work, _):
        for blob in (tmp_path / "good/containers/doubles/blobs/sha256").iterdir():
            blob.write_bytes(blob.read_bytes() + b"x")
        with pytest.raises(IntegrityError, match="other bytes"):
            containing.build_declared(work.declared, work.house.fleet_file.parent, model_folder, ("toy", "1"), tmp_path / "again")


def test_what_is_made_of_a_bento_is_not_made_where_there_is_none(tmp_path: Path, model_folder: Path) -> None:
    with packaged(tmp_path, model_folder, b"") as (work, _):
        for order in (Order("toy", "1", tmp_path / "x.bento"), Order("toy", "1", image=ImageOrder(tmp_path / "image", {}))):
            with pytest.raises(InputError, match="so there is no Bento"):
                package_version(work.house, order, lambda text: None)
        with pytest.raises(NotSupported, match="a container of its own"):
            tune(work.house, "toy", None, Grid(), lambda point: None)
        # Declared no more, and still what was packaged last
        raw = json.loads(work.house.home.fleet_file.read_text())
        del raw["models"]["toy"]["image"]
        work.house.home.fleet_file.write_text(json.dumps(raw))
        vars(work.house).pop("fleet", None)
        with pytest.raises(NotSupported, match="a container of its own"):
            tune(work.house, "toy", None, Grid(), lambda point: None)


def test_a_site_with_advisories_is_told_that_packages_in_a_container_are_not_looked_up(tmp_path: Path, model_folder: Path) -> None:
    with packaged(tmp_path, model_folder, b"") as (work, _):
        declared: Model = work.declared
        assert needs_for(declared, work.house.settings, model_folder) is None
        told = needs_for(declared, work.house.settings.model_copy(update={"advisories": tmp_path}), model_folder)
        assert told is not None
        assert "packages of its own" in told.problems[0]
