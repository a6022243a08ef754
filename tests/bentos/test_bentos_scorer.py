"""Other kinds of MLflow models than frames of named columns, saved and loaded by MLflow."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from bentos.service.doors import Call
from bentos.service.errors import BadRequest, ModelUnusable
from bentos.service.invocations import Invocations
from bentos.service.scorer import Label, load, read_label
from bentos.service.warming import warm

MODELS = Path(__file__).parent / "models"


def answered(scorer, *inputs):
    outputs = orjson.loads(scorer.answer(orjson.dumps({"inputs": list(inputs)})).body)["outputs"]
    return {output["name"]: (output["shape"], output["data"]) for output in outputs}


def test_a_model_of_one_unnamed_array(tmp_path):
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    rows = np.arange(12.0).reshape(4, 3)
    model = LinearRegression().fit(rows, rows.sum(axis=1))
    mlflow.sklearn.save_model(model, tmp_path / "m", signature=infer_signature(rows, model.predict(rows)), input_example=rows)
    scorer = load(tmp_path / "m", Label("m", "1"), "m")

    shape, data = answered(scorer, {"name": "input", "datatype": "FP64", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]})["output"]

    assert shape == [2]
    np.testing.assert_allclose(data, [6, 15])
    assert warm(scorer) == "a row of zeros"


def test_a_model_of_two_named_tensors(tmp_path):
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 2, 2), "image"), TensorSpec(np.dtype("float32"), (-1,), "bias")])
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=MODELS / "arrays.py", signature=ModelSignature(inputs=inputs), pip_requirements=[]
    )
    scorer = load(tmp_path / "m", Label("m", "1"), "m")

    image = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2], "data": [[[1, 2], [3, 4]]]}
    assert answered(scorer, image, {"name": "bias", "datatype": "FP32", "shape": [1], "data": [0.5]}) == {"sum": ([1], [10.5])}
    with pytest.raises(BadRequest, match="missing column 'bias'"):
        answered(scorer, image)


def test_nested_values_that_do_not_fit_the_signature_are_their_callers_mistake(tmp_path):
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    signature = ModelSignature(inputs=Schema([ColSpec(Array(DataType.double), "v")]))
    mlflow.pyfunc.save_model(tmp_path / "m", python_model=MODELS / "lengths.py", signature=signature, pip_requirements=[])
    scorer = load(tmp_path / "m", Label("m", "1"), "m")

    assert answered(scorer, {"name": "v", "datatype": "BYTES", "shape": [2], "data": ["[1.5, 2.5]", "[0.5]"]}) == {"output": ([2], [2, 1])}
    for wrong in ('["a"]', "1", "null", '{"a": 1.0}', "[" * 500 + "]" * 500):
        with pytest.raises(BadRequest, match="a value does not fit the model's signature"):
            answered(scorer, {"name": "v", "datatype": "BYTES", "shape": [1], "data": [wrong]})
    with pytest.raises(BadRequest, match="column 'v': its values are nested too deeply"):
        Invocations().read(scorer, Call(b'{"instances": [{"v": %b}]}' % (b"[" * 300 + b"]" * 300), {}))


def test_a_model_whose_signature_comes_from_type_hints(tmp_path):
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(tmp_path / "m", python_model=MODELS / "texts.py", pip_requirements=[], input_example=["a", "bb"])
    scorer = load(tmp_path / "m", Label("m", "1"), "m")
    name = scorer.signature.inputs[0].name

    assert answered(scorer, {"name": name, "datatype": "BYTES", "shape": [2], "data": ["one", "three"]}) == {"output": ([2], [3, 5])}


def test_a_model_that_fails_on_its_own_example_is_unusable(tmp_path):
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    example = pd.DataFrame({"city": ["raise"]})
    echo = MODELS / "echo.py"
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=echo, signature=infer_signature(example), input_example=example, pip_requirements=[]
    )

    with pytest.raises(ModelUnusable, match=r"its own input example \(ValueError: a legal pair"):
        warm(load(tmp_path / "m", Label("m", "1"), "m"))


@pytest.mark.parametrize("label", ["{", "[]", '{"model": "m"}'])
def test_an_unreadable_label_makes_the_bento_unusable(label, tmp_path):
    (tmp_path / "revision.json").write_text(label)

    with pytest.raises(ModelUnusable, match=r"revision\.json cannot be read"):
        read_label(tmp_path / "revision.json")
