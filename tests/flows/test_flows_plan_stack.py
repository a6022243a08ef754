"""Drift made by hand on a real stack: each kind is in the plan, one reconcile puts all of it back, and then there is nothing to do."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from clouds.serving import State
from fleet.errors import ExitCode
from fleet.versions import Revision
from flows.desires import CHAMPION
from flows.shipping import start_and_wait
from flows.work import once_stable
from support.stack import REGIONS
from traffic.table import Backend, Share

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
MODEL, REGION = "touched", REGIONS[0]


@pytest.fixture
def revisions(stack: TestStack) -> tuple[Revision, Revision]:
    """The revision that was stable before, and the stable one."""
    for number in range(2):
        version = stack.register(MODEL, offset=float(number))
        with stack.alone(), stack.load(MODEL):
            done = stack.release(MODEL, version)
        assert done.returncode == 0, done.stderr
    before, stable = once_stable(stack.house, MODEL)
    return before, stable


def plan(stack: TestStack, *words: str) -> tuple[int, dict[tuple[str, str], str]]:
    """Return the exit code of a plan, and why it does what where."""
    done = stack.convoy("plan", MODEL, "--json", *words)
    told: dict[str, Any] = json.loads(done.stdout or "{}")
    assert told.get("unknown") == [], (told, done.stderr)
    return done.returncode, {(each["verb"], each["where"]): each["why"] for each in told["actions"]}


def start_by_hand(stack: TestStack, revision: Revision) -> str:
    """Have a region run a revision as a person would, and return where it answers."""
    start_and_wait(stack.house, revision, REGION)
    status = stack.house.target(REGION).status_of(REGION, MODEL, revision.digest)
    assert (status.state, status.endpoint is None) == (State.READY, False)
    return str(status.endpoint.port) if status.endpoint else ""


@pytest.mark.long
def test_all_that_was_done_by_hand_is_in_the_plan_and_one_reconcile_puts_it_back(
    stack: TestStack, revisions: tuple[Revision, Revision]
) -> None:
    before, stable = revisions
    house, edge = stack.house, stack.house.edges[0]
    with stack.alone():
        assert plan(stack) == (ExitCode.DONE, {})
        port = int(start_by_hand(stack, before))
        held = edge.state().of(MODEL)
        assert held is not None
        shares = (Share(stable.digest, 50), Share(before.digest, 50))
        backends = (*held.table.backends, Backend(before.digest, REGION, "127.0.0.1", port))
        by_hand = replace(held.table, version=held.table.version + 100, shares=shares, backends=backends, expires_at=time.time() + 600)
        edge.prepare(by_hand)
        edge.apply(by_hand)
        house.models.set_alias(MODEL, CHAMPION, before.version)
        house.region_store(REGION).point(MODEL, before.digest, by_hand.epoch)

        code, found = plan(stack)
        assert code == ExitCode.PENDING
        assert set(found) == {("point", REGION), ("route", f"edge {edge.name}"), ("alias", CHAMPION), ("retire", REGION)}
        assert f"since epoch {by_hand.epoch}" in found["point", REGION]
        assert f"table of epoch {by_hand.epoch}" in found["route", f"edge {edge.name}"]
        assert f"it names {before.version} instead of {stable.version}" in found["alias", CHAMPION]

    done = stack.convoy("plan", MODEL, "--apply", "--timeout", "200", "--json")
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    assert plan(stack) == (ExitCode.DONE, {})
    again = edge.state().of(MODEL)
    assert again is not None
    assert again.percent_of(stable.digest) == 100
    assert {backend.revision for backend in again.table.backends} == {stable.digest}
    assert house.models.alias(MODEL, CHAMPION) == stable.version
    ref = house.region_store(REGION).resolve(MODEL)
    assert ref is not None
    assert ref.digest == stable.digest
    assert [status.revision for status in house.target(REGION).status(MODEL, REGION)] == [stable.digest]

    with stack.alone():
        start_by_hand(stack, before)
        assert [verb for verb, _ in plan(stack)[1]] == ["retire"]
        adopted = stack.convoy("adopt", MODEL, "--region", REGION, "--reason", "warm while we look", "--json")
        assert adopted.returncode == 0, adopted.stderr
        assert json.loads(adopted.stdout)["digest"] == before.digest
        assert plan(stack) == (ExitCode.DONE, {})
    house.target(REGION).retire(REGION, MODEL, before.digest)
