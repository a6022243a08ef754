"""The release train on the real stack: Prefect, MLflow, Envoy, three regions, live requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clouds.local.supervisor import Supervisor
from fleet.canonical import short
from flows import effects
from flows.desires import CANDIDATE, CHAMPION, observe_candidate
from flows.effects import Course, Ending, effects_of
from support.waiting import wait_until

if TYPE_CHECKING:
    from control.views import ReleaseView
    from registry.events import Event
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def completed(stack: TestStack, release: str) -> list[str]:
    """Return the keys of the effects that a release completed, in order."""
    return [str(event.effect_key) for event in stack.house.ledger.stream(f"release/{release}") if event.type == "effect.completed"]


def check_listed(stack: TestStack, view: ReleaseView, ending: Ending, stable: str | None = None, lost: tuple[str, ...] = ()) -> None:
    """Check that a release completed exactly the effects, each once, that are listed for its end; its canary as far as it got."""
    found = completed(stack, view.release)
    steps = tuple(percent for percent in (20, 50) if effects.weight(percent) in found)
    listed = effects_of(ending, Course(stack.house.model(view.model).regions, str(view.digest), stable or "", steps, lost))
    assert sorted(found) == sorted(listed)


def phases(stack: TestStack, release: str) -> list[str]:
    """Return the phases that a release entered, in order."""
    return [str(event.payload["phase"]) for event in stack.house.ledger.stream(f"release/{release}") if event.type == "phase.entered"]


def last(stack: TestStack, release: str, kind: str) -> Event:
    """Return a release's last event of a kind."""
    found = stack.house.ledger.last(f"release/{release}", kind)
    assert found is not None
    return found


def bring_up(stack: TestStack, model: str) -> str:
    """Release version 1 of a model and return its number."""
    version = stack.register(model)
    done = stack.release(model, version)
    assert done.returncode == 0, done.stderr
    assert stack.releases(model)[0].phase == "promoted", stack.releases(model)[0].reasons
    return version


def told_again(stack: TestStack, model: str, call: str = "") -> None:
    """Run a flow once the dead controller's lease has run out."""
    wait_until(lambda: stack.house.leases.current(model) is None, 20, what="the dead controller's lease has run out")
    done = stack.flow(call or f"release({model!r})")
    assert done.returncode == 0, done.stderr


def test_an_alias_that_is_set_starts_a_release_which_promotes_a_good_version(stack: TestStack) -> None:
    first = stack.register("steady")
    stack.candidate("steady", first)
    view = stack.ended("steady", 1)
    assert (view.phase, view.reasons) == ("promoted", ("version 1 serves all traffic in us-east-1, europe-west4, southeastasia",))
    assert "canary" not in phases(stack, view.release)
    check_listed(stack, view, Ending.FIRST)
    with stack.load("steady") as load:
        second = stack.register("steady", offset=1.0)
        stack.candidate("steady", second)
        promoted = stack.ended("steady", 2)
    assert promoted.phase == "promoted", promoted.reasons
    check_listed(stack, promoted, Ending.PROMOTED, view.digest)
    assert stack.house.models.alias("steady", CHAMPION) == second
    assert load.failed() == []
    assert load.totals["sent"] == load.totals["scheduled"] == len(load.answers())
    assert {sent["revision"] for sent in load.answers()} == {view.digest, promoted.digest}
    regions = stack.house.fleet.regions
    stores = {region: stack.house.region_store(region).resolve("steady") for region in regions}
    assert {ref.digest for ref in stores.values() if ref} == {promoted.digest}


@pytest.mark.long
def test_a_canary_that_resets_connections_in_one_region_is_rolled_back_although_clients_see_nothing(stack: TestStack) -> None:
    bring_up(stack, "resetting")
    bad = stack.register("resetting", "resets europe-west4")
    with stack.load("resetting", 60) as load:
        done = stack.release("resetting", bad)
    assert done.returncode == 0, done.stderr
    view = stack.releases("resetting")[1]
    assert view.phase == "rolled back"
    check_listed(stack, view, Ending.ROLLED_BACK)
    assert "europe-west4" in " ".join(view.reasons)
    assert view.counted is not None
    assert int(str(view.counted["bad"])) > 0
    assert load.failed() == []


