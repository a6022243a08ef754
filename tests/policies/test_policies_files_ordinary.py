"""Ordinary models, saved by MLflow by default and in each of its formats: all pass, at each of their files' first sight."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ordinary_models
import pytest
from policies_world import declared
from ruamel.yaml import YAML

from fleet.declared_gates import Gates
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.files import estimators
from policies.files.allowlist import FOLDER, allowlist
from policies.files.gate import ModelFiles, Scanned
from policies.files.scan import scan
from policies.files.seen import Bounds, Kind, ScanReport, ScanRequest
from policies.gates import STAGES

BOUNDS = Bounds(64 << 20, 1000, 100)
ROOT = Path(__file__).parents[2]


def judged(report: ScanReport, waived: frozenset[str] = frozenset(), **files: Any) -> GateResult:
    model = declared().model_copy(update={"gates": Gates.model_validate({"files": files})})
    return ModelFiles().judge(model, Scanned(report, waived=waived))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return ordinary_models.save(tmp_path_factory.mktemp("ordinary"))


@pytest.fixture(scope="session")
def reports(saved: dict[str, Path]) -> dict[str, ScanReport]:
    """Scanned here: these are our own files."""
    return {name: scan(ScanRequest(folder, BOUNDS)) for name, folder in saved.items()}


def test_every_ordinary_model_passes_as_mlflow_saves_it_by_default_and_in_every_format(reports: dict[str, ScanReport]) -> None:
    refused = {name: result.reasons for name, report in reports.items() if (result := judged(report)).outcome is not GateOutcome.PASSED}
    assert refused == {}
    assert sum(name.endswith("default") for name in reports) >= 13
    assert sum(name.endswith("skops") for name in reports) >= 13


def test_what_mlflow_writes_by_default_is_what_we_say_it_is(reports: dict[str, ScanReport]) -> None:
    """docs/gates.md tells it."""

    def formats(name: str) -> set[Kind]:
        return {seen.kind for seen in reports[f"{name}, default"].files} - {Kind.TEXT}

    assert formats("random forest") == {Kind.SKOPS}
    assert formats("lightgbm classifier") == {Kind.SKOPS}
    assert formats("lightgbm booster") == {Kind.LIGHTGBM}
    assert formats("xgboost classifier") == formats("xgboost booster") == {Kind.XGBOOST}


def test_a_fleet_without_pickle_takes_the_same_models_in_the_other_formats_and_a_waiver_lets_one_pickle_in(
    reports: dict[str, ScanReport],
) -> None:
    strict = {"formats": ["skops", "safetensors", "onnx", "lightgbm", "xgboost"]}
    outcomes = {name: judged(report, **strict).outcome for name, report in reports.items()}
    assert {name for name, outcome in outcomes.items() if outcome is GateOutcome.FAILED} == {
        name for name in reports if name.endswith("pickle")
    }
    report = reports["ridge, pickle"]
    assert "model.pkl: is pickle, which gates.files.formats does not allow" in judged(report, **strict).reasons[0]
    assert "waiver" in judged(report, **strict).reasons[0]
    waived = judged(report, frozenset({"pickle"}), **strict)
    assert waived.outcome is GateOutcome.PASSED
    assert dict(waived.figures)["waived"] == "pickle"
    hostile = replace(report, files=tuple(replace(seen, problems=("is broken",)) for seen in report.files))
    assert judged(hostile, frozenset({"pickle"}), **strict).outcome is GateOutcome.FAILED, "a waiver waives a format and nothing else"


def test_what_the_model_itself_would_have_trusted_is_refused_by_name(saved: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(saved["logistic regression, default"], tmp_path / "model")
    document = YAML(typ="safe").load((folder / "MLmodel").read_text())
    document["flavors"]["sklearn"]["skops_trusted_types"] = ["sklearn.tree._tree.Tree", "operator.methodcaller"]
    with (folder / "MLmodel").open("w") as file:
        YAML().dump(document, file)
    result = judged(scan(ScanRequest(folder, BOUNDS)))
    assert result.outcome is GateOutcome.FAILED
    assert len(result.reasons) == 1
    assert "lists operator.methodcaller among its skops_trusted_types, and it is not on the allowlist" in result.reasons[0]


def test_a_new_type_is_named_with_how_to_allow_it_and_passes_once_it_is(reports: dict[str, ScanReport]) -> None:
    report = reports["ridge, pickle"]
    file = next(seen for seen in report.files if seen.kind is Kind.PICKLE)
    foreign = tuple(replace(each, module="shop.scalers", name="Scaler") if each.name == "Ridge" else each for each in file.imports)
    changed = replace(report, files=(replace(file, imports=foreign), *(seen for seen in report.files if seen is not file)))
    result = judged(changed)
    assert result.reasons == (
        "model.pkl: imports shop.scalers.Scaler, which is not on the allowlist. Name it in gates.files.allow only if it is harmless "
        "whatever the file does with it, as shop.scalers:Scaler",
    )
    allowed = judged(changed, allow=["shop.scalers:Scaler"])
    assert allowed.outcome is GateOutcome.PASSED
    assert dict(allowed.figures)["added to the allowlist"] == "shop.scalers:Scaler"


def test_every_public_estimator_of_the_installed_scikit_learn_is_on_the_list() -> None:
    """`python -m policies.files.estimators` prints the file; names of older versions may stay."""
    found = estimators.listed()
    entries = allowlist().entries
    missing = [f"{module}:{name}" for kind in (found.made, found.named) for module, names in found_names(kind) for name in names]
    assert [path for path in missing if path not in entries] == []
    assert (FOLDER / "sklearn.toml").read_text().count("[[modules]]") >= len(found.reasons)


def found_names(kind: dict[str, set[str]]) -> list[tuple[str, list[str]]]:
    return [(module, sorted(names)) for module, names in kind.items()]


def test_the_gate_stands_in_the_first_stage_and_its_scan_runs_in_a_sandbox(candidate: Candidate) -> None:
    assert "model files" in [gate.name for gate in STAGES[0]]
    result = ModelFiles().evaluate(candidate)
    assert result.outcome is GateOutcome.PASSED, result.reasons
    assert {"sandbox network", "sandbox processes", "sandbox files"} <= set(dict(result.figures))
    assert dict(result.figures)["formats"] == "1 skops, 4 text"
    assert [row[0] for row in result.tables[0].rows] == ["MLmodel", "conda.yaml", "model.skops", "python_env.yaml", "requirements.txt"]


def test_a_scan_that_is_stopped_fails_the_model(candidate: Candidate) -> None:
    result = ModelFiles().evaluate(replace(candidate, seconds=0.01))
    assert result.outcome is GateOutcome.FAILED
    assert "could not be scanned: it did not end within its 0.01 seconds and was stopped" in result.reasons[0]


def toy(folder: Path) -> Path:
    """Save the toy model of the tests' stack as it logs it."""
    import mlflow.pyfunc
    import pandas

    from support.stack import _toy_module

    example = pandas.DataFrame({"x": [-1.0]})
    mlflow.pyfunc.save_model(
        folder,
        python_model=_toy_module().ToyModel("good", 0.0),
        code_paths=[str(ROOT / "tests/support/toy_model.py")],
        signature=mlflow.models.infer_signature(example, [1.0]),
        input_example=example,
        pip_requirements=["mlflow"],
    )
    return folder


