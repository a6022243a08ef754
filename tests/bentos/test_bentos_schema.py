"""Requests read in one go are read as those that are read column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, DataType, Map

from bentos.service.errors import BadRequest, ModelUnusable
from bentos.service.schema import Schema as Compiled
from bentos.service.schema import stackable
from bentos.service.signature import compiled, signature_of

TYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3)
)
VALUES = {
    "FP64": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
    "FP32": st.one_of(st.none(), st.integers(-100, 100), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "BOOL": st.booleans(),
}


def signature(*kinds: str) -> Any:
    return signature_of(ModelSignature(inputs=Schema([ColSpec(kind, f"c{at}") for at, kind in enumerate(kinds)])))


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns of a signature and a request for them, which may be wrong in a place."""
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5))
    rows = draw(st.integers(1, 4))
    shape = draw(st.sampled_from([[rows], [rows, 1]]))
    inputs = []
    for at, kind in enumerate(kinds):
        datatype = TYPES[kind]
        data = draw(st.lists(VALUES[datatype], min_size=rows, max_size=rows))
        inputs.append({"name": f"c{at}", "datatype": datatype, "shape": shape, "data": data})
    if draw(st.booleans()):
        broken = draw(st.sampled_from(inputs))
        broken[draw(st.sampled_from(["name", "datatype", "shape", "data"]))] = draw(
            st.one_of(
                ODD, st.lists(ODD, max_size=3), st.just("c0"), st.just([rows + 1]), st.dictionaries(st.text(max_size=2), ODD, max_size=2)
            )
        )
    return kinds, draw(st.permutations(inputs))


@settings(deadline=None, max_examples=300)
@given(requests())
def test_rows_are_stacked_as_their_columns_are_or_refused_alike(drawn: tuple[list[str], list[dict[str, Any]]]) -> None:
    kinds, inputs = drawn
    plain, stacked = Compiled(signature(*kinds)), Compiled(signature(*kinds), stacked=True)

    def read(schema: Compiled) -> Any:
        try:
            return schema.rows(inputs)
        except BadRequest as problem:
            return str(problem)

    expected, found = read(plain), read(stacked)
    if isinstance(expected, str):
        assert found == expected
        return
    block = stacked.stacked(expected).block
    assert (found.count, found.block.dtype) == (len(block), block.dtype)
    np.testing.assert_array_equal(found.block, block)


def test_a_column_that_takes_no_missing_value_refuses_one_by_column_and_row() -> None:
    schema = Compiled(signature("double", "double"), stacked=True, refuses=("c1",))

    def inputs(*second: Any) -> list[dict[str, Any]]:
        return [
            {"name": "c0", "datatype": "FP64", "shape": [2], "data": [None, 1.0]},
            {"name": "c1", "datatype": "FP64", "shape": [2], "data": list(second)},
        ]

    assert np.isnan(schema.rows(inputs(1.0, 2.0)).block).sum() == 1
    with pytest.raises(BadRequest, match="column 'c1': row 1 has null, and this model takes no missing value there"):
        schema.rows(inputs(1.0, None))


WHY = {
    "a text": ([ColSpec("double", "a"), ColSpec("string", "b")], "column 'b' is no number"),
    "one that may be left out": ([ColSpec("double", "a", required=False)], "column 'a' may be left out"),
    "two arrays": (
        [TensorSpec(np.dtype("float64"), (-1,), "a"), TensorSpec(np.dtype("float64"), (-1,), "b")],
        "it takes several named arrays",
    ),
}


@pytest.mark.parametrize("case", WHY)
def test_what_cannot_be_one_array_is_told(case: str) -> None:
    specs, reason = WHY[case]

    assert stackable(signature_of(ModelSignature(inputs=Schema(specs)))) == reason


def test_a_signature_is_read_from_the_file_as_mlflow_writes_it() -> None:
    columns = [
        ColSpec("datetime", "since", required=False),
        ColSpec("binary", "photo"),
        ColSpec(Array(DataType.long), "visits"),
        ColSpec(Map(DataType.string), "words"),
        ColSpec(AnyType(), "anything"),
    ]
    read = compiled(ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec("long")])).to_dict())

    assert [(field.name, field.datatype, field.required, field.text.name) for field in read.inputs] == [
        ("since", "BYTES", False, "MOMENT"),
        ("photo", "BYTES", True, "BINARY"),
        ("visits", "BYTES", True, "JSON"),
        ("words", "BYTES", True, "JSON"),
        ("anything", "BYTES", True, "JSON"),
    ]
    assert (read.frame, read.named) == (True, True)
    assert [(output.name, output.datatype, output.shape) for output in read.outputs] == [("output", "INT64", (-1,))]


@pytest.mark.parametrize("inputs", ["{", "{}", "[1]", '[{"type": "tensor", "tensor-spec": {}}]', '[{"type": "tensor"}]'])
def test_a_signature_that_cannot_be_read_makes_the_model_unusable(inputs: str) -> None:
    with pytest.raises(ModelUnusable):
        compiled({"inputs": inputs})


@pytest.mark.parametrize("kind", ["double", "float"])
def test_what_csv_calls_infinite_is_refused_where_rows_are_stacked_too(kind: str) -> None:
    names, datatype = signature(kind, kind), {"double": "FP64", "float": "FP32"}[kind]
    tensors = [
        {"name": field.name, "datatype": datatype, "shape": [1], "data": [value]}
        for field, value in zip(names.inputs, (float("inf"), 1.0), strict=True)
    ]
    with pytest.raises(BadRequest, match=f"a value does not fit into {datatype}"):
        Compiled(names, stacked=True).rows(tensors)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from([(-1, 2), (-1, -1), (-1, 2, 2)]),
    st.sampled_from(["float64", "float32", "int64", "bool"]),
    st.dictionaries(st.sampled_from(["name", "datatype", "shape", "data"]), ODD | st.lists(ODD, max_size=4) | st.just([1, 2]), max_size=2),
    st.booleans(),
)
def test_one_array_is_read_as_it_is_when_it_is_looked_at_closely(
    shape: tuple[int, ...], kind: str, broken: dict[str, Any], nested: bool
) -> None:
    declared = signature_of(ModelSignature(inputs=Schema([TensorSpec(np.dtype(kind), shape)])))
    (field,) = declared.inputs
    size = [2 if each == -1 else each for each in shape]
    values = np.ones(size, dtype=kind).tolist()
    given_ = {"name": field.name, "datatype": field.datatype, "shape": size, "data": values if nested else np.ravel(values).tolist()}

    def read(stacked: bool) -> Any:
        try:
            return Compiled(declared, stacked=stacked).rows([given_ | broken])
        except BadRequest as problem:
            return str(problem)

    plain, stacked = read(False), read(True)
    if isinstance(plain, str):
        assert stacked == plain
        return
    (array,) = plain.arrays.values()
    assert stacked.block.dtype == array.dtype
    np.testing.assert_array_equal(stacked.block, array)