@pytest.mark.long
def test_a_canary_that_is_dead_before_any_attempt_is_rolled_back(stack: TestStack) -> None:
    bring_up(stack, "dead")
    version = stack.register("dead", offset=1.0)
    with stack.load("dead") as load:
        assert stack.release("dead", version, crash_at="before weight:20").returncode == -9
        supervisor = Supervisor.of(stack.house.home)
        digest = stack.releases("dead")[1].digest
        assert digest is not None
        for process in supervisor.processes():
            if process.name.endswith(short(digest)):
                supervisor.stop(process.name)
        told_again(stack, "dead")
        view = stack.ended("dead", 2)
    assert view.phase == "rolled back", view.reasons
    assert load.failed() == []
    assert digest not in {sent["revision"] for sent in load.answers()}


@pytest.mark.long
def test_a_flipped_byte_in_one_regions_store_keeps_the_version_from_that_region_and_says_so(stack: TestStack) -> None:
    version = stack.register("flipped")
    with stack.alone():
        assert stack.release("flipped", version, crash_at="before deploy:europe-west4").returncode == -9
        digest = stack.releases("flipped")[0].digest
        assert digest is not None
        manifest = stack.house.origin.manifest(digest)
        # The MLmodel file names its run, so no other model shares its blob.
        (victim,) = (entry.digest.removeprefix("sha256:") for entry in manifest.entries if entry.path.endswith("/MLmodel"))
        (blob,) = (path for path in stack.house.home.region_store("europe-west4").rglob("*") if path.name == victim)
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.chmod(0o644)
        blob.write_bytes(data)
        told_again(stack, "flipped")
    view = stack.ended("flipped", 1)
    assert view.phase == "failed"
    check_listed(stack, view, Ending.FAILED, lost=("europe-west4",))
    assert "europe-west4" in " ".join(view.reasons)
    assert victim[:12] in " ".join(view.reasons)
    assert stack.house.target("europe-west4").status("flipped", "europe-west4") == ()
    assert stack.house.models.alias("flipped", CHAMPION) is None


@pytest.mark.long
def test_reconcile_starts_nothing_after_an_end_until_the_alias_moves(stack: TestStack) -> None:
    first = bring_up(stack, "again")
    bad = stack.register("again", schema=False)
    stack.release("again", bad)
    assert stack.releases("again")[1].phase == "rejected"
    check_listed(stack, stack.releases("again")[1], Ending.REJECTED)
    failing = stack.register("again", "fails")
    with stack.load("again"):
        stack.release("again", failing)
    assert stack.releases("again")[2].phase == "rolled back"
    before = len(stack.releases("again"))
    again = "from flows.reconcile import reconcile\nfor _ in range(3): print([line for line in reconcile() if line.startswith('again')])"
    done = stack.python(again)
    assert done.stdout.split() == ["[]"] * 3, done.stderr
    assert len(stack.releases("again")) == before
    stack.candidate("again", first)
    assert stack.ended("again", before + 1).version == first


@pytest.mark.long
def test_a_newer_version_supersedes_the_one_under_canary_without_a_jump(stack: TestStack) -> None:
    bring_up(stack, "newer")
    second, third = stack.register("newer", offset=1.0), stack.register("newer", offset=2.0)
    with stack.load("newer") as load:
        assert stack.release("newer", second, crash_at="after weight:20").returncode == -9
        observe_candidate(stack.house.ledger, "newer", third, "test")
        stack.house.models.set_alias("newer", CANDIDATE, third)
        told_again(stack, "newer")
        stack.ended("newer", 3)
    views = stack.releases("newer")
    assert [view.phase for view in views] == ["promoted", "superseded", "promoted"]
    check_listed(stack, views[1], Ending.SUPERSEDED)
    assert load.failed() == []
    assert stack.house.target("us-east-1").status_of("us-east-1", "newer", str(views[1].digest)).state.value == "absent"
