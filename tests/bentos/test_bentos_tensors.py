"""Tensors read by themselves: what the wire tests of the echo model do not reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.service.errors import BadRequest
from bentos.service.tensors import Field, Text, read


def values(field, *data, shape=None):
    return read(field, {"name": field.name, "datatype": field.datatype, "shape": shape or [len(data)], "data": list(data)})


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_whole_numbers_of_64_bits_arrive_exactly(numbers):
    assert values(Field("x", np.dtype("int64")), *numbers).tolist() == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_arrive_exactly(numbers):
    assert values(Field("x", np.dtype("float64")), *numbers).tolist() == numbers


@given(st.one_of(st.integers(max_value=-(2**31) - 1), st.integers(min_value=2**31), st.floats(), st.text(), st.booleans(), st.none()))
def test_whatever_is_no_whole_number_of_32_bits_is_refused_by_name(value):
    with pytest.raises(BadRequest, match="column 'x'"):
        values(Field("x", np.dtype("int32")), value)


def test_a_tensor_input_may_be_nested_or_flat():
    field = Field("image", np.dtype("float32"), tail=(2, -1))

    nested = values(field, [[1, 2], [3, 4]], shape=[1, 2, 2])
    flat = values(field, 1, 2, 3, 4, shape=[1, 2, 2])

    assert nested.shape == (1, 2, 2)
    np.testing.assert_array_equal(nested, flat)


def test_a_tensor_input_of_another_shape_is_refused_with_the_allowed_one():
    with pytest.raises(BadRequest, match=r"column 'image': the shape must be \[n, 2, -1\], not \[1, 3\]"):
        values(Field("image", np.dtype("float32"), tail=(2, -1)), 1, 2, 3, shape=[1, 3])


@pytest.mark.parametrize("shape", [[2**63 - 1, 0], [10**18, 0], [3, 0]])
def test_rows_without_any_value_are_refused_however_many_they_are_said_to_be(shape):
    with pytest.raises(BadRequest, match="column 'x': no size of its shape may be 0"):
        values(Field("x", np.dtype("float64"), tail=(-1,)), shape=shape)


@pytest.mark.parametrize("text", ["now", "today", "NaT", ""])
def test_a_word_is_no_time(text):
    with pytest.raises(BadRequest, match="column 'x': allowed are strings"):
        values(Field("x", np.dtype(object), text=Text.MOMENT), text)


def test_bytes_and_json_are_decoded():
    assert values(Field("x", np.dtype(object), text=Text.BINARY), "AP8=").tolist() == [b"\x00\xff"]
    assert values(Field("x", np.dtype(object), text=Text.JSON), '{"a": [1]}', "[2]").tolist() == [{"a": [1]}, [2]]


@pytest.mark.parametrize(("text", "value"), [(Text.BINARY, "not base64!"), (Text.JSON, "{"), (Text.MOMENT, "31.12.2026")])
def test_what_cannot_be_decoded_is_refused_by_name(text, value):
    with pytest.raises(BadRequest, match="column 'x': allowed are strings"):
        values(Field("x", np.dtype(object), text=text), value)


def test_deeply_nested_data_is_refused():
    data: list = []
    for _ in range(500):
        data = [data]

    with pytest.raises(BadRequest, match="column 'x'"):
        values(Field("x", np.dtype("int64")), data, shape=[1])
