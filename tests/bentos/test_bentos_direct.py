"""Models asked by their own libraries answer as MLflow's pyfunc does, or are not asked so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from bentos_serving import digest_of, packaged, serving, tensor

from bentos.service.direct import plan
from bentos.service.errors import BadRequest
from bentos.service.expected import outcome
from bentos.service.flavors import NotDirect
from bentos.service.loading import loading
from bentos.service.parity import Expected, Found, compare, stands_alone
from bentos.service.probes import probes
from bentos.service.schema import Schema
from bentos.service.scorer import Label, Scorer, load
from bentos.service.settings import ServiceSettings
from bentos.service.warming import rows_of_example

LABEL = Label("m", "1")
RANDOM = np.random.default_rng(5)
FRAME = pd.DataFrame({"age": RANDOM.integers(16, 90, 200), "hours": RANDOM.normal(38, 9, 200), "member": RANDOM.integers(0, 2, 200) == 1})
TRUTH = (FRAME["hours"] + FRAME["age"] / 9 > 43).to_numpy()
ARRAY = RANDOM.normal(0, 1, (200, 3))
Save = Callable[[Path], Any]


def save(module: str, model: Any, rows: Any, **more: Any) -> Save:
    def saved(folder: Path) -> None:
        import importlib

        from mlflow.models import infer_signature

        flavor = importlib.import_module(module)
        given = {"signature": infer_signature(rows), "input_example": rows[:5], "pip_requirements": ["numpy"], **more}
        flavor.save_model(model, folder, **given)

    return saved


def sklearn_frame(**more: Any) -> Save:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return save("mlflow.sklearn", make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, TRUTH), FRAME, **more)


def sklearn_array() -> Save:
    from sklearn.linear_model import LinearRegression

    return save("mlflow.sklearn", LinearRegression().fit(ARRAY, ARRAY.sum(axis=1)), ARRAY)


def sklearn_forest() -> Save:
    from sklearn.ensemble import RandomForestClassifier

    names = np.where(TRUTH, "yes", "no")
    return save("mlflow.sklearn", RandomForestClassifier(5, random_state=1).fit(FRAME, names), FRAME, serialization_format="cloudpickle")


def lightgbm_booster() -> Save:
    import lightgbm

    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    return save("mlflow.lightgbm", lightgbm.train(parameters, lightgbm.Dataset(FRAME, TRUTH), 5), FRAME)


def lightgbm_sklearn() -> Save:
    import lightgbm

    return save("mlflow.lightgbm", lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(FRAME, TRUTH), FRAME)


def xgboost_booster() -> Save:
    import xgboost

    data = xgboost.DMatrix(FRAME, TRUTH)
    return save("mlflow.xgboost", xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5), FRAME)


def xgboost_sklearn() -> Save:
    import xgboost

    return save("mlflow.xgboost", xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(FRAME, TRUTH), FRAME)


def onnx_array() -> Save:
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    shape = ["rows", 3]
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["p"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return save("mlflow.onnx", model, ARRAY)


def torch_frame() -> Save:
    torch = pytest.importorskip("torch")

    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(dim=1))
    return save("mlflow.pytorch", module, FRAME.astype("float64"), serialization_format="pickle")


def torch_array() -> Save:
    torch = pytest.importorskip("torch")

    torch.manual_seed(1)
    return save("mlflow.pytorch", torch.nn.Linear(3, 1), ARRAY.astype("float32"), serialization_format="pickle")


def torch_exported() -> Save:
    torch = pytest.importorskip("torch")

    torch.manual_seed(1)
    rows = {"input_example": ARRAY[:5].astype("float32")}
    return save("mlflow.pytorch", torch.nn.Linear(3, 1), ARRAY.astype("float32"), serialization_format="pt2", **rows)


MODELS: dict[str, Callable[[], Save]] = {
    "a scikit-learn pipeline's classes": sklearn_frame,
    "a scikit-learn pipeline's probabilities": lambda: sklearn_frame(pyfunc_predict_fn="predict_proba"),
    "a scikit-learn model of one array": sklearn_array,
    "a scikit-learn forest that answers with texts": sklearn_forest,
    "a LightGBM booster": lightgbm_booster,
    "LightGBM's scikit-learn model": lightgbm_sklearn,
    "an XGBoost booster": xgboost_booster,
    "XGBoost's scikit-learn model": xgboost_sklearn,
    "an ONNX graph of one array": onnx_array,
    "a PyTorch module of columns": torch_frame,
    "a PyTorch module of one array": torch_array,
    "an exported PyTorch module": torch_exported,
}


def directly(folder: Path) -> tuple[Scorer, Found]:
    planned = plan(folder)
    scorer = Scorer("m", "1", planned.signature, None, planned.load(), Schema(planned.signature, stacked=True))
    through = load(folder, LABEL, "m")
    tried = probes(planned)
    return scorer, compare(scorer, tried, [outcome(through, probe.body) for probe in tried])


@pytest.mark.parametrize("case", MODELS)
def test_a_model_answers_directly_what_it_answers_through_mlflow(case: str, tmp_path: Path) -> None:
    MODELS[case]()(tmp_path / "m")
    scorer, found = directly(tmp_path / "m")

    assert found.on == "the input example"
    assert found.compared >= 2
    assert stands_alone(scorer, [probe.body for probe in probes(plan(tmp_path / "m"))])


@pytest.mark.parametrize("kind", ["a booster", "its scikit-learn model"])
def test_lightgbm_sees_large_whole_numbers_as_exactly_as_through_mlflow(kind: str, tmp_path: Path) -> None:
    """It reads whole numbers of an array in 32 bits, where seconds of our time are 128 apart."""
    import lightgbm
    import mlflow.pyfunc

    seconds = pd.DataFrame({"second": np.arange(1_700_000_000, 1_700_000_400)})
    late = seconds["second"] > 1_700_000_200
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    model = lightgbm.train(parameters, lightgbm.Dataset(seconds, late), 5)
    if kind != "a booster":
        model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(seconds, late)
    save("mlflow.lightgbm", model, seconds)(tmp_path / "m")

    own = plan(tmp_path / "m").load().ask(seconds.to_numpy())
    assert own.tolist() == mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(seconds).tolist()


def test_lightgbm_within_scikit_learn_is_asked_through_mlflow_where_all_columns_are_whole_numbers(tmp_path: Path) -> None:
    import lightgbm
    from sklearn.pipeline import make_pipeline

    seconds = pd.DataFrame({"second": np.arange(1_700_000_000, 1_700_000_400)})
    model = make_pipeline(lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)).fit(seconds, seconds["second"] > 1_700_000_200)
    save("mlflow.sklearn", model, seconds, serialization_format="cloudpickle")(tmp_path / "m")

    with pytest.raises(NotDirect, match="LightGBM is in it"):
        plan(tmp_path / "m").load()


def test_a_missing_value_on_which_a_model_raises_is_found_out_and_one_that_it_takes_is_taken(tmp_path: Path) -> None:
    sklearn_frame()(tmp_path / "linear")
    xgboost_sklearn()(tmp_path / "trees")

    assert directly(tmp_path / "linear")[1].refuses == ("hours",)
    assert directly(tmp_path / "trees")[1].refuses == ()


def test_an_answer_other_than_mlflows_is_found(tmp_path: Path) -> None:
    sklearn_frame(pyfunc_predict_fn="predict_proba")(tmp_path / "m")
    scorer, _ = directly(tmp_path / "m")
    tried = probes(plan(tmp_path / "m"))
    answers = [outcome(scorer, probe.body) for probe in tried]
    answers[0][0]["data"][3] += 1e-9

    with pytest.raises(NotDirect, match="the input example: output 'output' has other values than through MLflow"):
        compare(scorer, tried, answers)
    answers[0] = {"error": "ValueError"}
    with pytest.raises(NotDirect, match="the input example: MLflow raises ValueError, sklearn answers"):
        compare(scorer, tried, answers)


def changed(folder: Path, old: str, new: str) -> None:
    file = folder / "MLmodel"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


ONLY_MLFLOW = {
    "another loader": ("loader_module: mlflow.sklearn", "loader_module: own.code", "its loader is own.code"),
    "a method that is no prediction": ("predict_fn: predict", "predict_fn: score", "its pyfunc calls 'score'"),
    "code of its own": ("    code: null", "    code: code", "it brings code of its own"),
    "parameters": ("params: null", 'params: \'[{"name": "n", "type": "long"}]\'', "its signature declares parameters"),
    "a text": ('"type": "double"', '"type": "string"', "column 'hours' is no number"),
    "a file elsewhere": ("pickled_model: model", "pickled_model: ../model", "names no file of the model"),
    "another format": ("serialization_format: skops", "serialization_format: odd", "its serialization format is 'odd'"),
}


@pytest.mark.parametrize("case", ONLY_MLFLOW)
def test_what_only_mlflow_can_answer_for_is_left_to_it_with_the_reason(case: str, tmp_path: Path) -> None:
    sklearn_frame()(tmp_path / "m")
    old, new, reason = ONLY_MLFLOW[case]
    changed(tmp_path / "m", old, new)

    with pytest.raises(NotDirect, match=reason):
        plan(tmp_path / "m").load()


HOT = """
import sys
from pathlib import Path
from convoy_service.readiness import Readiness, start
from convoy_service.settings import ServiceSettings
settings = ServiceSettings(root=Path(sys.argv[1]), capture=Path(sys.argv[2]))
readiness = Readiness("unmeasured")
start(settings, readiness)
body = readiness.scorer.answer(Path(sys.argv[3]).read_bytes()).body
readiness.capture.offer(b"one", Path(sys.argv[3]).read_bytes(), body)
readiness.capture.close()
assert list(Path(sys.argv[2]).rglob("*.parquet")), "captured"
print(readiness.scorer.predictor.path, sorted({"pandas", "mlflow"} & set(sys.modules)))
"""


def test_neither_pandas_nor_mlflow_is_in_a_process_that_answers_directly(logistic_bento: Path, tmp_path: Path) -> None:
    rows = [tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1)]
    (tmp_path / "body").write_bytes(orjson.dumps({"inputs": rows}))
    command = [sys.executable, "-B", "-c", HOT, str(logistic_bento), str(tmp_path / "captured"), str(tmp_path / "body")]
    done = subprocess.run(command, cwd=logistic_bento / "src", capture_output=True, text=True, timeout=120, check=False)

    assert done.stdout == "sklearn []\n", done.stderr


ALONE = """
import sys
from pathlib import Path
from bentos.service.direct import plan
from bentos.service.expected import outcome
from bentos.service.flavors import kept_out
from bentos.service.probes import probes
from bentos.service.schema import Schema
from bentos.service.scorer import Scorer
planned = plan(Path(sys.argv[1]))
scorer = Scorer("m", "1", planned.signature, None, planned.load(), Schema(planned.signature, stacked=True))
with kept_out():
    outcome(scorer, probes(planned)[0].body)
