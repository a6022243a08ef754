"""Variants of a real model, made and tried in the sandbox: what is kept, what is served, what is refused."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect.logging import disable_run_logger
from test_flows_images import Registered, said

from bentos.oci.layout import Layout
from bentos.oci.unpack import image_in
from fleet.declared_golden import Golden, Tolerance
from fleet.declared_optimise import Optimise, Variant
from fleet.errors import OperationFailed
from fleet.evidence import GateOutcome
from fleet.manifest import manifest_of
from fleet.phases import ReleasePhase
from flows import effects, optimising
from flows.desires import observe_candidate
from flows.gating import Source
from flows.images import ImageOrder, Order, package_version
from flows.optimising import optimise, served_variant
from flows.said import said_so_far
from flows.shipping import _build
from flows.work import Claim, Work
from policies.golden_set import GoldenSet
from policies.parity import Parity, Speed, Tried, judge_parity
from registry.referrers import BOM, IMAGE, IMAGE_INDEX, TUNING, VARIANT, attach, documents, referrers
from support.graphs import saved_network
from support.images import AMD64, root_folder, stub_environment
from support.stack import house_without_servers

NO_TAGS: dict[str, str] = {}


@pytest.fixture(scope="module")
def logistic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that answers with probabilities, with fifty rows as its input example."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = pd.DataFrame(np.random.default_rng(5).normal(size=(50, 3)), columns=["a", "b", "c"])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows["a"] > rows["b"])
    folder = tmp_path_factory.mktemp("logistic") / "model"
    signature = infer_signature(rows, model.predict_proba(rows))
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=signature,
        input_example=rows,
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn", "skops"],
    )
    return folder


@contextmanager
def validated(root: Path, declared: Optimise) -> Iterator[Work]:
    """A release whose gates have let it go on; nothing is packaged yet."""
    house = house_without_servers(root)
    model = house.model("toy").model_copy(update={"optimise": declared})
    vars(house)["fleet"] = house.fleet.model_copy(update={"models": {"toy": model}})
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    lease = house.leases.take("toy", "test", 300)
    assert desire is not None
    assert lease is not None
    with house.leases.held(lease) as held, disable_run_logger(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(optimising, "show_all", lambda _: None)
        work = Work.of(house, desire, Claim(held))
        work.journal.enter(ReleasePhase.VALIDATING)
        yield work


def source(folder: Path) -> Source:
    return Source(SimpleNamespace(version="1", tags=NO_TAGS), folder, manifest_of(folder).digest, None)  # type: ignore[arg-type]


def told(work: Work) -> Any:
    (event,) = [each for each in work.journal.events() if each.type == "effect.completed" and each.effect_key == effects.OPTIMISE]
    return event.payload


def test_a_variant_that_answers_alike_is_packaged_and_what_it_won_stands_beside_the_revision(tmp_path: Path, logistic: Path) -> None:
    """Everything is real but MLflow's registry: sandbox, converter, scanner, store and Bento."""
    declared = Optimise(variants=(Variant.ONNX, Variant.INT8), serve=Variant.ONNX, seconds=0.05)
    with validated(tmp_path, declared) as work:
        assert optimise.fn(work, source(logistic)) == ()
        payload = told(work)
        assert list(payload["variants"]) == ["onnx"]
        (result,) = said_so_far(work.journal.events())
        assert (result.gate, result.outcome) == ("parity", GateOutcome.PASSED)
        assert dict(result.figures)["rows"] == "50"
        assert "has no matrices of its own" in result.tables[0].rows[2][-1]
        served = served_variant(work)
        assert served is not None
        assert manifest_of(served).digest == payload["variants"]["onnx"]["digest"]
        first, again = _build(work, source(logistic)), _build(work, source(logistic))
        assert first["digest"] == again["digest"]
        paths = {entry.path for entry in work.house.origin.manifest(str(first["digest"])).entries}
        assert {"src/variant/model.onnx", "src/variant/variant.json", "src/model/MLmodel"} <= paths
        (kept,) = documents(work.house.origin, str(first["digest"]), VARIANT)
        document = json.loads(kept)
        assert (document["variant"], document["served"], document["subject"]) == ("onnx", True, first["digest"])
        assert Decimal(document["rows_a_second_in_batches_of_64"]) > 0
        assert work.house.origin.manifest(document["digest"]).size == int(document["bytes"])


