"""The population stability index: by hand, by its properties, and against what chance gives."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from monitoring.stability import (
    FLOOR,
    MISSING,
    OTHER,
    Quantiles,
    Values,
    alike,
    as_texts,
    bins_of,
    by_chance,
    contributions,
    stability_index,
)

COUNTS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=25)
CELLS = st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-9, 9))


@pytest.mark.parametrize(
    ("reference", "current", "expected"),
    [
        ((50, 50), (80, 20), 0.415888),  # 0.3 ln 1.6 - 0.3 ln 0.4
        ((1, 1, 2), (10, 10, 20), 0.0),
        ((90, 10, 0), (0, 10, 90), 16.387143),  # 2 * 0.8999 ln 9000
        ((25, 25, 50), (30, 30, 40), 0.040547),  # 0.1 ln 1.2 - 0.1 ln 0.8
    ],
)
def test_the_index_is_what_one_computes_by_hand(reference, current, expected):
    assert stability_index(reference, current) == pytest.approx(expected, abs=1e-6)


@given(COUNTS)
def test_the_index_is_symmetric_never_negative_and_zero_for_equal_shares(pairs):
    reference, current = ([pair[side] for pair in pairs] for side in (0, 1))
    assume(sum(reference) and sum(current))
    found = stability_index(reference, current)
    assert found >= 0
    assert all(part >= 0 for part in contributions(reference, current))
    assert found == pytest.approx(stability_index(current, reference))
    assert stability_index(reference, [3 * count for count in reference]) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(found)


@settings(deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=80), st.lists(CELLS, max_size=80), st.lists(CELLS, max_size=80))
def test_every_row_is_in_one_bin_and_the_counts_of_parts_add_up(reference, left, right):
    bins = bins_of(pd.Series(reference, dtype="float64"))
    parts = [bins.count(pd.Series(part, dtype="float64")) for part in (left, right)]
    whole = bins.count(pd.Series(left + right, dtype="float64"))
    assert sum(whole) == len(left + right)
    assert [sum(both) for both in zip(*parts, strict=True)] == list(whole)
    assert len(bins.labels) == len(whole)


def test_a_numeric_column_is_cut_into_tenths_of_the_reference():
    bins = bins_of(pd.Series(range(1, 1001)))
    assert bins == Quantiles(tuple(float(edge) for edge in range(100, 1000, 100)))
    assert bins.count(pd.Series([100, 101, -5, 5000, None, 900.5])) == (2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1)
    assert (bins.labels[0], bins.labels[9], bins.labels[-1]) == ("up to 100", "above 900", MISSING)


def test_a_column_that_is_mostly_one_value_has_fewer_and_wider_bins():
    bins = bins_of(pd.Series([0.0] * 900 + list(range(1, 101))))
    assert bins == Quantiles((0.0,))


def test_few_numbers_and_all_texts_are_counted_by_value_and_the_missing_apart():
    numbers, texts = bins_of(pd.Series([1, 2, 2])), bins_of(pd.Series(["a", "b", None]))
    assert numbers == Values((1.0, 2.0), numeric=True)
    assert numbers.count(pd.Series([1.0, 7.0, None])) == (1, 0, 1, 1)
    assert texts.count(pd.Series(["b", "c", None])) == (0, 1, 1, 1)
    assert texts.labels == ("equal to 'a'", "equal to 'b'", OTHER, MISSING)


def test_a_text_where_a_number_was_is_another_value_and_not_a_missing_one():
    assert bins_of(pd.Series([1, 2])).count(pd.Series(["1", "two", None])) == (1, 0, 1, 1)


def test_the_rarest_of_many_texts_share_a_bin():
    reference = pd.Series([f"v{number:02}" for number in range(30) for _ in range(30 - number)])
    bins = bins_of(reference)
    assert len(bins.labels) == 22
    assert bins.count(reference)[-2] == sum(range(1, 11))


def test_a_column_that_was_always_missing_shifts_when_it_is_not():
    bins = bins_of(pd.Series([None, None], dtype="float64"))
    assert stability_index(bins.count(pd.Series([None] * 9, dtype="float64")), bins.count(pd.Series([1.0] * 9))) > 1
    assert FLOOR < 0.001


def test_chance_is_the_quantile_of_the_chi_squared_distribution():
    counts = [10] * 10
    assert by_chance(counts, counts, 0.001) == pytest.approx(chi2.ppf(0.999, 9) * (1 / 100 + 1 / 100), rel=0.01)


def test_unmoved_rows_stay_below_what_chance_explains():
    random = np.random.default_rng(5)
    reference = pd.Series(random.normal(size=20_000))
    bins = bins_of(reference)
    before = bins.count(reference)
    windows = [bins.count(pd.Series(random.normal(size=500))) for _ in range(400)]
    beyond = sum(stability_index(before, now) > by_chance(before, now, 0.01) for now in windows)
    assert beyond <= 12  # 4 are expected; more than 12 has a probability below 0.0003


MOMENTS = pd.Series(pd.date_range("2026-01-01", periods=300, freq="h", tz="UTC"))


@pytest.mark.parametrize(
    ("reference", "captured"),
    [
        (MOMENTS.dt.tz_localize(None).astype("datetime64[us]"), MOMENTS.astype("datetime64[ns, UTC]")),
        (MOMENTS.dt.tz_localize(None).astype("datetime64[s]"), MOMENTS.astype("datetime64[ns, UTC]")),
        (MOMENTS.astype(str), MOMENTS),
        (MOMENTS, MOMENTS.astype(str)),
        (pd.Series([0.1, 0.2, 0.3] * 100), pd.Series([0.1, 0.2, 0.3] * 100, dtype="float32")),
        (pd.Series(np.linspace(0, 1, 300)), pd.Series(np.linspace(0, 1, 300), dtype="float32")),
        (pd.Series(["1", "2", "3"] * 100), pd.Series([1.0, 2.0, 3.0] * 100)),
        (pd.Series(["1.0", "2.0", None] * 100), pd.Series([1, 2, None] * 100)),
        (pd.Series(["1", "2", "none"] * 100), pd.Series([1.0, 2.0, "none"] * 100, dtype=object)),
        (pd.Series([1, 2, 3] * 100), pd.Series(["1", "2.0", "3"] * 100)),
    ],
)
def test_the_same_values_stored_in_other_types_have_not_moved(reference, captured):
    before, (now,) = alike(reference, [captured])
    bins = bins_of(before)
    assert stability_index(bins.count(before), bins.count(now)) == pytest.approx(0, abs=1e-9)


def test_a_text_that_is_no_time_is_another_value_and_not_a_missing_one():
    before, (now,) = alike(MOMENTS, [pd.Series(["2026-01-01", "soon", None])])
    assert bins_of(before).count(now)[-2:] == (1, 1)


def test_a_large_whole_number_has_one_text():
    assert as_texts(pd.Series(["1234567", 1234567, 1234567.0, None], dtype=object)).tolist() == ["1234567"] * 3 + [None]