answers = [outcome(scorer, probe.body) for probe in probes(planned)]
print(isinstance(answers[0], list), sorted({"pandas", "mlflow"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "case", ["LightGBM's scikit-learn model", "an XGBoost booster", "an ONNX graph of one array", "a PyTorch module of columns"]
)
def test_no_library_brings_pandas_or_mlflow_when_it_is_asked(case: str, tmp_path: Path) -> None:
    MODELS[case]()(tmp_path / "m")
    command = [sys.executable, "-B", "-c", ALONE, str(tmp_path / "m")]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)

    assert done.stdout == "True []\n", done.stderr


def test_readiness_and_metadata_say_which_way_and_why(logistic: Any, echo: Any) -> None:
    ready = logistic.get("/v2/health/ready").json()
    assert (ready["path"], ready["together"]) == ("sklearn", True)
    assert logistic.get("/v2/models/employment").json()["properties"]["path"] == "sklearn"
    assert echo.get("/v2/health/ready").json()["because"].startswith("its loader is mlflow.pyfunc")
    inputs = {described["name"]: described for described in logistic.get("/v2/models/employment").json()["inputs"]}
    assert inputs["hours"]["parameters"] == {"missing": "refused"}


def test_a_missing_value_is_refused_by_column_and_row_and_what_takes_it_is_not(logistic: Any) -> None:
    rows = [tensor("age", "INT64", 30, 31), tensor("hours", "FP64", 30.0, None), tensor("children", "INT64", 1, 1)]
    answer = logistic.infer("employment", *rows)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("column 'hours': row 1 has null, and this model takes no missing value there")


def test_through_mlflow_the_same_model_refuses_the_same_value_as_no_failure(logistic_model: Path) -> None:
    scorer = load(logistic_model, LABEL, "m")
    rows = [tensor("age", "INT64", 30), tensor("hours", "FP64", None), tensor("children", "INT64", 1)]

    with pytest.raises(BadRequest, match="column 'hours': null, and the model does not take a missing value there"):
        scorer.answer(orjson.dumps({"inputs": rows}))


def test_where_the_setting_says_so_mlflow_answers_the_same(logistic_bento: Path, logistic: Any, tmp_path: Path) -> None:
    rows = [tensor("age", "INT64", 30, 61), tensor("hours", "FP64", 30.0, 44.5), tensor("children", "INT64", 1, 0)]
    with serving(logistic_bento, tmp_path / "log", direct="off", revision=digest_of(logistic_bento)) as service:
        through = service.infer("employment", *rows).json()
        assert service.get("/v2/health/ready").json()["because"] == "the setting says so"

    direct = logistic.infer("employment", *rows).json()
    assert through["outputs"][0]["shape"] == direct["outputs"][0]["shape"]
    np.testing.assert_allclose(through["outputs"][0]["data"], direct["outputs"][0]["data"], rtol=1e-12)


def test_the_example_of_a_model_through_mlflow_has_as_many_rows_as_are_asked_for(logistic_model: Path) -> None:
    body = rows_of_example(load(logistic_model, LABEL, "m"), 3)

    assert body is not None
    assert orjson.loads(body)["inputs"][0]["shape"] == [3]


def fussy(folder: Path) -> None:
    """Save a scikit-learn model that answers arrays otherwise than frames."""
    from sklearn.linear_model import LinearRegression

    class Fussy(LinearRegression):  # type: ignore[misc]
        def predict(self, X: Any) -> Any:  # noqa: N803  scikit-learn's name
            return super().predict(X) + (1.0 if hasattr(X, "columns") else 0.0)

    model = Fussy().fit(FRAME.to_numpy(dtype=float), TRUTH)
    save("mlflow.sklearn", model, FRAME.astype(float), serialization_format="cloudpickle")(folder)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_model_that_answers_otherwise_directly_is_asked_through_mlflow_by_a_process_begun_again(workers: str, tmp_path: Path) -> None:
    fussy(tmp_path / "model")
    root = packaged(tmp_path / "model", "fussy", tmp_path / "bento")
    frame = FRAME.astype(float).head(2)
    expected = load(tmp_path / "model", LABEL, "m").pyfunc.predict(frame)

    said = []
    for log in ("first", "second"):
        kept = str(tmp_path / "kept.json")
        with serving(root, tmp_path / log, revision=digest_of(root), workers=workers, parity=kept) as service:
            ready = service.get("/v2/health/ready").json()
            answer = service.infer("fussy", *(tensor(str(name), "FP64", *frame[name]) for name in frame))
        said.append("begins again" in (tmp_path / log).read_text())
        assert ready["path"] == "mlflow pyfunc"
        assert ready["because"] == "the input example: output 'output' has other values than through MLflow"
        np.testing.assert_allclose(answer.json()["outputs"][0]["data"], expected, rtol=1e-9)

    assert said == [True, False], "a later process knows it from the beginning"


def test_mlflows_answers_are_kept_for_the_next_process_of_the_same_revision(logistic_model: Path, tmp_path: Path) -> None:
    planned, kept = plan(logistic_model), tmp_path / "kept.json"
    first = Expected(logistic_model, probes(planned), "sha256:one", kept)
    assert not kept.exists()
    answers = first.answers()

    assert Expected(logistic_model, probes(planned), "sha256:one", kept)._process is None
    assert Expected(logistic_model, probes(planned), "sha256:one", kept).answers() == answers
    another = Expected(logistic_model, probes(planned), "sha256:two", kept)
    assert another._process is not None
    another.close()
    kept.write_text("{")
    damaged = Expected(logistic_model, probes(planned), "sha256:one", kept)
    assert damaged._process is not None
    damaged.close()


def test_a_known_library_asked_through_mlflow_answers_requests_together(tmp_path: Path) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows = pd.DataFrame({"city": ["Oslo", "Rome"] * 50, "hours": RANDOM.normal(38, 9, 100)})
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    model = make_pipeline(encoded, LogisticRegression()).fit(rows, rows["hours"] > 38)
    save("mlflow.sklearn", model, rows)(tmp_path / "src" / "model")
    (tmp_path / "src" / "revision.json").write_text('{"model": "m", "version": "1"}')
    scorer, made_from = loading(ServiceSettings(root=tmp_path), "none", "").warmed()

    assert made_from == "the input example"
    assert scorer.notes == {"path": "mlflow pyfunc", "because": "column 'city' is no number", "together": True}
    asked = [
        scorer.asked([tensor("city", "BYTES", city), tensor("hours", "FP64", hours)])
        for city, hours in (("Oslo", 30.0), ("Rome", 50.0), ("Oslo", None))
    ]
    first, second, missing = scorer.scored(asked)
    assert isinstance(missing, BadRequest)
    assert [orjson.loads(answer.outputs)[0]["data"] for answer in (first, second)] == [[False], [True]]  # type: ignore[union-attr]
