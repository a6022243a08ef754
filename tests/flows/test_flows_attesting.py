"""What is signed of a revision on its way, and that no region starts one of which it does not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_places import Kind
from machine_time import Run
from machine_world import LEASE, MODEL, World

from control.attestations_command import show_attestations
from control.stack.records import record_operators
from fleet.errors import ExitCode, InputError, UnknownName
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import Revision
from flows import attesting, effects, gating, optimising, shipping
from flows.attested import doubts, maker_of
from flows.desires import desires, release_stream
from flows.gate_report import as_payload
from flows.operating import Wish, operate
from flows.parking import parked
from flows.rollback_request import ask_for
from flows.work import release_revision
from registry.attestations import Claim, attest, read_claim
from registry.attestations import Kind as Word
from registry.bom import problems
from registry.dsse import Envelope
from registry.keys import ensure_keyring
from registry.referrers import ATTESTATION, BOM, attach, documents, referrers
from registry.store import ContentStore

ONE_STEP: dict[str, Any] = {"canary": {"steps": [{"weight": 20, "seconds": 5}], "max_seconds": 120}}
TWO_PEOPLE: dict[str, Any] = ONE_STEP | {"approval": {"required": True, "people": 2, "within_seconds": 3600}}
PEOPLE = {"operator": "the token of nobody", "anna": "the token of anna", "ben": "the token of ben"}
MADE = {Word.BUILD, Word.SCAN, Word.VALIDATION}


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A fleet of two regions, and nothing released yet."""
    found = World(tmp_path, {}, getattr(request, "param", ONE_STEP))
    yield found
    found.close()


def want(world: World) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    return go_on(world)


def go_on(world: World) -> Run:
    world.reconcile()
    run = world.runs.begin(world.release)
    world.runs.pass_time(60)
    return run


def phase(world: World, release: str) -> str:
    world.facts.catch_up()
    return str(world.facts.releases[release].phase)


def revision(world: World, at: int = 0) -> Revision:
    found = release_revision(world.house, desires(world.ledger, MODEL)[at])
    assert found is not None
    return found


def stores(world: World) -> dict[str, ContentStore]:
    return {name: world.stores[name] for name in ("origin", *(edge.name for edge in world.edges))}


def said_in(store: ContentStore, digest: str) -> dict[Word, Claim]:
    claims = [read_claim(Envelope.from_bytes(data)) for data in documents(store, digest, ATTESTATION)]
    return {claim.kind: claim for claim in claims}


def believed(world: World, what: Revision, store: ContentStore) -> tuple[str, ...]:
    made_by = maker_of(world.house, what)
    assert made_by is not None
    return doubts(world.house, what, made_by, store)


def test_who_built_scanned_and_validated_a_revision_lies_signed_in_every_store(world: World) -> None:
    want(world)
    assert phase(world, "toy-1") == "promoted"
    made = revision(world)
    for name, store in stores(world).items():
        said = said_in(store, made.digest)
        assert set(said) == MADE, name
        assert {claim.release for claim in said.values()} == {"toy-1"}
        assert said[Word.BUILD].details["version"] == "1"
        assert said[Word.SCAN].details["outcomes"] == {"model files": "passed"}
        assert believed(world, made, store) == ()
        bills = documents(store, made.digest, BOM)
        assert [problems(bill) for bill in bills] == [(), ()]
        assert {"machine-learning-model"} <= {json.loads(bill)["metadata"]["component"]["type"] for bill in bills}


@pytest.mark.parametrize("world", [ONE_STEP | {"optimise": {"variants": ["onnx"]}}], indirect=True)
def test_what_the_gate_of_its_variants_said_is_signed_too(world: World) -> None:
    result = as_payload(GateResult("parity", GateOutcome.PASSED, ("it answers as the model does",)))
    world._patches.setattr(optimising, "_optimised", lambda *_: {"results": [result], "variants": {}})
    want(world)
    assert phase(world, "toy-1") == "promoted"
    outcomes = said_in(world.stores["origin"], revision(world).digest)[Word.VALIDATION].details["outcomes"]
    assert isinstance(outcomes, dict)
    assert outcomes["parity"] == "passed"
    assert "model files" in outcomes


@pytest.mark.parametrize("kept", [1, 3, 4, 5])
def test_a_controller_that_is_killed_between_two_statements_is_followed_by_one_that_says_the_same(world: World, kept: int) -> None:
    def and_a_moment(*given: Any) -> Any:
        done = attach(*given)
        world.runs.moment("kept")
        return done

    world._patches.setattr(attesting, "attach", and_a_moment)
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    world.reconcile()
    run = world.runs.begin(world.release)
    run.only, run.left = "kept", kept
    world.runs.pass_time(30)
    assert run.halted
    run.kill()
    world.runs.pass_time(LEASE + 1)
    before = {found.digest for found in referrers(world.stores["origin"], revision(world).digest)}
    assert len(before) == kept
    go_on(world)
    assert phase(world, "toy-1") == "promoted"
    after = {found.digest for found in referrers(world.stores["origin"], revision(world).digest)}
    assert before <= after
    assert len(after) == 5, "three statements and two bills"


