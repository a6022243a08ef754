"""What fleet.yaml says of traffic becomes the rules of the routing table."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.declared import Fleet
from flows.rules import rules_of
from support.stack import toy_fleet
from traffic.rules import Choice, Limits, Price, Residency, Rules, Sticky


def fleet(prices: dict[str, dict[str, str]] | None = None, **traffic: Any) -> Fleet:
    """Return a fleet whose model `m` declares something about its traffic; its regions lie in US, NL and SG."""
    found = toy_fleet(("m",))
    for region, changed in (prices or {}).items():
        found["regions"][region]["prices"] = {**found["regions"][region]["prices"], **changed} if changed else None
    return Fleet.model_validate({**found, "models": {"m": {**found["models"]["m"], "traffic": traffic}}})


def test_what_is_not_declared_makes_no_rule() -> None:
    assert rules_of(fleet(), "m") == Rules()


def test_a_residency_names_the_models_regions_in_the_jurisdictions_of_each_mark() -> None:
    marks = {"eu": ["NL"], "overseas": ["US", "SG"]}
    found = rules_of(fleet(residency={"marks": marks, "unmarked": "eu"}), "m")
    assert found.residency == (Residency("eu", ("europe-west4",)), Residency("overseas", ("us-east-1", "southeastasia")))
    assert found.unmarked == "eu"


def test_pins_stickiness_and_limits_are_passed_on_and_as_many_may_wait_as_are_answered() -> None:
    declared = fleet(pin_header="x-pin", sticky={"cookie": "session"}, limits={"requests": 8})
    assert rules_of(declared, "m") == Rules("x-pin", Sticky("cookie", "session"), limits=Limits(8, 8))
    assert rules_of(fleet(sticky={"header": "x-user"}, limits={"requests": 8, "pending": 3}), "m") == Rules(
        sticky=Sticky("header", "x-user"), limits=Limits(8, 3)
    )


def test_a_choice_is_passed_on_without_prices_unless_they_weigh() -> None:
    assert rules_of(fleet(choice={}), "m").choice == Choice(2, 1, 0, 0.05, 3, 10, 2)


def test_prices_become_parts_of_the_dearest_without_ever_being_binary_numbers() -> None:
    # A request takes half a second: 0.0000004 + 0.5 * (0.00002 + 0.000002) = 0.0000114
    dear = {"southeastasia": {"request": "0.0000118"}, "us-east-1": {"cpu_second": "0", "memory_gib_second": "0", "request": "0"}}
    found = rules_of(fleet(dear, choice={"price": 1}), "m").choice
    assert found is not None
    assert found.prices == (Price("us-east-1", 0), Price("europe-west4", 500), Price("southeastasia", 1000))


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ({"us-east-1": {}}, "traffic.choice.price compares the prices of the model's regions, and us-east-1 declares no prices"),
        ({"us-east-1": {"currency": "EUR"}}, "and they are in EUR and USD"),
    ],
)
def test_prices_that_cannot_be_compared_are_not_weighed(prices: dict[str, dict[str, str]], says: str) -> None:
    assert fleet(prices, choice={})
    with pytest.raises(ValueError, match=says):
        fleet(prices, choice={"price": 1})
