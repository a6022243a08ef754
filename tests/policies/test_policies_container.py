"""The verdict over what a container did: pure, and no pass for what was not told."""

from __future__ import annotations

import pytest

from fleet.evidence import GateOutcome
from policies.container import Conformance, Kept, judge_container

ASKED = ("it becomes ready", "a row is answered")
BOTH = (Kept("it becomes ready", "passed", "after 300 ms"), Kept("a row is answered", "passed", "200"))


def test_a_container_that_keeps_every_rule_passes_and_names_its_image() -> None:
    said = judge_container(Conformance("sha256:1", ASKED, BOTH))
    assert (said.gate, said.outcome) == ("container", GateOutcome.PASSED)
    assert dict(said.figures) == {"image": "sha256:1", "rules asked for": "2"}
    assert said.tables[0].rows[1] == ("passed", "a row is answered", "200")


def test_a_broken_rule_fails_and_says_which_and_why() -> None:
    said = judge_container(Conformance("sha256:1", ASKED, (BOTH[0], Kept("a row is answered", "failed", "POST answered 500: oops"))))
    assert said.outcome is GateOutcome.FAILED
    assert said.reasons == ("a row is answered: POST answered 500: oops",)


@pytest.mark.parametrize(
    ("found", "problem", "reason"),
    [
        ((), "the kernel refuses what keeps a container apart", "the kernel refuses"),
        ((BOTH[0],), "", "a row is answered: it was not asked"),
        ((BOTH[0], Kept("a row is answered", "inconclusive", "no row is known")), "", "a row is answered: no row is known"),
        ((BOTH[0], Kept("a row is answered", "not applicable", "an image was asked")), "", "a row is answered: an image was asked"),
        ((), "", "it becomes ready: it was not asked"),
    ],
)
def test_what_could_not_be_told_is_inconclusive_and_never_a_pass(found: tuple[Kept, ...], problem: str, reason: str) -> None:
    said = judge_container(Conformance("sha256:1", ASKED, found, problem))
    assert said.outcome is GateOutcome.INCONCLUSIVE
    assert said.outcome.refuses
    assert said.reasons[0].startswith(reason)


def test_a_contract_without_rules_passes_nothing() -> None:
    assert judge_container(Conformance("sha256:1", ())).outcome is GateOutcome.INCONCLUSIVE


def test_a_rule_that_is_broken_outweighs_one_that_is_open() -> None:
    found = (Kept("it becomes ready", "failed", "it ended"), Kept("a row is answered", "inconclusive", "it never ran"))
    assert judge_container(Conformance("sha256:1", ASKED, found)).outcome is GateOutcome.FAILED
