"""What models give, in the protocol's form."""

import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from bentos.service.answers import tensors
from bentos.service.errors import ModelFailed, ModelUnusable
from bentos.service.signature import signature_of


def signature(*outputs):
    return signature_of(ModelSignature(inputs=Schema([ColSpec("long", "a")]), outputs=Schema(list(outputs)) if outputs else None))


def given(prediction, *outputs):
    return [
        (tensor["name"], tensor["datatype"], tensor["shape"], np.asarray(tensor["data"]).tolist())
        for tensor in tensors(signature(*outputs), prediction)
    ]


PREDICTIONS = {
    "classes": (np.array([1, 0]), ("output", "INT64", [2], [1, 0])),
    "probabilities": (np.array([[0.25, 0.75], [1, 0]]), ("output", "FP64", [2, 2], [0.25, 0.75, 1, 0])),
    "in Fortran's order": (np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), ("output", "FP64", [2, 2], [1, 2, 3, 4])),
    "half floats": (np.array([0.5], dtype="float16"), ("output", "FP16", [1], [0.5])),
    "a list": ([1.5, 2.5], ("output", "FP64", [2], [1.5, 2.5])),
    "strings": (np.array(["yes", "no"]), ("output", "BYTES", [2], ["yes", "no"])),
    "a series": (pd.Series([True, False], name="x"), ("output", "BOOL", [2], [True, False])),
    "a frame": (pd.DataFrame({"p": [1, 2]}), ("p", "INT64", [2], [1, 2])),
    "a mapping": ({"p": [1.0]}, ("p", "FP64", [1], [1.0])),
    "objects": ([{"a": 1}, {"a": 2}], ("a", "INT64", [2], [1, 2])),
    "one number": (3, ("output", "INT64", [1], [3])),
    "bytes": (pd.DataFrame({"b": [b"\x00\xff"]}), ("b", "BYTES", [1], ["AP8="])),
    "nested": (pd.DataFrame({"n": [{"k": [1, 2]}]}), ("n", "BYTES", [1], ['{"k":[1,2]}'])),
    "times": (np.array(["2026-11-22T01:02:03"], dtype="datetime64[s]"), ("output", "BYTES", [1], ["2026-11-22T01:02:03Z"])),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_each_form_of_an_answer_becomes_a_tensor(case):
    prediction, tensor = PREDICTIONS[case]

    assert given(prediction) == [tensor]


def test_one_declared_output_names_the_array():
    assert given(np.ones((1, 2)), TensorSpec(np.dtype("float64"), (-1, 2), "probabilities"))[0][:3] == ("probabilities", "FP64", [1, 2])


def test_two_declared_columns_take_an_array_apart():
    parts = given(np.array([[0.25, 0.75]]), ColSpec("double", "no"), ColSpec("double", "yes"))

    assert parts == [("no", "FP64", [1], [0.25]), ("yes", "FP64", [1], [0.75])]


def test_a_ragged_answer_is_the_models_failure():
    with pytest.raises(ModelFailed, match="not rectangular"):
        given([[1], [1, 2]])


def test_a_model_without_signature_is_unusable():
    with pytest.raises(ModelUnusable, match="no signature"):
        signature_of(None)


def test_a_tensor_whose_rows_are_fixed_is_unusable():
    with pytest.raises(ModelUnusable, match="first dimension"):
        signature_of(ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), (1, 4), "x")])))
