"""What fleet.yaml says of traffic becomes the rules of the routing table."""

from __future__ import annotations

from typing import Any

from fleet.declared import Fleet
from flows.rules import rules_of
from support.stack import toy_fleet
from traffic.rules import Limits, Residency, Rules, Sticky


def fleet(**traffic: Any) -> Fleet:
    """Return a fleet whose model `m` declares something about its traffic; its regions lie in US, NL and SG."""
    found = toy_fleet(("m",))
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
