"""By whose word a release may have traffic, whatever is revoked, runs out or is killed; and what keeps no way back closed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from machine_places import Kind
from machine_time import Run
from machine_world import LEASE, MODEL, World

from control.attestations_command import show_attestations
from control.stack.records import record_operators
from fleet.errors import ExitCode, InputError, OperationFailed
from flows import attesting, gating, release
from flows.attested import doubts, maker_of
from flows.desires import Desire, ask_again, desires, release_stream
from flows.operating import Wish, operate
from flows.parking import parked
from flows.rollback_request import ask_for
from flows.work import release_revision
from registry.attestations import Claim, read_claim
from registry.attestations import Kind as Word
from registry.dsse import Envelope
from registry.referrers import ATTESTATION, documents

SHORT: dict[str, Any] = {
    "canary": {"steps": [{"weight": 20, "seconds": 5}, {"weight": 50, "seconds": 30}], "max_seconds": 300},
    "approval": {"required": True, "people": 2, "within_seconds": 36_000, "valid_seconds": 600},
}
PEOPLE = {"operator": "the token of nobody", "anna": "the token of anna", "ben": "the token of ben"}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[World]:
    """A fleet of two regions whose releases nobody has to approve."""
    found = World(tmp_path, {}, {"canary": {"steps": [{"weight": 20, "seconds": 5}], "max_seconds": 120}})
    yield found
    found.close()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[World]:
    """A fleet whose releases two people must approve, and neither is the builder."""
    found = World(tmp_path, {}, SHORT)
    record_operators(found.house.home, PEOPLE)
    found._patches.setattr(gating, "_builder", lambda *_: "carl")
    yield found
    found.close()


def want(world: World) -> Desire:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    go_on(world)
    return desires(world.ledger, MODEL)[-1]


def go_on(world: World, seconds: float = 60) -> Run:
    world.reconcile()
    run = world.runs.begin(world.release)
    world.runs.pass_time(seconds)
    return run


def say(world: World, who: str, command: str) -> str:
    newest = desires(world.ledger, MODEL)[-1]
    return operate(world.house, Wish(MODEL, command, f"{who} looked", release=newest.release), PEOPLE[who], "the test").says


def ended(world: World, desire: Desire) -> str:
    entered = [event for event in world.ledger.stream(release_stream(desire.release)) if event.type == "phase.entered"]
    return str(entered[-1].payload["phase"])


def signed(world: World, desire: Desire) -> list[Claim]:
    """Return the approvals that are signed of a release's revision, in the origin store."""
    made = release_revision(world.house, desire)
    assert made is not None
    claims = [read_claim(Envelope.from_bytes(data)) for data in documents(world.stores["origin"], made.digest, ATTESTATION)]
    return [claim for claim in claims if claim.kind is Word.APPROVAL]


def halted_at(world: World, name: str, times: int = 1, of: Any = release) -> Run:
    """Begin the release and halt it right after a step of it was done so many times."""
    real: Callable[..., Any] = getattr(of, name)

    def step(*given: Any) -> Any:
        done = real(*given)
        world.runs.moment(name)
        return done

    world._patches.setattr(of, name, step)
    world.reconcile()
    run = world.runs.begin(world.release)
    run.only, run.left = name, times
    world.runs.pass_time(30)
    assert run.halted
    return run


def test_an_approval_that_ran_out_does_not_stand_in_for_one_that_is_revoked_in_the_canary(asked: World) -> None:
    first = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    go_on(asked)
    assert ended(asked, first) == "promoted"
    second = want(asked)
    say(asked, "anna", "approve")
    asked.runs.pass_time(700)
    say(asked, "ben", "approve")
    say(asked, "operator", "approve")
    go_on(asked, 4)
    assert ended(asked, second) == "canary"
    say(asked, "ben", "revoke")
    asked.runs.pass_time(120)
    assert ended(asked, second) == "rolled back"
    assert {claim.by for claim in signed(asked, second)} == {"ben", "operator"}, "anna's had run out"


def test_a_first_release_whose_approval_is_revoked_before_its_promotion_gets_no_traffic(asked: World) -> None:
    desire = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    run = halted_at(asked, "attest_approval")
    say(asked, "ben", "revoke")
    run.resume()
    asked.runs.pass_time(60)
    assert ended(asked, desire) not in ("promoted", "promoting")
    assert not any(str(event.effect_key).startswith("weight:") for event in asked.ledger.stream(release_stream(desire.release)))


def test_one_that_is_revoked_right_before_it_is_signed_has_the_release_wait_again(asked: World) -> None:
    desire = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    run = halted_at(asked, "may_have_traffic")
    assert "1 more must approve" in say(asked, "ben", "revoke")
    run.resume()
    asked.runs.pass_time(30)
    assert parked(asked.house, desire)
    assert signed(asked, desire) == []
    say(asked, "operator", "approve")
    go_on(asked)
    assert ended(asked, desire) == "promoted"
    assert {claim.by for claim in signed(asked, desire)} == {"anna", "operator"}


def test_a_release_that_was_let_through_and_then_killed_does_not_take_another_approval_for_one_that_is_revoked(asked: World) -> None:
    desire = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    run = halted_at(asked, "attest_approval")
    run.kill()
    asked.runs.pass_time(LEASE + 1)
    say(asked, "ben", "revoke")
    assert not parked(asked.house, desire), "it is taken up, and ends"
    go_on(asked)
    assert ended(asked, desire) not in ("promoted", "promoting", "awaiting approval")


