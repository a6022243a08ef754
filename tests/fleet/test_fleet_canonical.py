"""Canonical bytes are RFC 8785's, whichever way they are written."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.canonical import canonical_json

TEXT = st.text() | st.text(st.characters(max_codepoint=0x7F))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class Word(StrEnum):
    ONE = "one"


@settings(deadline=None)
@given(VALUES)
@example({"\U0001f600": 1, "\ufb33": 2, "b": [True, None, -0.0, 1e21], 'a\x7f\x1f\b\f\n\r\t"\\/': ()})
@example({Word.ONE: Word.ONE, "n": 2**53 - 1, "m": -(2**53) + 1})
def test_they_are_those_of_the_reference(value: Any) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), [2**60], {"a": float("nan")}, {1: "a"}, {"a": {1}}, "\ud800", {"\ud800": 1}, b"x"])
def test_what_the_reference_refuses_is_refused(value: Any) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011 - whatever the reference raises
        rfc8785.dumps(value)
    with pytest.raises(expected.type):
        canonical_json(value)


def test_what_is_nested_deeply_is_written_all_the_same() -> None:
    value: Any = []
    for _ in range(150):
        value = [value]
    assert canonical_json(value) == rfc8785.dumps(value)
