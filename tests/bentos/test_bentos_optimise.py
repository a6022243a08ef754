"""A model of each flavour and its variants: made, and held against what the model itself answers."""

from __future__ import annotations

import base64
import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from bentos_serving import digest_of, serving, tensor

from bentos.build import build
from bentos.inputs import BuildOptions
from bentos.optimise.answer import answered
from bentos.optimise.convert import converted
from bentos.optimise.messages import Answered, AnswerRequest, ConvertRequest
from bentos.service.errors import BadRequest, ModelUnusable
from bentos.service.loading import loading
from bentos.service.settings import ServiceSettings
from bentos.service.variant import Document, load_variant
from fleet.declared_optimise import Variant
from fleet.settings import NO_TELEMETRY, inherited_environment
from support.graphs import saved_network

SECONDS = 0.02
CUDA = "nvidia/cuda@sha256:" + "c" * 64


def people() -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "age": random.integers(16, 90, 300),
            "hours a week": random.normal(38, 9, 300),
            "city": random.choice(["Bonn", "Lyon", "Porto"], 300),
        }
    )


ROWS = people()
NUMBERS = ["age", "hours a week"]
LABELS = (ROWS["hours a week"] + ROWS["age"] / 9 > 43).astype(int)


def _pipeline(labels: Any = LABELS) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), (StandardScaler(), NUMBERS))
    return make_pipeline(columns, LogisticRegression()).fit(ROWS, labels)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, random_state=1).fit(ROWS[NUMBERS], LABELS)


def _histograms() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=20, random_state=1).fit(ROWS[NUMBERS], LABELS)


def _lightgbm(**parameters: Any) -> Any:
    import lightgbm

    return lightgbm.train({"verbose": -1, **parameters}, lightgbm.Dataset(ROWS[NUMBERS], LABELS), 20)


def _xgboost(**parameters: Any) -> Any:
    import xgboost

    return xgboost.train(parameters, xgboost.DMatrix(ROWS[NUMBERS], LABELS), 20)


CASES: Mapping[str, tuple[str, Callable[[], Any], Mapping[str, str]]] = {
    "texts and numbers, probabilities": ("sklearn", _pipeline, {"pyfunc_predict_fn": "predict_proba"}),
    "texts and numbers, labels that are texts": ("sklearn", lambda: _pipeline(np.where(LABELS, "yes", "no")), {}),
    "a forest's labels": ("sklearn", _forest, {}),
    "a forest's probabilities": ("sklearn", _forest, {"pyfunc_predict_fn": "predict_proba"}),
    "histogram trees": ("sklearn", _histograms, {"pyfunc_predict_fn": "predict_proba"}),
    "a LightGBM booster": ("lightgbm", lambda: _lightgbm(objective="binary"), {}),
    "a LightGBM regression": ("lightgbm", lambda: _lightgbm(objective="regression"), {}),
    "an XGBoost booster": ("xgboost", lambda: _xgboost(objective="binary:logistic"), {}),
    "an XGBoost regression": ("xgboost", lambda: _xgboost(objective="reg:squarederror"), {}),
}


def saved(folder: Path, flavour: str, model: Any, **options: str) -> tuple[Path, Path]:
    """Save a model with its signature and the rows that it is asked for; returns both."""
    from mlflow.models import infer_signature

    names = list(getattr(model, "feature_names_in_", NUMBERS))
    signature = infer_signature(ROWS[names])
    pickled = {"serialization_format": "cloudpickle"} if flavour == "sklearn" else {}
    importlib.import_module(f"mlflow.{flavour}").save_model(
        model, folder / "model", signature=signature, pip_requirements=[flavour.replace("sklearn", "scikit-learn")], **pickled, **options
    )
    rows = folder / "rows.parquet"
    ROWS[names].head(40).to_parquet(rows)
    return folder / "model", rows