@pytest.mark.long
def test_a_package_serves_the_variant_that_a_release_would_and_its_image_tells_of_it_and_of_the_tuning(
    tmp_path: Path, logistic: Path
) -> None:
    """The same digest with the variant in it; in the image it lies with the model, and what is known of it beside."""
    with validated(tmp_path, Optimise(serve=Variant.ONNX, rows=20, seconds=0.05)) as work:
        house = work.house
        house.__dict__["models"] = Registered(logistic, "1")
        before = package_version(house, Order("toy", "1", tmp_path / "bento"), said)
        assert optimise.fn(work, source(logistic)) == ()
        released = str(_build(work, source(logistic))["digest"])
        attach(house.origin, released, TUNING, b'{"subject": "any"}')
        environment = stub_environment(tmp_path / "environment", tmp_path / "bento")
        order = ImageOrder(tmp_path / "image", {AMD64: root_folder(tmp_path / "root")}, {AMD64: environment})
        packed = package_version(house, Order("toy", "1", image=order), said)

    assert before.revision.digest == packed.revision.digest == released
    assert (tmp_path / "bento/src/variant/model.onnx").is_file()
    layout = Layout(order.to)
    _, manifest, _ = image_in(layout, AMD64)
    *_, service, model = [layer_names(layout, layer["digest"]) for layer in manifest["layers"]]
    assert {name.rpartition("/src/")[2] for name in model} >= {"variant/model.onnx", "variant/variant.json", "model/MLmodel"}
    assert not any("/src/variant" in name or "/src/model" in name for name in service)
    kinds = [each.get("artifactType") for each in json.loads((order.to / "index.json").read_text())["manifests"]]
    assert sorted(filter(None, kinds)) == sorted([BOM, TUNING, VARIANT])
    assert {found.media_type for found in referrers(house.origin, released)} == {IMAGE, IMAGE_INDEX, BOM, TUNING, VARIANT}


@pytest.mark.long
def test_golden_answers_of_a_release_change_nothing_of_its_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the input example no row depends on x, of the golden rows each does: a missing x is another answer only there."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.tree import DecisionTreeClassifier

    y, x = np.repeat([-1.0, 1.0], 50), np.tile(np.arange(-25.0, 25.0), 2)
    rows = pd.DataFrame({"y": y, "x": x})
    tree = DecisionTreeClassifier(random_state=1).fit(rows, (y > 0) & (x > 10))
    example = rows[rows["y"] < 0].head(10)
    folder = tmp_path / "model"
    mlflow.sklearn.save_model(
        tree,
        folder,
        signature=infer_signature(rows, tree.predict(rows)),
        input_example=example,
        pip_requirements=["scikit-learn", "cloudpickle"],
        serialization_format="cloudpickle",
    )
    golden = GoldenSet("the test", (("y", "FP64"), ("x", "FP64")), ((1.0, 5.0), (1.0, 20.0)), ("output",), ((False,), (True,)))
    monkeypatch.setattr(optimising, "golden_set", lambda *_: golden)
    with validated(tmp_path / "work", Optimise(serve=Variant.ONNX, seconds=0.05)) as work:
        assert optimise.fn(work, source(folder)) == ()
        packaged = optimising.make_served_variant(work.house, work.declared, source(folder), tmp_path / "packaged")
        assert packaged is not None
        assert dict(said_so_far(work.journal.events())[0].figures)["rows"] == "12"
        assert told(work)["variants"]["onnx"]["digest"] == manifest_of(packaged).digest


@pytest.mark.long
def test_a_variant_that_the_gate_did_not_keep_is_not_served_when_fleet_yaml_names_it_afterwards(tmp_path: Path, logistic: Path) -> None:
    with validated(tmp_path, Optimise(serve=Variant.ONNX, rows=20, seconds=0.05)) as work:
        assert optimise.fn(work, source(logistic)) == ()
        other = Optimise(variants=(Variant.ONNX, Variant.INT8), serve=Variant.INT8)
        changed = work.declared.model_copy(update={"optimise": other})
        vars(work.house)["fleet"] = work.house.fleet.model_copy(update={"models": {"toy": changed}})
        with pytest.raises(OperationFailed, match=r"onnx-int8 of toy version 1: was not kept by this release's gate 'parity'"):
            served_variant(work)