def test_a_region_without_the_statements_starts_nothing(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipping, "copy_referrers", lambda *_: 0)
        want(world)
    assert phase(world, "toy-1") == "failed"
    first = release_stream("toy-1")
    (reasons,) = [event.payload["reasons"] for event in world.ledger.stream(first) if event.payload.get("phase") == "failed"]
    assert "is not attested as it must be: build: it was not attested; scan: it was not attested" in str(reasons)
    assert not any(str(event.effect_key).startswith("deploy:") for event in world.ledger.stream(first, "effect.completed"))


def test_a_strangers_word_counts_for_nothing_and_a_trusted_no_counts(world: World, tmp_path: Path) -> None:
    want(world)
    made, store = revision(world), world.stores[world.edges[0].name]
    claim = next(iter(said_in(store, made.digest).values()))
    no = Claim(Word.SCAN, MODEL, made.digest, "toy-1", claim.epoch, claim.at, "somebody", passed=False)
    stranger = ensure_keyring(tmp_path / "stranger")
    attach(store, made.digest, ATTESTATION, attest(no, stranger.key).to_bytes())
    attach(store, made.digest, ATTESTATION, b"rubbish")
    assert believed(world, made, store) == ()
    attach(store, made.digest, ATTESTATION, attest(no, world.house.attestation_keys(Word.SCAN).key).to_bytes())
    assert believed(world, made, store) == ("scan: somebody says no to this revision",)


def test_the_way_back_believes_the_release_that_made_the_revision(world: World) -> None:
    want(world)
    for _ in range(2):
        want(world)
    assert phase(world, "toy-2") == "promoted"
    ask_for(world.house, MODEL, "1", "the test")
    go_on(world)
    third = desires(world.ledger, MODEL)[-1].release
    assert phase(world, third) == "promoted"
    made = maker_of(world.house, revision(world))
    assert made is not None
    assert made.release == "toy-1"
    assert not any(event.effect_key == effects.ATTEST for event in world.ledger.stream(release_stream(third)))


def test_a_revision_of_which_nothing_was_attested_has_its_digest_alone(world: World) -> None:
    want(world)
    older = Revision(MODEL, "0", "sha256:" + "0" * 64)
    assert maker_of(world.house, older) is None


@pytest.mark.parametrize("world", [TWO_PEOPLE], indirect=True)
def test_both_who_approved_are_named_in_every_region_before_the_first_traffic(world: World) -> None:
    record_operators(world.house.home, PEOPLE)
    world._patches.setattr(gating, "_builder", lambda *_: "carl")
    want(world)
    (desire,) = desires(world.ledger, MODEL)
    assert parked(world.house, desire)
    for name in ("anna", "ben"):
        assert Word.APPROVAL not in said_in(world.stores["origin"], revision(world).digest)
        operate(world.house, Wish(MODEL, "approve", f"{name} looked", release=desire.release), PEOPLE[name], "the test")
    go_on(world)
    assert phase(world, "toy-1") == "promoted"
    made = revision(world)
    for store in stores(world).values():
        claims = [read_claim(Envelope.from_bytes(data)) for data in documents(store, made.digest, ATTESTATION)]
        assert {claim.by for claim in claims if claim.kind is Word.APPROVAL} == {"anna", "ben"}
        assert believed(world, made, store) == ()


def test_the_command_tells_where_it_holds_and_gives_a_copy_that_others_can_verify(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    want(world)
    copy = tmp_path / "copy"
    assert show_attestations("toy-1", copy, as_json=True) is ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert [said["kind"] for said in told["statements"]] == ["build", "scan", "validation"]
    assert all(len(said["signed_with"]) == 1 for said in told["statements"])
    assert sorted(file.name.partition("-")[0].partition(".")[0] for file in copy.iterdir()) == [
        "bom", "bom", "build", "build", "scan", "scan", "validation", "validation",
    ]  # fmt: skip

    region = world.edges[0].name
    world.stores[region]._store.delete([entry["path"] for entry in world.stores[region]._store.list("referrers").collect()])
    assert show_attestations("toy-1", None, as_json=False) is ExitCode.REJECTED
    assert f"{region}: does not hold: build: it was not attested" in capsys.readouterr().out
    with pytest.raises(InputError, match="a folder that is not there yet"):
        show_attestations("toy-1", copy, as_json=True)
    with pytest.raises(UnknownName, match="nothing is attested of it"):
        show_attestations("toy-9", None, as_json=True)