def made(folder: Path, model: Path, rows: Path, variant: Variant = Variant.ONNX) -> Path:
    """Make a variant and return its folder."""
    found = converted(ConvertRequest(model, rows, variant))
    assert not found.problem, found.problem
    to = folder / variant
    to.mkdir()
    (to / "model.onnx").write_bytes(base64.b64decode(found.graph))
    (to / "variant.json").write_text(found.document)
    return to


def asked(model: Path, rows: Path, variant: Path | None = None) -> Answered:
    return answered(AnswerRequest(model, rows, SECONDS, variant))


@pytest.mark.parametrize("case", CASES)
def test_a_variant_answers_as_its_model_does_by_name_type_and_value(tmp_path: Path, case: str) -> None:
    flavour, train, options = CASES[case]
    model, rows = saved(tmp_path, flavour, train(), **options)
    own, other = asked(model, rows), asked(model, rows, made(tmp_path, model, rows))
    assert (other.outputs, other.types) == (own.outputs, own.types)
    for mine, its in zip(own.answers, other.answers, strict=True):
        assert its == pytest.approx(mine, abs=1e-4, rel=1e-4) if not isinstance(mine[0], str) else its == mine
    assert min(own.alone, own.batched, other.alone, other.batched) > 0


def test_a_model_that_takes_one_array_has_a_variant_that_takes_it_too(tmp_path: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    numbers = ROWS[NUMBERS].to_numpy()
    signature = infer_signature(numbers, LogisticRegression().fit(numbers, LABELS).predict_proba(numbers))
    trained = LogisticRegression().fit(numbers, LABELS)
    folder = tmp_path / "model"
    mlflow.sklearn.save_model(
        trained, folder, signature=signature, pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn", "skops"]
    )
    rows = tmp_path / "rows.parquet"
    pd.DataFrame({"input": numbers[:10].tolist()}).to_parquet(rows)
    own, variant = asked(folder, rows), made(tmp_path, folder, rows)
    other = asked(folder, rows, variant)
    assert (other.outputs, other.types) == (own.outputs, own.types)
    assert np.array(other.answers) == pytest.approx(np.array(own.answers), abs=1e-5)
    bento = tmp_path / "revision"
    bento.with_name("revision.manifest").write_bytes(build(folder, "people", "1", bento, BuildOptions(variant=variant)).to_bytes())
    with serving(bento, tmp_path / "log") as service:
        body = {"name": "input", "datatype": "FP64", "shape": [2, 2], "data": numbers[:2].ravel().tolist()}
        answer = service.infer("people", body)
    assert answer.json()["outputs"][0]["data"] == pytest.approx(trained.predict_proba(numbers[:2]).ravel().tolist(), abs=1e-5)


@pytest.mark.long
def test_the_same_model_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Of two processes whose hash tables have other orders."""
    model, rows = saved(tmp_path, "sklearn", _pipeline())
    code = (
        "import sys; from pathlib import Path; from bentos.optimise.convert import converted;"
        "from bentos.optimise.messages import *; from fleet.declared_optimise import Variant;"
        "found = converted(ConvertRequest(Path(sys.argv[1]), Path(sys.argv[2]), Variant.ONNX)); print(found.graph)"
    )
    root = Path(__file__).parents[2]
    found = [
        subprocess.run(
            [sys.executable, "-c", code, str(model), str(rows)],
            cwd=root,
            env={**inherited_environment(), **NO_TELEMETRY, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for seed in ("0", "1", "2")
    ]
    assert len(found[0]) > 1000
    assert set(found) == {found[0]}


@pytest.mark.parametrize("variant", [Variant.FP16, Variant.INT8])
def test_trees_have_no_smaller_numbers_and_it_is_said_why(tmp_path: Path, variant: Variant) -> None:
    model, rows = saved(tmp_path, "lightgbm", _lightgbm(objective="binary"))
    assert "has no matrices of its own" in converted(ConvertRequest(model, rows, variant)).problem


def test_a_model_of_another_flavour_has_no_variant(echo_model: Path, tmp_path: Path) -> None:
    found = converted(ConvertRequest(echo_model, tmp_path / "unread", Variant.ONNX))
    assert (
        found.problem
        == "models of sklearn, lightgbm, xgboost, onnx have variants, and this one is loaded by mlflow.pyfunc.loaders.code_model"
    )


@pytest.fixture
def network(tmp_path: Path) -> tuple[Path, Path]:
    """An ONNX model of two layers, and rows for it."""
    return _network(tmp_path)


def _network(folder: Path, minding_others: bool = False) -> tuple[Path, Path]:
    model, numbers = saved_network(folder / "model", minding_others)
    rows = folder / "rows.parquet"
    pd.DataFrame({"x": numbers.tolist()}).to_parquet(rows)
    return model, rows


@pytest.mark.parametrize(("variant", "near"), [(Variant.FP16, 0.02), (Variant.INT8, 0.6)])
def test_an_onnx_model_becomes_smaller_and_answers_nearly_alike(
    tmp_path: Path, network: tuple[Path, Path], variant: Variant, near: float
) -> None:
    own, folder = asked(*network), made(tmp_path, *network, variant)
    other = asked(*network, folder)
    assert (other.outputs, other.types) == (own.outputs, own.types) == (("y.0", "y.1", "y.2"), ("FP32",) * 3)
    furthest = np.abs(np.array(own.answers) - np.array(other.answers)).max()
    assert 0 < furthest < near


@pytest.mark.parametrize(
    ("minding_others", "variant", "together"), [(False, Variant.FP16, True), (True, Variant.FP16, False), (False, Variant.INT8, False)]
)
def test_requests_share_a_call_only_of_a_graph_whose_rows_do_not_mind_one_another(
    tmp_path: Path, minding_others: bool, variant: Variant, together: bool
) -> None:
    model, rows = _network(tmp_path, minding_others)
    folder = made(tmp_path, model, rows, variant)
    (tmp_path / "src").mkdir()
    for part, name in ((model, "model"), (folder, "variant")):
        part.rename(tmp_path / "src" / name)
    (tmp_path / "src" / "revision.json").write_text('{"model": "m", "version": "1"}')
    scorer, _ = loading(ServiceSettings(root=tmp_path), "none", "").warmed()
    assert (scorer.notes["path"], scorer.notes["together"], scorer.predictor.together) == (f"variant {variant}", together, together)


def test_rows_are_answered_alone_and_in_batches(tmp_path: Path) -> None:
    found = asked(*_network(tmp_path, minding_others=True))
    assert len(found.together) == len(found.answers) == 30
    assert set(found.answers) == {(0.0, 0.0, 0.0)}
    assert len(set(found.together)) == 30


@pytest.mark.long
def test_the_served_variant_is_part_of_the_one_digest_and_answers_as_the_model_did(tmp_path: Path) -> None:
    """Two builds agree, and the process that serves has ONNX Runtime in it."""
    model, rows = saved(tmp_path, "sklearn", _pipeline(), pyfunc_predict_fn="predict_proba")
    options = BuildOptions(variant=made(tmp_path, model, rows))
    plain = build(model, "people", "1", tmp_path / "plain")
    first, second = (build(model, "people", "1", tmp_path / name, options) for name in ("revision", "again"))
    assert first.digest == second.digest != plain.digest
    assert {entry.path for entry in first.entries} - {entry.path for entry in plain.entries} == {
        "src/variant/model.onnx",
        "src/variant/variant.json",
    }
    assert any(line.startswith("onnxruntime==") for line in (tmp_path / "revision/env/python/requirements.txt").read_text().splitlines())
    beside = build(model, "people", "1", tmp_path / "beside", replace(options, base_image=CUDA, resources={"gpu": 1}))
    assert beside.digest != first.digest
    needed = {line.split("==")[0] for line in (tmp_path / "beside/env/python/requirements.txt").read_text().splitlines()}
    assert {"onnxruntime", "onnxruntime-gpu"} & needed == {"onnxruntime-gpu"}
    (tmp_path / "revision.manifest").write_bytes(first.to_bytes())
    one = ROWS.iloc[0]
    numbers = [tensor("age", "INT64", int(one["age"])), tensor("hours a week", "FP64", float(one["hours a week"]))]
    with serving(tmp_path / "revision", tmp_path / "log", revision=digest_of(tmp_path / "revision")) as service:
        answer = service.infer("people", *numbers, tensor("city", "BYTES", one["city"]))
        assert service.infer("people", *numbers).status_code == 400
        loaded = {Path(found.path).name for found in psutil.Process(service.process.pid).memory_maps()}
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP64", [1, 2])
    assert output["data"] == pytest.approx(_pipeline().predict_proba(ROWS.head(1))[0].tolist(), abs=1e-5)
    assert any(name.startswith("onnxruntime") for name in loaded)


@pytest.mark.parametrize("case", ["texts and numbers, probabilities", "a forest's labels"])
def test_a_variant_refuses_a_number_that_32_bits_do_not_hold_by_its_column(tmp_path: Path, case: str) -> None:
    """As infinity it would be answered, and otherwise than by the model."""
    flavour, train, options = CASES[case]
    model, rows = saved(tmp_path, flavour, train(), **options)
    variant = load_variant(made(tmp_path, model, rows))

    with pytest.raises(BadRequest, match="column 'hours a week': a value is too large for float32"):
        variant.predict(ROWS.head(2).assign(**{"hours a week": [1.0, 1e39]}))


REFUSES = {
    "texts and numbers, probabilities": ("hours a week",),
    "a forest's labels": ("hours a week",),
    "a forest's probabilities": ("hours a week",),
    "histogram trees": (),
    "a LightGBM booster": (),
    "an XGBoost regression": (),
}


@pytest.mark.parametrize("case", REFUSES)
def test_a_variant_refuses_the_missing_values_that_its_model_raises_on_or_answers_otherwise(tmp_path: Path, case: str) -> None:
    """The graph of a regression answers them with no number, that of a forest with another one."""
    flavour, train, options = CASES[case]
    model, rows = saved(tmp_path, flavour, train(), **options)
    variant = load_variant(made(tmp_path, model, rows))
    assert variant.refuses == REFUSES[case]
    if not variant.refuses:
        import mlflow.pyfunc

        gone = ROWS[NUMBERS].assign(**{"hours a week": np.nan})
        assert variant.predict(gone) == pytest.approx(mlflow.pyfunc.load_model(str(model)).predict(gone), abs=1e-4)


def test_a_model_with_parameters_has_no_variant_and_none_is_served_for_it(tmp_path: Path) -> None:
    model, rows = saved(tmp_path, "sklearn", _forest())
    variant = made(tmp_path, model, rows)
    file = model / "MLmodel"
    declared = '[{"name": "n", "type": "long", "default": 1, "shape": null}]'
    file.write_text(file.read_text().replace("  params: null", f"  params: '{declared}'"))
    assert "declares parameters" in converted(ConvertRequest(model, rows, Variant.ONNX)).problem

    root = tmp_path / "bento"
    build(model, "people", "1", root, BuildOptions(variant=variant))
    with pytest.raises(ModelUnusable, match="declares parameters, which its variant does not take"):
        loading(ServiceSettings(root=root), "none", "")


def test_a_variant_that_is_none_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"variant's document cannot be read"):
        Document.from_bytes(b'{"kind": "onnx", "feeds": [{}], "told": []}')
    (tmp_path / "variant.json").write_bytes(Document("onnx", (), ()).to_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelUnusable, match=r"variant cannot be loaded"):
        load_variant(tmp_path)
