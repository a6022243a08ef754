"""The one reader of YAML: what its authors may write, and everything else told rather than raised."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.yaml_text import MOST_BYTES, MOST_VALUES, Unreadable, read_yaml, read_yaml_documents, read_yaml_file
from support.attacks import YAML_TEXTS

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 10)}]\n" for before, key in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize("text", YAML_TEXTS)
def test_what_breaks_a_reader_or_can_be_read_in_two_ways_is_unreadable(text: str) -> None:
    for read in (read_yaml, read_yaml_documents):
        with pytest.raises(Unreadable) as told:
            read(text.encode())
        assert len(str(told.value)) < 400
        assert str(told.value).isprintable()


def test_plain_values_are_read_and_so_are_aliases_that_end() -> None:
    assert read_yaml("a: &a [1, 1.5, yes, true, null]\nb: *a\n") == {"a": (given := [1, 1.5, "yes", True, None]), "b": given}
    assert read_yaml("") is None
    assert read_yaml_documents("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


def test_a_text_beyond_its_bound_is_not_parsed_at_all() -> None:
    text = b"a: " + b"x" * MOST_BYTES
    with pytest.raises(Unreadable, match=f"is larger than {MOST_BYTES >> 10} KiB"):
        read_yaml(text)
    assert read_yaml(text, len(text)) is not None


def test_aliases_of_aliases_count_as_what_they_stand_for() -> None:
    with pytest.raises(Unreadable, match=f"holds more than {MOST_VALUES} values"):
        read_yaml(LAUGHS)


def test_what_is_wrong_is_told_with_its_line() -> None:
    with pytest.raises(Unreadable, match=r'line 2: found duplicate key "a"'):
        read_yaml("a: 1\na: 2\n")


def test_a_file_that_is_none_is_unreadable_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "MLmodel")
    for name, why in (("nowhere", "FileNotFoundError"), ("", "is no file"), ("MLmodel", "is no file")):
        with pytest.raises(Unreadable, match=why):
            read_yaml_file(tmp_path / name)
    (tmp_path / "a.yaml").write_bytes(b"a: 1\n")
    assert read_yaml_file(tmp_path / "a.yaml") == {"a": 1}
    (tmp_path / "a.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(Unreadable, match="is larger than"):
        read_yaml_file(tmp_path / "a.yaml")


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="a1:-[]{}&*!?|>'\"%@`# \n\t<.~é\x85\u2028", max_size=40).map(str.encode)))
def test_whatever_the_bytes_nothing_else_is_raised(text: bytes) -> None:
    with suppress(Unreadable):
        read_yaml(text)
