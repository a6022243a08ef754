"""A rollback needs nobody but our own: MLflow is stopped, and its aliases follow when it is back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from clouds.local.supervisor import Supervisor
from flows.desires import CANDIDATE, CHAMPION, alias_owed
from flows.work import once_stable, stable_of
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
MODEL = "steady"


@pytest.fixture
def newest(stack: TestStack) -> str:
    """The stable version of a model of which an earlier one was stable too; two are released where nobody did so before."""
    while len({found.digest for found in once_stable(stack.house, MODEL)}) < 2:
        version = stack.register(MODEL, offset=float(len(stack.releases(MODEL))))
        with stack.load(MODEL):
            done = stack.release(MODEL, version)
        assert done.returncode == 0, done.stderr
    stable = stable_of(stack.house, MODEL)
    assert stable is not None
    return stable.version


@pytest.mark.long
def test_a_rollback_without_mlflow_serves_what_was_stable_and_the_aliases_follow_once_it_is_back(stack: TestStack, newest: str) -> None:
    supervisor, mlflow = Supervisor.of(stack.house.home), stack.house.stack.mlflow_url
    supervisor.stop("mlflow")
    try:
        done = stack.convoy("rollback", MODEL, "--wait", "--json")
    finally:
        supervisor.start("mlflow")
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    assert (view["phase"], view["why"]) == ("promoted", "rollback")
    assert not {"canary", "shadowing"} & {phase["phase"] for phase in view["phases"]}
    assert "reconcile lets the aliases follow" in done.stderr
    assert f"alias {CHAMPION} is not set to {view['version']} yet" in " ".join(view["reasons"])
    stable = stable_of(stack.house, MODEL)
    assert stable is not None
    assert (stable.version, stable.digest) == (view["version"], view["digest"])
    assert stable.version != newest
    state = stack.house.edges[0].state().of(MODEL)
    assert state is not None
    assert state.percent_of(stable.digest) == 100

    wait_until(lambda: _answers(f"{mlflow}/health"), 90, what="MLflow is back")
    assert stack.house.models.alias(MODEL, CHAMPION) == newest
    reconciled = stack.flow("reconcile()")
    assert reconciled.returncode == 0, reconciled.stderr
    aliases = wait_until(lambda: _aliases(stack) == {stable.version}, 90, what="both aliases have followed")
    assert aliases
    assert alias_owed(stack.house.ledger, MODEL) is None
    assert stack.releases(MODEL)[-1].release == view["release"]


def _aliases(stack: TestStack) -> set[str | None]:
    return {stack.house.models.alias(MODEL, name) for name in (CANDIDATE, CHAMPION)}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
