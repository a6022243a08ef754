"""From samples to bills to the ledger: reconciled once, compared with what came before, and refused when tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clouds.local.counters import Figures
from clouds.local.samples import Samples, start_of
from clouds.local.usage import Reading
from control.cli import app
from fleet.errors import FleetFileError, InputError, IntegrityError
from fleet.home import Home
from fleet.reading import read_fleet
from fleet.settings import Settings
from flows.costing import KEPT_REPORTS, RECONCILED, STREAM, Settled, gather, settle, write_report
from flows.house import House
from support.stack import REGIONS, toy_fleet, write_fleet

NOON = start_of("2024-11-22T12Z")
HOURLY = Decimal("0.02")
"""What one region's CPU costs below: 1,000 seconds an hour."""


def house_of(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> House:
    home, fleet = Home(folder / "home"), toy_fleet(("employment",))
    for region in fleet["regions"].values():
        region["prices"] = {"currency": "USD", "cpu_second": "0.00002", "memory_gib_second": "0", "request": "0"}
    change(fleet)
    write_fleet(home, fleet)
    house = House(Settings(home=home.root), home)
    house.ledger.migrate()
    for region in REGIONS:
        home.usage(region).mkdir(parents=True)
    return house


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_of(tmp_path)


def meter(house: House, hours: float, cpu_seconds: float, requests: int = 300) -> None:
    """Append a reading of each region's server, so many hours after noon; a third of the requests are a canary's."""
    at = int((NOON + timedelta(hours=hours)).timestamp() * 1000)
    figures = {"live": Figures(2 * requests // 3), "canary": Figures(requests // 3), "drill": Figures(), "unlabelled": Figures()}
    for region in REGIONS:
        reading = Reading(f"serve-{region}", "employment", "sha256:a", at, at, 7, 0, int(1e6 * cpu_seconds), 0, 1, figures)
        Samples(house.home.usage(region)).append([reading], at)


def meter_hours(house: House, costs: list[float]) -> None:
    """Meter so many hours, each with so much CPU time of every region (1 is a thousand seconds)."""
    meter(house, 0, 0, 0)
    for number in range(len(costs)):
        meter(house, number + 0.999, 1000 * sum(costs[: number + 1]), 300 * (number + 1))


def reconciled(house: House, hours: float) -> list[Settled]:
    """Reconcile as of so many hours after noon."""
    return [settle(house, bills, "test") for bills in gather(house, NOON + timedelta(hours=hours)).groups]


def events(house: House) -> list[dict[str, Any]]:
    return [dict(event.payload) for event in house.ledger.stream(STREAM) if event.type == RECONCILED]


def test_samples_become_bills_become_an_event_whose_parts_sum_to_the_bills(house: House) -> None:
    meter_hours(house, [1])
    (found,) = reconciled(house, 2)
    (payload,) = events(house)
    assert payload["final"] is True
    assert {(part["region"], part["traffic"]): part["billed"] for part in payload["parts"]} == {
        (region, traffic): amount for region in REGIONS for traffic, amount in (("live", "0.01333333334"), ("canary", "0.00666666666"))
    }
    assert sum(Decimal(part["billed"]) for part in payload["parts"]) == Decimal(payload["totals"][0]["billed"]) == 3 * HOURLY
    assert {place["region"]: (place["predictions"], place["per_thousand"]) for place in payload["places"]} == {
        **dict.fromkeys(REGIONS, ("300", "0.066666667")),
        "all": ("900", "0.066666667"),
    }
    assert {place["outcome"] for place in payload["places"]} == {"no forecast"}
    assert payload["outcome"] == "no forecast"
    assert [bill["hour"] for bill in payload["bills"]] == ["2024-11-22T12Z"] * 3
    assert house.ledger.verify() == 1
    report = json.loads(write_report(house, found).read_text())
    assert (report["event"], report["parts"]) == (1, payload["parts"])


def test_the_oldest_reports_go(house: House) -> None:
    meter_hours(house, [1])
    (found,) = reconciled(house, 2)
    file = write_report(house, found)
    for number in range(KEPT_REPORTS):
        file.with_name(f"2020-{number:03}.json").touch()
    assert write_report(house, found) == file
    assert sorted(file.parent.iterdir())[0].name == "2020-001.json"
    assert len(list(file.parent.iterdir())) == KEPT_REPORTS


def test_the_same_bills_are_not_recorded_twice_and_an_open_hour_is_recorded_as_it_goes(house: House) -> None:
    meter(house, 0, 0, 0)
    meter(house, 0.25, 100)
    first = reconciled(house, 0.25)
    again = reconciled(house, 0.3)
    assert ([found.new for found in first], [found.new for found in again]) == ([True], [False])
    assert not first[0].final
    meter(house, 0.5, 200)
    assert [found.new for found in reconciled(house, 0.5)] == [True]
    assert [found.final for found in reconciled(house, 1.1)] == [True]
    assert reconciled(house, 1.2) == []
    assert [payload["final"] for payload in events(house)] == [False, False, True]


def test_what_an_hour_cost_before_is_what_it_is_expected_to_cost(house: House) -> None:
    for number, cost in enumerate((1.0, 1.0, 1.07, 1.2, 0.5)):
        meter(house, number, 1000 * sum((1.0, 1.0, 1.07, 1.2, 0.5)[:number]), 300 * number)
        meter(house, number + 0.999, 1000 * (sum((1.0, 1.0, 1.07, 1.2, 0.5)[:number]) + cost), 300 * (number + 1))
        reconciled(house, number + 1.1)
    outcomes = [{place["outcome"] for place in payload["places"]} for payload in events(house)]
    assert outcomes == [{"no forecast"}, {"within"}, {"within"}, {"above"}, {"below"}]
    last = events(house)[-1]
    assert last["outcome"] == "deviations"
    assert len(last["reasons"]) == 4
    assert Decimal(last["places"][0]["difference"]) < Decimal("-0.01")


def test_a_declared_forecast_and_threshold_come_first(tmp_path: Path) -> None:
    def declare(fleet: dict[str, Any]) -> None:
        fleet["costs"] = {"deviation": "0.5"}
        fleet["models"]["employment"]["forecast"] = {region: {"per_day": "0.48"} for region in REGIONS[:2]}

    house = house_of(tmp_path, declare)
    meter_hours(house, [1.4])
    reconciled(house, 2)
    places = {place["region"]: place for place in events(house)[0]["places"]}
    assert [places[region]["outcome"] for region in REGIONS] == ["within", "within", "no forecast"]
    assert places["all"]["outcome"] == "no forecast"
    assert places[REGIONS[0]]["forecast"] == "0.019983333333"


def test_a_bill_that_was_changed_after_it_was_closed_records_nothing(house: House) -> None:
    meter_hours(house, [1])
    gather(house, NOON + timedelta(hours=2))
    (file,) = house.home.bills(REGIONS[0]).iterdir()
    file.write_text(file.read_text().replace("0.01333333334", "0.01333333335"))
    with pytest.raises(IntegrityError, match="changed after it was closed"):
        reconciled(house, 2)
    assert events(house) == []


def test_a_region_without_prices_has_no_bill_and_is_told_of(tmp_path: Path) -> None:
    house = house_of(tmp_path, lambda fleet: fleet["regions"][REGIONS[0]].pop("prices"))
    meter_hours(house, [1])
    gathered = gather(house, NOON + timedelta(hours=2))
    assert [bill.region for bill in gathered.groups[0]] == [*REGIONS[1:]]
    assert [REGIONS[0] in reason and "declares no prices" in reason for reason in gathered.without] == [True]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("cpu_second: '0.1'", "cpu_second: 0.1"), "regions.us.prices.cpu_second (line 9): 0.1 is a binary number"),
        (("per_day: '5'", "per_day: 5.5"), "write it in quotes, as '5.5'"),
        (("currency: USD", "currency: dollars"), "regions.us.prices.currency"),
        (("cpu_second: '0.1'", "cpu_second: '-1'"), "greater than or equal to 0"),
        (("cpu_second: '0.1'", "cpu_second: '0.1234567890123'"), "decimal places"),
        (("forecast: {us:", "forecast: {eu:"), "forecast names eu, which this model does not use"),
        (("deviation: '0.1'", "deviation: 0.1"), "costs.deviation (line 2)"),
    ],
)
def test_a_price_that_is_not_exact_is_refused_with_its_place_and_remedy(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    text = """\
version: 1
costs: {deviation: '0.1'}
name: demo
regions:
  us:
    target: local
    provider: aws
    place: us
    prices: {currency: USD, cpu_second: '0.1', memory_gib_second: '1', request: 0}
    jurisdiction: US
models:
  m:
    owner: a
    on_call: a
    runbook: a
    regions: [us]
    slo: {us: {latency_ms: 1, error_rate: 0.1}}
    rto_seconds: 1
    rpo_releases: 0
    rollback: {margin: 0.1}
    forecast: {us: {per_day: '5'}}
"""
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    assert read_fleet(file).regions["us"].prices is not None
    file.write_text(text.replace(*change))
    with pytest.raises(FleetFileError) as problem:
        read_fleet(file)
    assert says in str(problem.value)


def test_the_command_reads_any_bill_without_a_stack_and_names_what_is_wrong_with_it(tmp_path: Path) -> None:
    names = "BilledCost,EffectiveCost,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd"
    bill = tmp_path / "bill.csv"
    bill.write_text(f"{names}\n0.1,0.1,USD,2026-11-01,2026-11-01,2026-11-02\n")
    done = CliRunner().invoke(app, ["costs", "reconcile", "--bill", str(bill), "--json"])
    assert json.loads(done.stdout)["totals"][0]["billed"] == "0.1"
    bill.write_text(f"{names}\nten,0.1,USD,2026-11-01,2026-11-01,2026-11-02\n")
    failed = CliRunner().invoke(app, ["costs", "reconcile", "--bill", str(bill)])
    assert isinstance(failed.exception, InputError)
    assert failed.exception.exit_code == 2
    assert "line 2: BilledCost is no decimal number: ten" in str(failed.exception)


def test_the_command_reconciles_the_regions_bills_as_the_flow_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    meter_hours(house, [1])
    monkeypatch.setenv("CONVOY_HOME", str(house.home.root))
    done = [CliRunner().invoke(app, ["costs", "reconcile", *form]) for form in (["--json"], [])]
    assert [result.exit_code for result in done] == [0, 0], done
    (found,) = json.loads(done[0].stdout)["reconciled"]
    assert (found["outcome"], found["new"], Path(found["report"]).exists()) == ("no forecast", True, True)
    assert "Nothing to reconcile" in done[1].stdout
    assert [payload["final"] for payload in events(house)] == [True]
