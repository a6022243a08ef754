"""Several people must say yes: different ones, not the builder, to this revision, in time, and any of them may take it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from control.stack.records import record_operators
from fleet.builders import Built, builder_of, claim
from fleet.commands import Command
from fleet.declared import Approval
from fleet.errors import Refused
from fleet.operators import Operators
from fleet.phases import ReleasePhase
from flows import effects
from flows.approvals import counting, refused
from flows.desires import Desire, observe_candidate, release_stream
from flows.house import House
from flows.journal import Journal
from flows.operating import Commanded, Wish, operate
from flows.orders import COMMANDED, Order, Orders, fold, payload_of
from flows.parking import parked
from flows.work import AbortedError, Work
from flows.work import claim as hold
from registry.ledger import NewEvent
from support.stack import house_without_servers, toy_fleet, write_fleet

P, C = ReleasePhase, Command
DIGEST = "sha256:" + "2" * 64
TWO = Approval(required=True, people=2, valid_seconds=60)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOKENS = {name: f"token-of-{name}" for name in ("operator", "anna", "ben", "carl")}


def approval(operator: str, at: datetime = NOON, digest: str = DIGEST) -> Order:
    return Order(f"id-{operator}", C.APPROVE, operator, "looked at it", "a test", at, digest=digest)


def test_several_people_are_asked_or_none_and_what_was_read_can_be_read_again() -> None:
    assert Approval.model_validate(Approval().model_dump()) == Approval()
    with pytest.raises(ValueError, match=r"approval.people is 2, and approval.required is false"):
        Approval(people=2)


def test_an_approval_counts_until_it_runs_out() -> None:
    orders = Orders(approvals=(approval("anna"), approval("ben", NOON + timedelta(seconds=50))))
    assert [each.operator for each in counting(TWO, orders, NOON + timedelta(seconds=60))] == ["anna", "ben"]
    assert [each.operator for each in counting(TWO, orders, NOON + timedelta(seconds=61))] == ["ben"]


def test_whose_approval_is_not_taken() -> None:
    orders = Orders(approvals=(approval("anna"),))
    later = approval("anna", NOON + timedelta(seconds=1))
    assert refused(TWO, orders, later, "carl") == "was approved by anna already, and 2 different people must"
    assert refused(TWO, orders, approval("anna", NOON + timedelta(seconds=61)), "carl") == "", "it had run out"
    assert "was built by ben" in refused(TWO, orders, approval("ben"), "ben")
    assert "nobody knows" in refused(TWO, orders, approval("ben"), None)
    assert refused(TWO, orders, approval("ben"), "carl") == ""
    assert refused(Approval(required=True), Orders(), approval("ben"), "ben") == "", "one person may approve what they built"


def test_a_claim_is_of_these_files_by_this_operator_and_of_nothing_else() -> None:
    built = Built("toy", "2", "sha256:2")
    text = claim("anna", TOKENS["anna"], built)
    assert builder_of(Operators(TOKENS), text, built) == "anna"
    assert TOKENS["anna"] not in text
    for other in (Built("toy", "3", "sha256:2"), Built("toy", "2", "sha256:3"), Built("toz", "2", "sha256:2")):
        assert builder_of(Operators(TOKENS), text, other) is None
    for forged in (text.replace("anna", "ben"), "anna:", "", "nobody:00", "anna:ä"):
        assert builder_of(Operators(TOKENS), forged, built) is None
    assert builder_of(Operators({**TOKENS, "anna": "a new token"}), text, built) is None


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = house_without_servers(tmp_path)
    fleet = toy_fleet(("toy",))
    fleet["tiers"] = {"critical": {"approval": {"required": True, "people": 2}}}
    fleet["models"]["toy"] = fleet["models"]["toy"] | {"tier": "critical"}
    write_fleet(house.home, fleet)
    record_operators(house.home, TOKENS)
    return House(house.settings, house.home)


@pytest.fixture
def release(house: House) -> Journal:
    """A release of a version that carl built, which waits for approval."""
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert isinstance(desire, Desire)
    journal = Journal(house.ledger, desire, 0, "test")
    journal.enter(P.VALIDATING)
    journal.effect(effects.RESOLVE, lambda: {"source_digest": "sha256:a", "builder": "carl"})
    for phase in (P.PACKAGING, P.REPLICATING, P.DEPLOYING, P.AWAITING_APPROVAL):
        journal.enter(phase)
        if phase is P.PACKAGING:
            journal.effect(effects.PACKAGE, lambda: {"digest": DIGEST, "files": 1, "bytes": 1})
    return journal


@pytest.fixture
def says(house: House, release: Journal) -> Callable[..., Commanded]:
    def say(who: str, command: str = "approve", **more: Any) -> Commanded:
        return operate(house, Wish("toy", command, "looked at it", **more), TOKENS[who], "a test")

    return say


def test_two_different_people_who_did_not_build_it_let_it_go_on(house: House, release: Journal, says: Callable[..., Commanded]) -> None:
    assert says("anna").says == "recorded; 1 more must approve it"
    assert parked(house, release.desire)
    for who, why in (("anna", "approved by anna already"), ("carl", "built by carl, who may not")):
        before = house.ledger.head()
        with pytest.raises(Refused, match=why):
            says(who)
        assert house.ledger.head() == before
    with pytest.raises(Refused, match="not of sha256:1"):
        says("ben", digest="sha256:1")
    says("ben", digest=DIGEST)
    assert not parked(house, release.desire)


def test_of_each_operator_the_last_approval_counts_alone(house: House, release: Journal) -> None:
    """Nothing but the fold stands between two events of one operator, however they came to be there."""
    stream = release_stream(release.desire.release)
    for number, who in enumerate(("anna", "anna", "ben")):
        order = replace(approval(who, house.ledger.now()), id=f"approval-{number}")
        house.ledger.append(NewEvent(stream, COMMANDED, payload_of(order), f"operator {who}", intent_id=order.id, model="toy"))
        given = counting(TWO, fold(house.ledger.stream(stream, COMMANDED)), house.ledger.now())
        assert [each.operator for each in given] == ["anna", "ben"][: 1 + (who == "ben")]


def test_whoever_approved_may_take_it_back_and_nobody_else(house: House, release: Journal, says: Callable[..., Commanded]) -> None:
    says("anna")
    with pytest.raises(Refused, match="has no approval of ben"):
        says("ben", "revoke")
    says("anna", "revoke")
    says("ben")
    assert parked(house, release.desire), "one was taken back"
    says("anna")
    assert not parked(house, release.desire)


def test_a_builder_whom_the_ledger_does_not_name_leaves_nobody_to_approve(house: House) -> None:
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert isinstance(desire, Desire)
    journal = Journal(house.ledger, desire, 0, "test")
    for phase in (P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING, P.AWAITING_APPROVAL):
        journal.enter(phase)
        if phase is P.PACKAGING:
            journal.effect(effects.PACKAGE, lambda: {"digest": DIGEST, "files": 1, "bytes": 1})
    with pytest.raises(Refused, match="has a builder whom nobody knows"):
        operate(house, Wish("toy", "approve", "hm"), TOKENS["anna"], "a test")


def test_a_revision_that_lost_an_approval_loses_its_traffic(house: House, release: Journal, says: Callable[..., Commanded]) -> None:
    says("anna")
    says("ben")
    release.enter(P.CANARY)
    with hold(house, "toy", "test") as held:
        assert held is not None
        work = Work.of(house, release.desire, held)
        work.check()
        says("ben", "revoke")
        with pytest.raises(AbortedError, match="an approval was revoked by operator ben"):
            work.check()
