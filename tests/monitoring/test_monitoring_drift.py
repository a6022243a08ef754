"""The verdict on a window of answered rows: quiet when nothing moved, loud and precise when something did."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fleet.declared import Drift
from monitoring.drift import ColumnDrift, DriftOutcome, DriftVerdict, Measured, judge_drift, measure
from monitoring.evidently_report import compare

COLUMNS = ("age", "city", "hours", "member")


def policy(**changes: Any) -> Drift:
    return Drift(reference={"repository": "data", "path": "rows.parquet"}, **changes)


def rows(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": random.integers(16, 90, count),
            "hours": np.where(random.random(count) < 0.1, np.nan, random.normal(38, 9, count)),
            "city": random.choice(["Bern", "Genf", "Zürich"], count, p=[0.2, 0.3, 0.5]),
            "member": random.random(count) < 0.3,
        }
    )


REFERENCE = rows(20_000, 0)


def judged(windows: dict[str, pd.DataFrame], **changes: Any) -> DriftVerdict:
    return judge_drift(policy(**changes), measure(REFERENCE, windows, COLUMNS))


def test_windows_of_the_same_kind_do_not_alarm():
    found = [judged({"us": rows(500, seed), "eu": rows(300, seed + 1000)}, psi="0.02") for seed in range(1, 101)]
    assert {verdict.outcome for verdict in found} <= {DriftOutcome.STABLE, DriftOutcome.NOT_ENOUGH_DATA}
    assert judged({"us": rows(800, 1)}).outcome is DriftOutcome.STABLE


def test_a_shift_alarms_and_its_column_is_named_first_with_figures_and_region():
    moved = rows(1000, 2).assign(hours=lambda frame: frame["hours"] + 15)
    verdict = judged({"us": rows(1000, 1), "eu": moved})
    assert (verdict.outcome, verdict.drifted) == (DriftOutcome.DRIFTED, ("hours",))
    assert verdict.reasons[0].startswith("'hours' drifted: index ")
    assert "(limit 0.2)" in verdict.reasons[0]
    assert "most in eu (" in verdict.reasons[0]
    assert "of the rows are above " in verdict.reasons[0]


def test_the_greater_shift_comes_first():
    moved = rows(1000, 2).assign(hours=lambda frame: frame["hours"] + 30, city="Bern")
    verdict = judged({"us": moved})
    assert set(verdict.drifted) == {"hours", "city"}
    assert [reason.split("'")[1] for reason in verdict.reasons[:2]] == list(verdict.drifted)


def test_values_that_go_missing_are_a_shift():
    verdict = judged({"us": rows(1000, 2).assign(city=None)})
    assert verdict.drifted == ("city",)
    assert "100.0% of the rows are missing, in the reference 0.0%" in verdict.reasons[0]


def test_a_column_that_a_region_never_captured_is_missing_there():
    verdict = judged({"us": rows(1000, 1), "eu": rows(1000, 2).drop(columns="city")})
    assert verdict.drifted == ("city",)


def test_few_rows_are_no_verdict_and_the_regions_are_told():
    verdict = judged({"us": rows(30, 1).assign(hours=1e6), "eu": rows(0, 1)})
    assert verdict.outcome is DriftOutcome.NOT_ENOUGH_DATA
    assert verdict.reasons == ("30 rows were answered in the window, and 500 are needed (us 30, eu 0).",)


def test_no_rows_and_no_common_column_are_no_verdict():
    assert judge_drift(policy(), measure(REFERENCE, {"us": pd.DataFrame()}, ())).outcome is DriftOutcome.NOT_ENOUGH_DATA
    strange = judge_drift(policy(), measure(REFERENCE, {"us": pd.DataFrame({"x": range(900)})}, ("x",)))
    assert strange.outcome is DriftOutcome.NOT_ENOUGH_DATA
    assert "Not compared: 'x', the reference has no such column." in strange.reasons


def test_what_only_one_side_has_is_told_and_not_counted():
    windows = {"us": rows(1000, 1).assign(**{"prediction.output": 1.0})}
    verdict = judge_drift(policy(), measure(REFERENCE.assign(employed=1), windows, (*COLUMNS, "prediction.output")))
    assert verdict.outcome is DriftOutcome.STABLE
    assert "Not compared: 'prediction.output', the reference has no such column." in verdict.reasons
    assert "Not compared: 'employed', it is not among the captured rows." in verdict.reasons


def column(psi: str, by_chance: str = "0.01", name: str = "x") -> ColumnDrift:
    return ColumnDrift(name, Decimal(psi), Decimal(by_chance), (("us", Decimal(psi)),), "missing", Decimal("1"), Decimal("0"))


@pytest.mark.parametrize(
    ("columns", "share", "outcome"),
    [
        ([column("0.2")], "0", DriftOutcome.STABLE),
        ([column("0.2001")], "0", DriftOutcome.DRIFTED),
        ([column("0.3", by_chance="0.4")], "0", DriftOutcome.NOT_ENOUGH_DATA),
        ([column("0.3"), column("0.1", name="y")], "0.5", DriftOutcome.DRIFTED),
        ([column("0.3"), column("0.1", name="y")], "0.51", DriftOutcome.STABLE),
        ([column("0.3"), column("0.3", by_chance="0.4", name="y")], "0.51", DriftOutcome.NOT_ENOUGH_DATA),
    ],
)
def test_the_limit_the_share_and_chance_decide(columns, share, outcome):
    measured = Measured((("us", 1000),), tuple(columns), ())
    assert judge_drift(policy(share=share), measured).outcome is outcome


def test_evidently_gives_a_score_for_each_column_and_a_report(tmp_path):
    moved = rows(1000, 2).assign(hours=lambda frame: frame["hours"] + 15, member=None)
    scores = {score.column: score for score in compare(REFERENCE, moved, COLUMNS, Decimal(0), tmp_path / "report.html")}
    assert set(scores) == {"age", "city", "hours"}, "a column without any value cannot be compared"
    assert [name for name, score in scores.items() if score.drifted] == ["hours"]
    assert (scores["hours"].method, scores["city"].method) == ("Wasserstein distance (normed)", "Jensen-Shannon distance")
    assert scores["hours"].score > scores["hours"].threshold == Decimal("0.1")
    text = (tmp_path / "report.html").read_text()
    assert "Dataset Drift is detected." in text
    assert 'src="http' not in text


def test_equal_numbers_of_different_types_do_not_drift_for_evidently(tmp_path):
    frame = pd.DataFrame({"code": [1, 2, 3] * 100})
    (score,) = compare(frame, frame.astype("float64"), ("code",), Decimal(0), tmp_path / "report.html")
    assert score.score == 0


def test_real_rows_that_did_not_move_are_quiet_and_a_real_shock_names_the_relationship_column_first():
    """The census of two years apart, and the block of its file that holds residents of group quarters alone."""
    from control.demo.rows import FEATURES, census

    people = census()
    reference = people[people["year"] == 2015].sample(10_000, random_state=1)
    later = people[people["year"] == 2017]
    for seed in range(15):
        verdict = judge_drift(policy(), measure(reference, {"us": later.sample(500, random_state=seed)}, FEATURES))
        assert verdict.outcome is DriftOutcome.STABLE
    block = people.iloc[(people["year"] == 2015).sum() + 135_000 :].head(5000)
    shock = judge_drift(policy(), measure(reference, {"us": block}, FEATURES))
    assert shock.outcome is DriftOutcome.DRIFTED
    assert shock.drifted[0] == "RELP"


def test_a_column_of_ids_is_left_out_with_the_reason_and_never_called_stable():
    named = REFERENCE.assign(person=[f"p{number}" for number in range(len(REFERENCE))])
    measured = measure(named, {"us": rows(1000, 1).assign(person="nobody")}, (*COLUMNS, "person"))
    assert [found.column for found in measured.columns if found.column == "person"] == []
    assert judge_drift(policy(), measured).reasons[-1] == (
        "Not compared: 'person', most of its values in the reference are too rare to be counted apart."
    )
    alone = measure(named, {"us": rows(1000, 1).assign(person="nobody")}, ("person",))
    assert judge_drift(policy(), alone).outcome is DriftOutcome.NOT_ENOUGH_DATA


def test_regions_that_captured_a_column_in_other_types_are_compared_alike():
    reference = pd.DataFrame({"rate": [0.1, 0.2, 0.3] * 1000})
    windows = {"us": reference.astype("float32"), "eu": reference, "asia": pd.DataFrame()}
    (found,) = measure(reference, windows, ("rate",)).columns
    assert found.psi == 0


def test_times_of_other_units_do_not_drift_for_evidently(tmp_path):
    frame = pd.DataFrame({"since": pd.date_range("2026-01-01", periods=300, freq="h")})
    (score,) = compare(frame.astype("datetime64[us]"), frame.astype("datetime64[ns]"), ("since",), Decimal(0), tmp_path / "report.html")
    assert score.score == 0