@pytest.mark.parametrize("kept", [1, 2])
def test_a_killed_controller_signs_the_same_approvals_again_and_only_those_count_that_the_ledger_names(asked: World, kept: int) -> None:
    desire = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    run = halted_at(asked, "attach", kept, attesting)
    run.kill()
    asked.runs.pass_time(LEASE + 1)
    go_on(asked)
    assert ended(asked, desire) == "promoted"
    assert sorted(claim.by for claim in signed(asked, desire)) == ["anna", "ben"], "each once, whoever signed"


def test_what_was_signed_before_a_revocation_is_no_approval_afterwards(asked: World) -> None:
    desire = want(asked)
    say(asked, "anna", "approve")
    say(asked, "ben", "approve")
    run = halted_at(asked, "attach", 2, attesting)
    run.kill()
    asked.runs.pass_time(LEASE + 1)
    say(asked, "ben", "revoke")
    say(asked, "operator", "approve")
    go_on(asked)
    assert ended(asked, desire) == "promoted"
    assert sorted(claim.by for claim in signed(asked, desire)) == ["anna", "ben", "operator"]
    made = release_revision(asked.house, desire)
    assert made is not None
    found = maker_of(asked.house, made)
    assert found is not None
    assert doubts(asked.house, made, found, asked.stores["origin"]) == ()
    without = [claim.details["order"] for claim in signed(asked, desire) if claim.by == "ben"]
    assert not found.orders & set(map(str, without))


def rolled_back(world: World) -> str:
    ask_for(world.house, MODEL, "1", "the test")
    go_on(world, 120)
    return ended(world, desires(world.ledger, MODEL)[-1])


@pytest.fixture
def two(plain: World) -> World:
    """A model with two promoted versions."""
    want(plain)
    second = want(plain)
    go_on(plain, 60)
    assert ended(plain, second) == "promoted"
    return plain


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store"])
def test_rubbish_beside_a_revision_keeps_no_rollback_from_it(two: World, name: str) -> None:
    made = release_revision(two.house, desires(two.ledger, MODEL)[0])
    assert made is not None
    obstore.put(two.stores[two.edges[0].name]._store, f"referrers/{made.digest.removeprefix('sha256:')}/{name}", b"rubbish")
    assert rolled_back(two) == "promoted"


@pytest.mark.parametrize("lost", ["build", "scan", "approval"])
def test_lost_keys_keep_no_rollback_from_a_revision(two: World, lost: str) -> None:
    two.house.attestation_keys(Word(lost))
    shutil.rmtree(two.house.home.attestation_keys(lost))
    assert rolled_back(two) == "promoted"


def test_statements_that_were_deleted_everywhere_keep_no_rollback_from_a_revision(two: World) -> None:
    for store in two.stores.values():
        names = [entry["path"] for entry in store._store.list("referrers").collect()]
        obstore.delete(store._store, names)
    assert rolled_back(two) == "promoted"


def test_a_revision_that_was_made_before_anything_was_attested_can_be_gone_back_to(plain: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "attest_release", lambda *_: None)
        want(plain)
    second = want(plain)
    go_on(plain, 60)
    assert ended(plain, second) == "promoted"
    assert rolled_back(plain) == "promoted"


def test_a_lost_key_of_the_ledger_stops_no_reconcile_and_is_told(plain: World) -> None:
    first = want(plain)
    assert ended(plain, first) == "promoted"
    (plain.house.home.ledger_keys / "signing.key").unlink()
    vars(plain.house).pop("ledger_keys", None)
    plain.mlflow.set_alias(MODEL, "candidate", plain.mlflow.register(Kind.GOOD))
    with pytest.raises(InputError, match="is gone, and its public half is there"):
        plain.reconcile()
    assert desires(plain.ledger, MODEL)[-1].version == "2", "the alias was followed all the same"


def test_a_region_that_is_restored_has_the_statements_again(plain: World) -> None:
    desire = want(plain)
    made, region = release_revision(plain.house, desire), plain.edges[0].name
    assert made is not None
    store = plain.stores[region]
    obstore.delete(store._store, [entry["path"] for entry in store._store.list("").collect()])
    go_on(plain)
    go_on(plain)
    assert store.has_blob(made.digest)
    found = maker_of(plain.house, made)
    assert found is not None
    assert doubts(plain.house, made, found, store) == ()


def test_gates_that_an_older_convoy_asked_are_not_signed_for(plain: World) -> None:
    plain._patches.setattr(gating, "_decide", lambda *_: {"refusals": []})
    desire = want(plain)
    assert ended(plain, desire) == "failed"
    made = release_revision(plain.house, desire)
    assert made is not None
    kinds = {read_claim(Envelope.from_bytes(data)).kind for data in documents(plain.stores["origin"], made.digest, ATTESTATION)}
    assert Word.SCAN not in kinds


def test_the_command_tells_of_a_store_that_is_away_and_of_the_release_that_was_named(
    plain: World, capsys: pytest.CaptureFixture[str]
) -> None:
    show = show_attestations
    want(plain)
    away, real = plain.edges[1].name, type(plain.house).region_store

    def opened(house: Any, region: str) -> Any:
        if region == away:
            raise OperationFailed(f"store {region}", "cannot be used")
        return real(house, region)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(plain.house), "region_store", opened)
        assert show("toy-1", None, as_json=False) is ExitCode.REJECTED
    assert f"{away}: does not hold: store {away}: cannot be used" in capsys.readouterr().out

    ask_again(plain.ledger, MODEL, "1", "the test")
    halted_at(plain, "attest_release")
    assert show("toy-1", None, as_json=False) is ExitCode.DONE, "toy-2 has attested the same digest, and copied nothing yet"