def layer_names(layout: Layout, digest: str) -> list[str]:
    with tarfile.open(layout.blob(digest)) as tar:
        return [member.name for member in tar if member.isreg()]


@pytest.mark.long
def test_a_variant_that_answers_otherwise_is_not_served_and_the_release_ends(tmp_path: Path, logistic: Path) -> None:
    """Numbers of 32 bits are never those of 64 to the last digit."""
    exact = Tolerance(absolute=Decimal(0), relative=Decimal(0))
    with validated(tmp_path, Optimise(serve=Variant.ONNX, tolerance=exact, rows=20, seconds=0.05)) as work:
        refusals = optimise.fn(work, source(logistic))
        assert refusals[0].startswith("parity: onnx, which is to be served: ")
        assert "rows differ (allowed: 0)" in refusals[0]
        assert told(work)["variants"] == {}


def test_a_model_without_such_a_variant_goes_on_without_one_that_is_not_to_be_served(tmp_path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    file = tmp_path / "doubles.py"
    file.write_text(
        "import mlflow.pyfunc\nfrom mlflow.models import set_model\n"
        "class Doubles(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n        return model_input['x'].to_numpy() * 2\n"
        "set_model(Doubles())\n"
    )
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    signature = infer_signature(rows, [1.0])
    mlflow.pyfunc.save_model(tmp_path / "model", python_model=str(file), signature=signature, input_example=rows, pip_requirements=[])
    with validated(tmp_path, Optimise(seconds=0.05)) as work:
        assert optimise.fn(work, source(tmp_path / "model")) == ()
        (result,) = said_so_far(work.journal.events())
        assert result.outcome is GateOutcome.PASSED
        assert "have variants, and this one is loaded by" in result.reasons[1]
        assert served_variant(work) is None


@pytest.mark.long
def test_a_model_of_tensors_is_tried_with_its_input_example(tmp_path: Path) -> None:
    """Its weights in 16 bits are near enough, in 8 bits they are not."""
    near = Tolerance(absolute=Decimal("0.02"), relative=Decimal("0.01"))
    folder, _ = saved_network(tmp_path / "model")
    declared = Optimise(variants=(Variant.FP16, Variant.INT8), serve=Variant.FP16, tolerance=near, seconds=0.05)
    with validated(tmp_path / "work", declared) as work:
        assert optimise.fn(work, source(folder)) == ()
        assert list(told(work)["variants"]) == ["onnx-fp16"]
        (result,) = said_so_far(work.journal.events())
        assert dict(result.figures)["rows"] == "30"
        assert "rows differ" in result.tables[0].rows[2][-1]
        packaged = optimising.make_served_variant(work.house, work.declared, source(folder), tmp_path / "packaged")
        assert packaged is not None
        assert told(work)["variants"]["onnx-fp16"]["digest"] == manifest_of(packaged).digest


def test_a_model_without_rows_is_released_as_it_is_and_not_with_a_variant(tmp_path: Path) -> None:
    folder, _ = saved_network(tmp_path / "model")
    (folder / "serving_input_example.json").unlink()
    for serve, refused in ((None, False), (Variant.FP16, True)):
        with validated(tmp_path / str(serve), Optimise(variants=(Variant.FP16,), serve=serve, seconds=0.05)) as work:
            reasons = optimise.fn(work, source(folder))
            assert bool(reasons) is refused
            assert "neither rows with x nor an input example of tensors" in str(said_so_far(work.journal.events())[0].reasons)


def test_nothing_is_made_where_nothing_is_declared(tmp_path: Path) -> None:
    with validated(tmp_path, Optimise()) as work:
        vars(work.house)["fleet"] = work.house.fleet.model_copy(
            update={"models": {"toy": work.declared.model_copy(update={"optimise": None})}}
        )
        assert optimise.fn(work, source(tmp_path)) == ()
        assert served_variant(work) is None
        assert not [event for event in work.journal.events() if event.effect_key == effects.OPTIMISE]


OWN = GoldenSet("the model", (("x", "FP64"),), ((1.0,), (2.0,)), ("label", "score"), ((1, 0.25), (0, 0.75)))
SPEED = Speed(100.0, 1000.0, 5.0, 10)


def parity(*answers: tuple[Any, Any], types: tuple[str, ...] = ("INT64", "FP64")) -> Parity:
    given = tuple(dict(zip(OWN.outputs, row, strict=True)) for row in answers)
    tried = Tried(Variant.ONNX, "sha256:of-it", types, given, replace(SPEED, alone=250.0))
    return Parity(OWN, ("INT64", "FP64"), SPEED, (tried,))


SERVED = Optimise(serve=Variant.ONNX)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (parity((1, 0.25), (1, 0.75)), r"1 of 2 rows differ \(allowed: 0\)"),
        (parity((1, 0.25), (0, 0.7502)), r"request 2, output 'score': expected 0.75, got 0.7502"),
        (parity((1, 0.25), (0, None)), r"output 'score': expected 0.75, got nothing"),
        (parity((1, 0.25), (0, 0.75), types=("INT64", "FP32")), r"answers with label \(INT64\), score \(FP32\), and the model with"),
        (Parity(OWN, variants=(Tried(Variant.ONNX, problem="the converter failed"),)), "the converter failed"),
    ],
)
def test_a_served_variant_must_give_equal_labels_and_numbers_within_the_tolerance(found: Parity, reason: str) -> None:
    import re

    result = judge_parity(SERVED, found)
    assert result.outcome is GateOutcome.FAILED
    assert re.search(reason, " ".join(result.reasons))
    assert judge_parity(Optimise(), found).outcome is GateOutcome.PASSED


