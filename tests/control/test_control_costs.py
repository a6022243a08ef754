"""Requests through the edge stand in the bill with the right counts, and the bill's parts sum to it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import httpx
import pytest

from clouds.local.samples import Samples
from fleet.headers import DRILL_HEADER
from support.stack import REGIONS, request
from support.waiting import wait_until
from traffic.drill_key import drill_key

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
# Served by earlier tests already: how it is served is of no concern here.
MODEL = "unlucky"
SENT = {"live": 30, "drill": 12}


@pytest.fixture(scope="module")
def served(stack: TestStack) -> TestStack:
    if not any(view.phase == "promoted" for view in stack.releases(MODEL)):
        done = stack.convoy("release", MODEL, "--version", stack.register(MODEL), "--wait")
        assert done.returncode == 0, done.stderr
    return stack


def sampled(stack: TestStack) -> Counter[str]:
    """Return the predictions that the meter has seen so far, by traffic."""
    seen: Counter[str] = Counter()
    for samples in (Samples(stack.house.home.usage(region)) for region in REGIONS):
        for usage in (usage for hour in samples.hours() for usage in samples.used(hour) if usage.model == MODEL):
            seen.update({traffic: used.requests - used.failed for traffic, used in usage.traffic.items()})
    return seen


def billed(stack: TestStack) -> Counter[str]:
    """Return the predictions that stand in the regions' bills, by traffic."""
    found: Counter[str] = Counter()
    for file in (file for region in REGIONS for file in stack.house.home.bills(region).glob("*.csv")):
        for row in csv.DictReader(file.open(newline="")):
            tags = json.loads(row["Tags"])
            if (tags["model"], row["SkuId"]) == (MODEL, "prediction"):
                found[tags["traffic"]] += int(row["ConsumedQuantity"])
    return found


def send(stack: TestStack, count: int, **headers: str) -> None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(count):
            answer = client.post(f"{stack.house.stack.edge_url}/v2/models/{MODEL}/infer", json=request(float(number)), headers=given)
            assert answer.status_code == 200


@pytest.mark.long
def test_what_callers_sent_through_the_edge_stands_in_the_bill_and_its_parts_sum(served: TestStack) -> None:
    before = sampled(served)
    send(served, SENT["live"], x_convoy_traffic="drill")
    send(served, SENT["drill"], **{DRILL_HEADER: drill_key(served.house.credentials.edge_token)})
    wait_until(lambda: sampled(served) - before == SENT, 60, what="the meter has seen all of them")

    done = served.flow("reconcile_costs()")
    assert done.returncode == 0, done.stderr
    assert "USD from " in done.stdout
    assert billed(served) == +sampled(served)
    assert billed(served) - before == SENT

    event = served.house.ledger.last("costs", "costs.reconciled")
    assert event is not None
    found = json.loads(event.to_bytes())["payload"]
    parts, (total,) = found["parts"], found["totals"]
    assert sum(Decimal(part["billed"]) for part in parts) == Decimal(total["billed"]) > 0
    assert sum(part["rows"] for part in parts) == total["rows"]
    assert {part["region"] for part in parts if part["model"] == MODEL} == set(REGIONS)

    artifacts = httpx.post(
        f"{served.house.stack.prefect_url}/api/artifacts/latest/filter", json={"artifacts": {"key": {"any_": ["costs"]}}}
    )
    (shown,) = artifacts.json()
    assert {"all", MODEL} <= {row["model"] for row in json.loads(shown["data"])}
    report = httpx.get(shown["description"].rpartition(" ")[2], trust_env=False)
    assert report.json()["event"] == event.seq
