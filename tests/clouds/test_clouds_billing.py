"""Measured usage becomes FOCUS bills at declared prices: exact, split without a remainder, and never rewritten once closed."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.local.billing import COLUMNS, SKUS, lines, quantities
from clouds.local.counters import Figures
from clouds.local.samples import Samples, start_of
from clouds.local.usage import ProgramUsage, Reading, Used
from clouds.targets import bills_of
from fleet.declared_region import Region
from fleet.errors import IntegrityError, NotSupported
from fleet.home import Home

SPECIFICATION = Path(__file__).parents[3] / "shared" / "specs" / "focus" / "focus-1.2-columns.json"
PRICES = {"currency": "USD", "cpu_second": "0.0000111", "memory_gib_second": "0.00000123", "request": "0.0000002", "gib_out": "0.09"}
HOUR = "2026-11-22T20Z"
START = int(start_of(HOUR).timestamp() * 1000)
OVER = start_of(HOUR) + timedelta(hours=2)
USED = st.builds(Used, *[st.integers(0, 10**4)] * 2, *[st.integers(0, 10**12)] * 3, st.integers(0, 10**17))


def region(prices: Mapping[str, str] | None = PRICES) -> Region:
    return Region(target="local", provider="aws", place="N. Virginia", jurisdiction="US", prices=prices)  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    found.usage("us-east-1").mkdir(parents=True)
    return found


def meter(home: Home, seconds: int, live: int, canary: int = 0) -> None:
    """Append a reading of one server to the region's samples."""
    figures = {"live": Figures(live, 0, 300 * live, 700 * live), "canary": Figures(canary, canary // 2, 300 * canary, 700 * canary)}
    at = START + 1000 * seconds
    reading = Reading("serve-one", "employment", "sha256:" + "a" * 64, at, at, 7, START, 70_000 * seconds, 3 << 28, 1, figures)
    Samples(home.usage("us-east-1")).append([reading], at)


def bill(home: Home, now: datetime = OVER, prices: Mapping[str, str] | None = PRICES, after: str = "") -> list[tuple[int, Path]]:
    source = bills_of("local")(home, "acme")
    return [(found.version, found.file) for found in source.bills("us-east-1", region(prices), now, after)]


def rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.open(newline="")))


@given(st.dictionaries(st.sampled_from(["live", "canary", "drill", "idle"]), USED, min_size=1))
def test_the_parts_of_every_quantity_and_cost_sum_to_the_whole_to_the_last_digit(traffic: dict[str, Used]) -> None:
    usage = ProgramUsage("serve-one", "employment", "sha256:a", 0, 1, traffic)
    prices = {name: Decimal("0.000012345678") for name in SKUS}
    whole = {
        "cpu": Fraction(sum(used.cpu_us for used in traffic.values()), 10**6),
        "memory": Fraction(sum(used.memory_byte_ms for used in traffic.values()), 1000 << 30),
        "bytes-out": Fraction(sum(used.bytes_out for used in traffic.values()), 1 << 30),
    }
    charged: dict[str, list[Decimal]] = defaultdict(list)
    for line in lines([usage], prices):
        assert Fraction(line.cost) == Fraction(line.quantity) * Fraction(line.price)
        charged[line.sku.name].append(line.quantity)
    for name, amount in whole.items():
        rounded = sum(map(Fraction, quantities(usage, SKUS[name]).values()), Fraction())
        assert rounded == round(amount * 10 ** SKUS[name].decimals) / Fraction(10 ** SKUS[name].decimals)
        assert sum(map(Fraction, charged[name]), Fraction()) == rounded


def test_a_bill_says_what_was_measured_in_the_columns_of_focus(home: Home) -> None:
    meter(home, 0, live=0)
    meter(home, 100, live=30, canary=10)
    meter(home, 200, live=30, canary=10)
    ((version, file),) = bill(home)
    assert version == 1
    found = {(row["SkuId"], json.loads(row["Tags"])["traffic"]): row for row in rows(file)}
    assert {key: row["ConsumedQuantity"] for key, row in found.items()} == {
        ("cpu", "live"): "5.250000",
        ("cpu", "canary"): "1.750000",
        ("cpu", "idle"): "7.000000",
        ("memory", "live"): "56.250000",
        ("memory", "canary"): "18.750000",
        ("memory", "idle"): "75.000000",
        ("prediction", "live"): "30",
        ("prediction", "canary"): "5",
        ("bytes-in", "live"): "0.000008382",
        ("bytes-in", "canary"): "0.000002794",
        ("bytes-out", "live"): "0.000019558",
        ("bytes-out", "canary"): "0.000006519",
    }
    live = found["cpu", "live"]
    assert Decimal(live["BilledCost"]) == Decimal("5.25") * Decimal("0.0000111")
    assert (live["ChargePeriodStart"], live["BillingPeriodEnd"]) == ("2026-11-22T20:00:00Z", "2026-12-01T00:00:00Z")
    assert (live["x_MeasuredFrom"], live["x_MeasuredTo"]) == ("2026-11-22T20:00:00Z", "2026-11-22T20:03:20Z")
    assert json.loads(live["Tags"])["model"] == "employment"
    assert found["bytes-in", "live"]["BilledCost"].rstrip("0") == "0."