def test_a_variant_that_answers_otherwise_among_other_rows_is_not_served() -> None:
    alone = parity((1, 0.25), (0, 0.75))
    both = tuple(dict(zip(OWN.outputs, row, strict=True)) for row in ((1, 0.25), (0, 0.8)))
    among = replace(alone, together=OWN.answers, variants=(replace(alone.variants[0], together=both),))
    result = judge_parity(SERVED, among)
    assert result.outcome is GateOutcome.FAILED
    assert "1 of 2 rows differ in requests of 64 rows (allowed: 0)" in result.reasons[0]
    assert judge_parity(SERVED, replace(among, together=())).outcome is GateOutcome.FAILED
    assert judge_parity(SERVED, replace(among, together=((1, 0.25), (0, 0.8)))).outcome is GateOutcome.PASSED


def test_what_lies_within_the_tolerance_passes_and_what_was_won_is_told_in_times() -> None:
    result = judge_parity(SERVED, parity((1, 0.25005), (0, 0.75)))
    assert result.outcome is GateOutcome.PASSED
    assert dict(result.figures) == {"rows": "2", "onnx alone": "2.5 times", "onnx in batches of 64": "1.0 times"}


def test_a_label_may_not_differ_however_wide_the_tolerance_is() -> None:
    wide = SERVED.model_copy(update={"tolerance": Tolerance(absolute=Decimal(2), relative=Decimal(2))})
    assert judge_parity(wide, parity((1, 0.5), (0, 0.9))).outcome is GateOutcome.PASSED
    assert judge_parity(wide, parity((1, 0.5), (1, 0.9))).outcome is GateOutcome.FAILED


def test_a_variant_that_gives_other_golden_answers_is_not_kept() -> None:
    declared = Golden(tolerance=Tolerance(absolute=Decimal(0), relative=Decimal(0)))
    work: Any = SimpleNamespace(declared=SimpleNamespace(gates=SimpleNamespace(golden=declared)))
    asked: Any = SimpleNamespace(golden=OWN)
    before = ({"label": 9, "score": 9.0},)
    assert optimising._unlike_golden(work, asked, (*before, {"label": 1, "score": 0.25}, {"label": 0, "score": 0.75})) == ""
    wrong = optimising._unlike_golden(work, asked, (*before, {"label": 1, "score": 0.25}, {"label": 0, "score": 0.750001}))
    assert "1 of 2 requests differ from the golden answers" in wrong


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"serve": "onnx-int8"}, "declare it there too"),
        ({"variants": ["onnx", "onnx"]}, "must not repeat"),
        ({"rows": 5, "may_differ": 5}, "no answer could ever differ"),
        ({"variants": []}, "variants must name one at least"),
        ({"variants": ["onnx-bf16"]}, "multiplies no bfloat16 matrices on a CPU"),
        ({"variants": ["tensorrt"]}, "'onnx', 'onnx-fp16' or 'onnx-int8'"),
    ],
)
def test_a_declaration_that_could_not_be_kept_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Optimise.model_validate(wrong)