def crossed(folder: Path) -> Path:
    """Save version 3 of the demo as the demo logs it."""
    import mlflow.pyfunc
    import numpy

    from control.demo.rows import FEATURES, LABEL, Pair
    from control.demo.versions import _crossed, shipped_file

    random = numpy.random.default_rng(7)
    frame = ordinary_models.pandas.DataFrame({name: random.integers(0, 3, 100) for name in (*FEATURES, LABEL)})
    frame[LABEL] %= 2
    mlflow.pyfunc.save_model(
        folder,
        python_model=_crossed(frame, Pair(FEATURES[0], 1, FEATURES[1], 2), True, 1),
        code_paths=[str(shipped_file())],
        pip_requirements=["mlflow"],
    )
    return folder


def script(folder: Path) -> Path:
    """Save a model from code, with a package that it imports."""
    import mlflow.pyfunc

    package = folder.parent / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("PRICE = 1.0\n")
    code = folder.parent / "shop_model.py"
    lines = (
        "import mlflow.pyfunc",
        "from mlflow.models import set_model",
        "class Shop(mlflow.pyfunc.PythonModel):",
        "    def predict(self, context, model_input, params=None):",
        "        return [1.0]",
        "set_model(Shop())",
    )
    code.write_text("\n".join(lines))
    mlflow.pyfunc.save_model(folder, python_model=str(code), code_paths=[str(package)], pip_requirements=["mlflow"])
    return folder


@pytest.mark.parametrize("save", [toy, crossed, script])
def test_a_model_that_brings_its_own_code_passes_where_code_is_declared_and_only_there(
    save: Callable[[Path], Path], tmp_path: Path
) -> None:
    # In the sandbox, where the folder that the code comes from is not on Python's path
    candidate = Candidate("m", declared(), save(tmp_path / "model"), None, None, None, None, tmp_path / "work", 60)
    report = ModelFiles().gather(candidate).report
    assert report is not None
    result = judged(report, code=True)
    assert result.outcome is GateOutcome.PASSED, result.reasons
    assert dict(result.figures)["code"].endswith("files, which nothing here judges")
    refused = judged(report)
    assert refused.outcome is GateOutcome.FAILED
    assert any("is code. Set gates.files.code" in reason for reason in refused.reasons)