def test_the_columns_are_those_of_focus_1_2_and_none_that_is_mandatory_is_missing() -> None:
    if not SPECIFICATION.exists():
        pytest.skip("the FOCUS specification is not here (../shared)")
    columns = json.loads(SPECIFICATION.read_text())["columns"]
    assert {column["id"] for column in columns if column["feature_level"] == "Mandatory"} <= set(COLUMNS)
    assert {name for name in COLUMNS if not name.startswith("x_")} <= {column["id"] for column in columns}


def test_an_open_hour_is_written_anew_and_a_closed_one_never_again(home: Home) -> None:
    within = start_of(HOUR) + timedelta(minutes=30)
    meter(home, 0, live=0)
    meter(home, 100, live=10)
    ((version, file),) = bill(home, within)
    before = file.read_bytes()
    assert (version, bill(home, within), file.read_bytes()) == (0, [(0, file)], before)
    meter(home, 200, live=20)
    bill(home, within)
    assert file.read_bytes() != before

    ((version, closed),) = bill(home)
    stamp = closed.stat().st_mtime_ns
    assert (version, file.exists()) == (1, False)
    dearer = {**PRICES, "cpu_second": "1"}
    assert bill(home, prices=dearer) == [(1, closed)]
    assert closed.stat().st_mtime_ns == stamp
    assert bill(home, after=HOUR) == []


def test_what_is_measured_after_the_close_restates_the_hour_at_its_own_prices(home: Home) -> None:
    meter(home, 0, live=0)
    meter(home, 100, live=10)
    ((_, first),) = bill(home)
    kept = first.read_bytes()
    meter(home, 200, live=20)
    ((version, second),) = bill(home, prices={**PRICES, "cpu_second": "1"})
    assert version == 2
    assert first.read_bytes() == kept
    assert {row["ListUnitPrice"] for row in rows(second) if row["SkuId"] == "cpu"} == {"0.0000111"}
    assert bill(home) == [(2, second)]


def test_a_closed_bill_keeps_what_fleet_yaml_said_and_a_restatement_too(home: Home) -> None:
    meter(home, 0, live=0)
    meter(home, 100, live=10)
    ((_, first),) = bill(home)
    elsewhere = Region(
        target="local",
        provider="gcp",
        place="Iowa",
        jurisdiction="US",
        prices={**PRICES, "currency": "EUR"},  # type: ignore[arg-type]
    )
    source = bills_of("local")(home, "other")
    assert [found.file for found in source.bills("us-east-1", elsewhere, OVER)] == [first]
    meter(home, 200, live=20)
    (second,) = source.bills("us-east-1", elsewhere, OVER)
    said = [(row["BillingAccountId"], row["BillingAccountName"], row["BillingCurrency"], row["RegionName"]) for row in rows(second.file)]
    assert (second.version, set(said)) == (2, {("acme", "acme", "USD", "aws N. Virginia")})


def test_a_closed_bill_in_which_one_row_was_edited_is_refused(home: Home) -> None:
    meter(home, 0, live=0)
    meter(home, 100, live=10)
    ((_, file),) = bill(home)
    file.write_text(file.read_text().replace("0.000077", "0.000078"))
    with pytest.raises(IntegrityError, match="changed after it was closed"):
        bill(home)


def test_a_region_without_prices_writes_no_bill_and_says_so(home: Home) -> None:
    with pytest.raises(NotSupported, match="declares no prices"):
        bill(home, prices=None)
    assert not home.bills("us-east-1").exists()


def test_a_target_that_is_not_there_yet_has_no_bills() -> None:
    with pytest.raises(NotSupported, match="not there yet"):
        bills_of("aws")
