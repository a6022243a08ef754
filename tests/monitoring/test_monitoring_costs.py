"""Bills are read exactly, split without a remainder, checked against published totals, and compared with their forecast."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InputError, IntegrityError
from monitoring.costs.deviations import ALL, WINDOW, Outcome, Period, Rate, compare, plain, rates
from monitoring.costs.focus import ControlTotal
from monitoring.costs.reconciling import PublishedTotals, Reconciliation, check_published, read_published, reconcile
from monitoring.costs.splitting import UNATTRIBUTED, Part, check_sums, per_thousand

SHARED = Path(__file__).parents[3] / "shared" / "data" / "focus"
EIGHT = Decimal("0.08")
DAY = timedelta(days=1)
HEADER = (
    "Id,BilledCost,EffectiveCost,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,"
    "RegionId,SkuId,ConsumedQuantity,Tags,x_Note\n"
)
ROW = '{id},{cost},{cost},USD,2026-11-01T00:00:00Z,2026-11-22T20:00:00Z,2026-11-22T21:00:00Z,{region},{sku},{quantity},{tags},"a, note"\n'
Place = tuple[str, str, str]


def row(**changes: str) -> str:
    given_ = {"id": "1", "cost": "0.1", "region": "us", "sku": "cpu", "quantity": "1", "tags": tags("employment", "live"), **changes}
    return ROW.format(**given_)


def tags(model: str, traffic: str) -> str:
    return '"' + json.dumps({"model": model, "traffic": traffic}).replace('"', '""') + '"'


def bill(folder: Path, *rows: str, header: str = HEADER) -> Path:
    file = folder / "bill.csv"
    file.write_text(header + "".join(rows))
    return file


def reconciled(file: Path, expected: dict[Place, Rate] | None = None) -> Reconciliation:
    return reconcile([file], expected or {}, EIGHT)


@pytest.fixture
def sample() -> Path:
    file = SHARED / "focus10" / "focus_sample.csv"
    if not file.exists():
        pytest.skip("the FOCUS sample of ../shared is not here")
    return file


def test_the_real_sample_has_exactly_the_published_totals_and_row_digests(sample: Path) -> None:
    found = reconciled(sample)
    check_published(found.totals, read_published(sample.with_name("control_totals.json")))
    assert [(total.period, total.rows, plain(total.billed)) for total in found.totals] == [
        ("2024-09-01", 999, "20.28022672899"),
        ("2024-10-01", 1, "0.24"),
    ]
    assert sum(part.billed for part in found.parts) == Decimal("20.52022672899")
    assert {(part.model, part.traffic) for part in found.parts} == {(UNATTRIBUTED, UNATTRIBUTED)}
    assert len(found.parts) > 10
    assert found.comparisons[-1].outcome is Outcome.NO_FORECAST


def test_one_edited_row_of_the_real_sample_is_caught_though_the_totals_stay(sample: Path, tmp_path: Path) -> None:
    text = sample.read_text()
    shifted = text.replace("0.00000080000,", "0.00000080001,", 1).replace("0.00001605990,", "0.00001605989,", 1)
    edited = tmp_path / "edited.csv"
    edited.write_text(shifted)
    before, after = reconciled(sample).totals[0], reconciled(edited).totals[0]
    assert before.billed == after.billed
    assert before.row_digest != after.row_digest
    with pytest.raises(IntegrityError, match="row digest"):
        check_published(reconciled(edited).totals, read_published(sample.with_name("control_totals.json")))


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "binary"])
def test_every_form_of_the_same_bill_gives_the_same_parts(form: str, tmp_path: Path) -> None:
    file = bill(tmp_path, row(), row(id="2", cost="0.2", region="NULL", tags="NULL"), row(id="3", cost="1.6E-05", sku="prediction"))
    other = tmp_path / f"other.{form.replace('binary', 'parquet')}"
    if form == "csv.gz":
        other.write_bytes(gzip.compress(file.read_bytes()))
    else:
        money = "DOUBLE" if form == "binary" else "DECIMAL(38, 18)"
        types = f"{{'BilledCost': '{money}', 'EffectiveCost': '{money}'}}"
        duckdb.sql(f"COPY (SELECT * FROM read_csv('{file}', nullstr='NULL', types={types})) TO '{other}' (FORMAT parquet)")
    found = reconciled(other)
    assert found.parts == reconciled(file).parts
    assert [(part.model, part.region, part.traffic, plain(part.billed), plain(part.predictions)) for part in found.parts] == [
        ("employment", "us", "live", "0.100016", "1"),
        (UNATTRIBUTED, UNATTRIBUTED, UNATTRIBUTED, "0.2", "0"),
    ]


@pytest.mark.parametrize("name", sorted(file.name for file in SHARED.glob("spec_examples/saas_*.csv")) or ["absent"])
def test_the_worked_examples_of_the_specification_are_read(name: str) -> None:
    if name == "absent":
        pytest.skip("the examples of ../shared are not here")
    assert reconciled(SHARED / "spec_examples" / name).parts


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(), row(cost="abc")], "line 3: BilledCost is no decimal number: abc"),
        ([row(cost="NULL")], "line 2: BilledCost is empty"),
        ([row(), row(), row(cost="0.1234567890123456789")], "line 4: BilledCost has more than 18 decimals"),
        ([row(cost="1e-19")], "line 2: BilledCost has more than 18 decimals"),
        ([row(quantity="many")], "line 2: ConsumedQuantity is no decimal number"),
        ([row(cost="NaN")], "line 2: BilledCost is no decimal number"),
        ([row().replace("USD", "NULL")], "line 2: BillingCurrency is empty"),
        ([row().replace("2026-11-22T20:00:00Z", "yesterday")], "line 2: ChargePeriodStart is no time: yesterday"),
        ([row().replace(',"a, note"', ',"a, note",surplus')], "Expected Number of Columns: 12 Found: 13"),
        ([], "no charge stands in it"),
    ],
)
def test_a_row_that_cannot_be_read_exactly_is_named_with_its_line_and_column(rows: list[str], says: str, tmp_path: Path) -> None:
    file = bill(tmp_path, *rows)
    with pytest.raises(InputError) as problem:
        reconciled(file)
    assert says in str(problem.value)
    assert str(file) in str(problem.value)


def test_a_missing_column_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the column BilledCost is missing"):
        reconciled(bill(tmp_path, row(), header=HEADER.replace("BilledCost", "Cost")))
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read"):
        reconciled(tmp_path / "nowhere.csv")


MONEY = st.decimals(-(10**9), 10**9, places=12, allow_nan=False)
PARTS = st.lists(st.tuples(st.sampled_from(["EUR", "USD"]), st.sampled_from("ab"), st.sampled_from("xy"), MONEY), min_size=1)


@given(PARTS)
def test_parts_that_sum_to_the_bill_pass_and_one_digit_more_does_not(charged: list[tuple[str, str, str, Decimal]]) -> None:
    parts = [Part(currency, model, region, "live", 1, billed, Decimal(0)) for currency, model, region, billed in charged]
    totals = [ControlTotal("2026-11-01", currency, 1, billed, billed, "") for currency, _, _, billed in reversed(charged)]
    check_sums(parts, totals)
    wrong = ControlTotal("2026-11-01", totals[0].currency, 0, Decimal("1e-18"), Decimal(0), "")
    with pytest.raises(IntegrityError, match="its parts come to"):
        check_sums(parts, [*totals, wrong])
    with pytest.raises(IntegrityError, match="rows"):
        check_sums(parts[1:], totals)


def test_published_totals_must_match_in_every_figure_and_period(tmp_path: Path) -> None:
    found = reconciled(bill(tmp_path, row()))
    good = {"billing_period": "2026-11-01", "currency": "USD", "rows": 1, "billed_cost": "0.1", "effective_cost": "0.10"}
    check_published(found.totals, PublishedTotals.model_validate({"by_period": [good]}))
    for changed, says in (({"rows": 2}, "its rows is 1"), ({"billed_cost": "0.11"}, "billed cost"), ({"currency": "EUR"}, "only in")):
        with pytest.raises(IntegrityError, match=says):
            check_published(found.totals, PublishedTotals.model_validate({"by_period": [good | changed]}))


@pytest.mark.parametrize(
    ("cost", "outcome", "share"),
    [("1.08", "within", "0.08"), ("1.080000000000000001", "above", "0.08"), ("0.92", "within", "-0.08"), ("0.9199", "below", "-0.0801"),
     ("0", "below", "-1")],
)  # fmt: skip
def test_a_cost_deviates_beyond_the_threshold_in_either_direction(cost: str, outcome: str, share: str) -> None:
    place = ("USD", "employment", "us")
    found, total = compare({place: Decimal(cost)}, {place: Rate(Decimal(2), "fleet.yaml")}, DAY / 2, EIGHT)
    assert (found.outcome.value, found.share) == (outcome, Decimal(share))
    assert found.difference == Decimal(cost) - 1
    assert (total.place, total.outcome) == (("USD", ALL, ALL), found.outcome)


def test_no_forecast_is_an_outcome_of_its_own_and_makes_the_total_have_none() -> None:
    known, unknown = ("USD", "employment", "us"), ("USD", UNATTRIBUTED, "us")
    found = compare({known: Decimal(1), unknown: Decimal("0.01")}, {known: Rate(Decimal(1), "fleet.yaml")}, DAY, EIGHT)
    assert [comparison.outcome for comparison in found] == [Outcome.WITHIN, Outcome.NO_FORECAST, Outcome.NO_FORECAST]
    assert not any(comparison.deviates for comparison in found)


def test_a_cost_where_nothing_was_expected_deviates() -> None:
    place = ("USD", "employment", "us")
    found = compare({place: Decimal("0.5")}, {place: Rate(Decimal(0), "fleet.yaml")}, DAY, EIGHT)[0]
    assert (found.outcome, found.share) == (Outcome.ABOVE, None)
    assert "nothing was expected" in found.reason


def test_what_is_not_declared_is_expected_to_cost_what_it_did_before() -> None:
    us, eu = ("USD", "employment", "us"), ("USD", "employment", "eu")
    earlier = [Period(DAY, {us: Decimal(100)})] + [Period(DAY, {us: Decimal(n), eu: Decimal(1)}) for n in range(WINDOW)]
    found = rates({eu: Decimal("5")}, earlier)
    assert found[us] == Rate(Decimal(3), f"the mean of the last {WINDOW} periods")
    assert found[eu] == Rate(Decimal(5), "fleet.yaml")
    assert rates({}, []) == {}


def test_the_cost_of_a_thousand_predictions() -> None:
    assert per_thousand(Decimal("0.5"), Decimal(2000)) == Decimal("0.25")
    assert per_thousand(Decimal("0.5"), Decimal(0)) is None
