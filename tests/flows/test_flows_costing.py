"""From samples to bills to the ledger: reconciled once, compared with what came before, and refused when tampered with."""

from __future__ import annotations

import json
import os
import stat
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
from fleet.canonical import digest_of, short
from fleet.errors import FleetFileError, InputError, IntegrityError
from fleet.home import Home
from fleet.reading import read_fleet
from fleet.settings import Settings
from flows.costed import RECONCILED, STREAM, periods
from flows.costing import KEPT_REPORTS, Done, Settled, gather, settle, settle_apart, write_report
from flows.house import House
from support.stack import REGIONS, toy_fleet, write_fleet

NOON = start_of("2024-11-22T12Z")
CHANGED = "it was changed after it was closed. Restore it from a backup."
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
    gathered = gather(house, NOON + timedelta(hours=2))
    assert [str(problem) for problem in gathered.problems] == [f"{file}: holds {short(digest_of(file.read_bytes()))}: {CHANGED}"]
    assert {bill.region for bills in gathered.groups for bill in bills} == {*REGIONS[1:]}


def test_a_closed_hour_is_recorded_once_though_two_reconcile_it_and_an_open_hour_came_between(house: House) -> None:
    meter_hours(house, [1])
    (early,) = gather(house, NOON + timedelta(minutes=59.9)).groups
    (mine,) = gather(house, NOON + timedelta(hours=1.1)).groups
    (theirs,) = gather(house, NOON + timedelta(hours=1.1)).groups
    assert settle(house, mine, "test").new
    meter(house, 1.2, 1100)
    assert [found.final for found in reconciled(house, 1.2)] == [False]
    assert [settle(house, bills, "test").new for bills in (theirs, theirs[:1])] == [False] * 2
    assert settle_apart(house, early, "test") == Done((), ())
    assert [payload["final"] for payload in events(house)] == [True, False]


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda file: file.write_text(file.read_text().replace("0.01333333334", "0.01333333335")), "changed after it was closed"),
        (lambda file: file.write_bytes(file.read_bytes()[:-200]), "changed after it was closed"),
        (lambda file: file.unlink(), "is gone, and it was reconciled"),
    ],
)
def test_a_bill_that_was_reconciled_is_held_to_its_digest_and_holds_up_its_region_alone(
    house: House, tamper: Callable[[Path], object], says: str
) -> None:
    meter_hours(house, [1, 1])
    reconciled(house, 1.5)
    file = next(file for file in house.home.bills(REGIONS[0]).glob("2024-11-22T12Z.v1.*.csv"))
    kept = file.read_bytes()
    tamper(file)
    gathered = gather(house, NOON + timedelta(hours=2.1))
    assert [(str(file) in str(problem), says in str(problem)) for problem in gathered.problems] == [(True, True)]
    assert [settle(house, bills, "test").new for bills in gathered.groups] == [True]
    assert {place["region"] for place in events(house)[-1]["places"]} == {*REGIONS[1:], "all"}
    file.write_bytes(kept)
    assert [[bill.region for bill in found.bills] for found in reconciled(house, 2.2)] == [[REGIONS[0]]]
    file.unlink()
    assert gather(house, NOON + timedelta(days=8)).problems == ()


def test_more_that_was_measured_restates_the_hour_and_forecasts_go_by_the_newest_version(house: House) -> None:
    meter_hours(house, [1])
    reconciled(house, 1.1)
    meter(house, 0.9995, 2000, 300)
    found = reconciled(house, 1.2)
    assert [(one.new, {bill.version for bill in one.bills}) for one in found] == [(True, {2})] * 3
    assert [payload.get("restates") for payload in events(house)] == [None, 1, 1, 1]
    assert reconciled(house, 1.3) == []
    recorded = list(house.ledger.stream(STREAM))
    for region in REGIONS:
        (period,) = periods(recorded, region)
        assert period.costs == {("USD", "employment", region): 2 * HOURLY}
    file = next(house.home.bills(REGIONS[0]).glob("*.v1.*.csv"))
    file.unlink()
    assert [str(file) in str(problem) for problem in gather(house, NOON + timedelta(hours=2)).problems] == [True]


