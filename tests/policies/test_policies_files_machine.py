"""The walk over a pickle's opcodes: it sees what the unpickler would import, by any protocol, and resolves nothing by guessing."""

from __future__ import annotations

import collections
import datetime
import decimal
import io
import pickle
from typing import Any

import hostile_pickles
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.files.allowlist import allowlist
from policies.files.machine import is_pickle, walk
from policies.files.seen import Import, Use
from policies.files.values import OLD_MODULES

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.sets(st.integers()) | st.frozensets(st.text())
    ),
    max_leaves=20,
)
OBJECTS = st.sampled_from(
    (
        decimal.Decimal("1.5"),
        datetime.date(2026, 1, 1),
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.deque([1]),
        numpy.arange(3),
        numpy.float64(1.5),
        numpy.dtype("<f4"),
        numpy.array(["a", None], dtype=object),
        slice(1, 2),
        bytearray(b"a"),
    )
)


class Finder(pickle.Unpickler):
    """An unpickler that notes what it imports: the truth, for pickles of our own."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[tuple[str, str]] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.found.add((OLD_MODULES.get(module, module), name))
        return super().find_class(module, name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.tuples(PLAIN, st.lists(OBJECTS, max_size=4)), protocol=st.integers(0, 5))
def test_it_sees_exactly_what_the_unpickler_imports_and_finds_nothing_wrong_with_plain_values(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    found, truth = walk(io.BytesIO(data)), Finder(data)
    truth.load()
    assert {(each.module, each.name) for each in found.imports} == truth.found
    assert found.end == len(data)
    assert found.problems == ()
    assert [refusal for each in found.imports if (refusal := allowlist().refusal(each))] == []


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_it(data: bytes) -> None:
    found = walk(io.BytesIO(data))
    assert found.end > 0 or found.problems


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(hostile_pickles.obfuscated())), st.integers(0, 400))
def test_a_hostile_pickle_cut_anywhere_behind_its_call_is_still_seen(name: str, cut: int) -> None:
    data = hostile_pickles.obfuscated()[name]
    whole = walk(io.BytesIO(data))
    part = walk(io.BytesIO(data[: len(data) - cut % len(data)]))
    assert set(part.imports) <= set(whole.imports)
    assert part.end > 0 or part.problems


def test_a_name_is_resolved_through_the_memo_as_the_unpickler_would() -> None:
    data = hostile_pickles.obfuscated()["names overwritten in the memo"]
    assert Import("posix", "system", Use.CALLED) in walk(io.BytesIO(data)).imports
    assert "numpy" not in {each.module for each in walk(io.BytesIO(data)).imports}


@pytest.mark.parametrize(
    "text",
    [
        b"cloudpickle==3.1.2\nmlflow==3.17.2\n",
        b"channels:\n- conda-forge\ndependencies:\n",
        b"cat\ndog\nred\n",
        b"I am text.\n",
        b"N.",
        b"(1, 2)\n",
        b"{}",
    ],
)
def test_texts_that_begin_like_opcodes_are_texts(text: bytes) -> None:
    assert not is_pickle(text)


def test_every_entry_of_the_allowlist_has_a_reason_and_no_wildcard() -> None:
    entries = allowlist().entries
    assert len(entries) > 400
    for path, entry in entries.items():
        module, _, name = path.partition(":")
        assert all(part.isidentifier() for part in (*module.split("."), *name.split("."))), path
        assert len(entry.reason) > 10, path


def test_nothing_that_is_known_to_be_dangerous_is_on_the_allowlist() -> None:
    from picklescan.scanner import _unsafe_globals

    named = {f"{module}:{name}" for module, name in hostile_pickles.DIRECT}
    looked_up = {"cloudpickle.cloudpickle:_builtin_type", "builtins:type"}
    assert named & set(allowlist().entries) == set()
    for path in set(allowlist().entries) - looked_up:
        module, _, name = path.partition(":")
        dangerous = _unsafe_globals.get(module, ())
        assert dangerous != "*", path
        assert name not in dangerous, path
    # It may be imported for the one call that the walk resolves, and neither kept nor trusted by name
    assert allowlist().entries["cloudpickle.cloudpickle:_builtin_type"].uses == frozenset()
    assert not allowlist().allows_type("cloudpickle.cloudpickle._builtin_type")


def test_what_may_be_called_takes_no_import_but_those_that_are_named_for_it() -> None:
    called = {path: entry.takes for path, entry in allowlist().entries.items() if Use.CALLED in entry.uses}
    for path, takes in called.items():
        assert takes <= set(allowlist().entries), path


def test_no_name_on_the_allowlist_becomes_another_by_what_old_protocols_rename() -> None:
    import _compat_pickle

    renamed = [path for path in allowlist().entries if path.partition(":")[0] in _compat_pickle.IMPORT_MAPPING]
    assert renamed == []
    old = {new: old for old, new in OLD_MODULES.items()}
    for path in allowlist().entries:
        module, _, name = path.partition(":")
        assert (module, name) not in _compat_pickle.NAME_MAPPING
        assert (old.get(module), name) not in _compat_pickle.NAME_MAPPING