def test_the_demos_fleet_and_the_tests_fleet_declare_that_code() -> None:
    from control.demo.pace import FAST
    from support.stack import toy_fleet

    fleet = YAML(typ="safe").load(FAST.fill((ROOT / "control/demo/fleet.yaml").read_text()))
    assert fleet["models"]["employment"]["gates"] == toy_fleet(("toy",))["models"]["toy"]["gates"] == {"files": {"code": True}}


MLMODEL = {
    "flavors": {
        "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.skops", "env": {"conda": "conda.yaml"}},
        "sklearn": {"pickled_model": "model.skops", "serialization_format": "skops", "code": None},
    }
}


def changed(*path: str, to: object) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(MLMODEL))
    inner = document
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = to
    return document


TRICKS = {
    "another module loads it": (changed("flavors", "python_function", "loader_module", to="os"), "loaded by the module 'os'"),
    "a loader of another flavour": (changed("flavors", "python_function", "loader_module", to="mlflow.pytorch"), "'mlflow.pytorch'"),
    "another class of XGBoost": (
        changed("flavors", "xgboost", to={"data": "model.ubj", "model_class": "os.abort"}),
        "makes its model of the class 'os.abort'",
    ),
    "another method": (changed("flavors", "python_function", "predict_fn", to="__reduce__"), "is asked through '__reduce__'"),
    "a model in a model": (changed("flavors", "python_function", to={"loader_module": "mlflow.pyfunc.model", "data": "inner"}), "'inner'"),
    "a file of a model in a model": (changed("flavors", "python_function", "model_path", to="inner/model.skops"), "does not lie beside it"),
    "unpickled for want of a word": (changed("flavors", "sklearn", to={"pickled_model": "model.skops"}), "'model.skops' loaded as pickle"),
    "options of a provider": (changed("flavors", "onnx", to={"data": "m.onnx", "providers": [["X", {"path": "x.so"}]]}), "gives options"),
    "another flavour": (changed("flavors", "keras", to={"data": "data"}), "has the flavour 'keras'"),
    "no flavours": ({"a": 1}, "has no flavors"),
    "a list": ([1], "has no flavors"),
    "data upwards": (changed("flavors", "python_function", "model_path", to="../../secret.pkl"), "it leads upwards"),
    "data absolute": (changed("flavors", "sklearn", "pickled_model", to="/etc/passwd"), "it is absolute"),
    "data on another machine": (changed("flavors", "python_function", "data", to="http://169.254.169.254/latest"), "it is a URL"),
    "data in a quoted path": (changed("flavors", "python_function", "data", to="..%2f..%2fsecret"), "it is a URL"),
    "data as file URL": (changed("flavors", "python_function", "data", to="file:///etc/passwd"), "it is a URL"),
    "code upwards": (changed("flavors", "python_function", "code", to="../code"), "it leads upwards"),
    "an artifact upwards": (
        changed("flavors", "python_function", "artifacts", to={"a": {"path": "../../x", "uri": "x"}}),
        "it leads upwards",
    ),
    "an environment upwards": (changed("flavors", "python_function", "env", "conda", to="../../conda.yaml"), "it leads upwards"),
    "an example upwards": (changed("saved_input_example_info", to={"artifact_path": "../../../etc/passwd"}), "it leads upwards"),
    "a file that is not there": (changed("flavors", "sklearn", "pickled_model", to="other.skops"), "and it is not there"),
    "a text loaded as pickle": (
        changed("flavors", "sklearn", to={"pickled_model": "note.txt"}),
        "'note.txt' loaded as pickle, and it is text",
    ),
    "trust in another flavour": (changed("flavors", "lightgbm", to={"skops_trusted_types": ["os.system"]}), "lists os.system"),
    "trust as one text": (changed("flavors", "sklearn", "skops_trusted_types", to="posix.system"), "lists posix.system"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_an_mlmodel_file_that_reaches_out_is_refused(trick: str, tmp_path: Path) -> None:
    document, reason = TRICKS[trick]
    with (tmp_path / "MLmodel").open("w") as file:
        YAML().dump(document, file)
    (tmp_path / "note.txt").write_text("a note\n")
    result = judged(scan(ScanRequest(tmp_path, BOUNDS)))
    assert result.outcome is GateOutcome.FAILED
    assert any(reason in found for found in result.reasons), result.reasons


def test_code_beside_the_declared_folder_and_code_that_takes_an_installed_modules_place_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "MLmodel").open("w") as file:
        YAML().dump(changed("flavors", "python_function", "code", to="code"), file)
    for name in ("code/shop/__init__.py", "code/numpy.py", "code/pickle/__init__.py", "setup.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    assert importlib.util.find_spec("shop") is None
    reasons = judged(scan(ScanRequest(tmp_path, BOUNDS)), code=True).reasons
    assert sum("takes the place of an installed one" in reason for reason in reasons) == 2
    assert any(reason.startswith("setup.py: is code, and MLmodel does not say") for reason in reasons)
    assert not any("shop" in reason for reason in reasons)
    assert "shop" not in sys.modules