def test_an_hour_without_a_charge_is_recorded_as_zero_and_only_once_it_is_over(house: House) -> None:
    meter(house, 0, 0, 0)
    assert reconciled(house, 0.5) == []
    assert [(found.new, found.final) for found in reconciled(house, 1.1)] == [(True, True)]
    (payload,) = events(house)
    assert (payload["parts"], payload["totals"], payload["outcome"]) == ([], [], "no forecast")
    assert (payload["begins"], payload["ends"]) == ("2024-11-22T12:00:00+00:00", "2024-11-22T13:00:00+00:00")
    assert reconciled(house, 1.2) == []


def test_a_bill_that_cannot_be_read_holds_up_its_region_alone(house: House) -> None:
    meter_hours(house, [1])
    (bills,) = gather(house, NOON + timedelta(hours=2)).groups
    bills[0].file.write_text(bills[0].file.read_text().replace("0.01333333334", "dear"))
    done = settle_apart(house, bills, "test")
    assert [[bill.region for bill in settled.bills] for settled in done.settled] == [[region] for region in REGIONS[1:]]
    assert ["BilledCost is no decimal number: dear" in str(problem) for problem in done.problems] == [True]


@pytest.mark.parametrize("declared", ["0.00000000000{}", "9999999{}"])
def test_whatever_price_is_accepted_gives_a_bill_that_can_be_read(tmp_path: Path, declared: str) -> None:
    def dear(fleet: dict[str, Any]) -> None:
        for region in fleet["regions"].values():
            region["prices"] |= {name: declared.format("7") for name in ("cpu_second", "memory_gib_second", "request")}
            region["prices"] |= {name: declared.replace("000{}", "{}").format("7") for name in ("gib_in", "gib_out")}

    house = house_of(tmp_path, dear)
    at = int(NOON.timestamp() * 1000)
    figures = {"live": Figures(10**6, 0, (1 << 50) + 1, (1 << 50) + 1)}
    for moment in (at, at + 3_599_000):
        reading = Reading("serve", "employment", "sha256:a", moment, moment - at, 7, 0, moment - at + 1, 1 << 40 | 1, 1, figures)
        Samples(house.home.usage(REGIONS[0])).append([reading], moment)
    (found,) = reconciled(house, 2)
    assert found.reconciliation.totals[0].billed > 0


def test_reports_of_costs_are_for_their_owner_alone(house: House) -> None:
    meter_hours(house, [1])
    (found,) = reconciled(house, 2)
    before = os.umask(0o022)
    try:
        file = write_report(house, found)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, house.home.reports)] == [0o600, 0o700, 0o700]


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
        (("request: 0", "request: 0, gib_out: '0.0000000001'"), "regions.us.prices.gib_out"),
        (("cpu_second: '0.1'", "cpu_second: '100000000'"), "regions.us.prices.cpu_second"),
        (("request: 0", "request: 0, gib_in: '100000000'"), "regions.us.prices.gib_in"),
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


def test_the_command_records_the_other_regions_before_it_fails_on_a_bill_that_was_changed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter_hours(house, [1])
    gather(house, NOON + timedelta(hours=2))
    (file,) = house.home.bills(REGIONS[0]).iterdir()
    file.write_text(file.read_text().replace("0.01333333334", "0.01333333335"))
    monkeypatch.setenv("CONVOY_HOME", str(house.home.root))
    failed = CliRunner().invoke(app, ["costs", "reconcile"])
    assert isinstance(failed.exception, IntegrityError)
    assert str(file) in str(failed.exception)
    assert [{bill["region"] for bill in payload["bills"]} for payload in events(house)] == [{*REGIONS[1:]}]
    assert "ledger event 1" in failed.stdout
