"""What the watch shows: the release under way with its figures, the last words, and what cannot be read in its place."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from control.stack.view import Prober
from control.watched import Moment, last_words, model_now, moment_of
from control.watching import moments, picture
from fleet.commands import Command
from fleet.operators import DEFAULT, read_operators
from fleet.phases import ReleasePhase
from fleet.settings import Settings
from flows import effects
from flows.desires import Desire, observe_candidate
from flows.house import House
from flows.journal import Journal
from flows.operating import Wish, operate
from registry.ledger import NewEvent
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet

DIGEST = f"sha256:{1:064}"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


def wanted(house: House, version: str) -> Journal:
    desire = observe_candidate(house.ledger, "toy", version, "test")
    assert isinstance(desire, Desire)
    return Journal(house.ledger, desire, 0, "test")


def under_canary(house: House) -> None:
    """Version 1 was rejected; version 2 is under canary at its first step."""
    ended = wanted(house, "1")
    ended.enter(ReleasePhase.VALIDATING)
    ended.enter(ReleasePhase.REJECTED, "schema: [/x] is missing")
    running = wanted(house, "2")
    for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING, ReleasePhase.CANARY):
        running.enter(phase)
    judged = {"weight": 20, "measured_share": "0.1953", "outcome": "not enough data", "reasons": ["us-east-1 has 12 of 300"]}
    running.record("canary.judged", {**judged, "harm": "0.8", "harm_limit": "20", "regions": []})


def shown(moment: Moment) -> str:
    console = Console(width=220, record=True, file=StringIO())
    console.print(picture(moment))
    return console.export_text()


def test_a_canary_is_shown_with_its_step_its_share_its_harm_and_the_verdict_so_far(house: House) -> None:
    under_canary(house)
    house.leases.take("toy", "release flow 1", 60)
    with Prober() as prober:
        text = shown(moment_of(house, prober))
    assert "toy-2 version 2 canary, entered 0 s ago: A measured share of live requests" in text
    assert "held by release flow 1" in text
    assert "step 1 of 2, 20 % meant, 19.5% measured, harm 0.8 of 20, verdict so far: not enough data" in text
    assert "us-east-1 has 12 of 300" in text
    assert "toy-1 version 1 ended rejected, 0 s ago: schema: [/x] is missing" in text


def test_a_release_that_nobody_holds_is_said_to_be_so(house: House) -> None:
    under_canary(house)
    with Prober() as prober:
        assert "nobody holds it now" in shown(moment_of(house, prober))


def ordered(house: House, command: Command, **more: Any) -> None:
    token = read_operators(house.home).token_of(DEFAULT)
    operate(house, Wish("toy", command.value, "it looks odd", **more), token, "a test")


def test_who_paused_and_what_is_not_obeyed_yet_is_shown_with_its_reason(house: House) -> None:
    under_canary(house)
    ordered(house, Command.PAUSE)
    ordered(house, Command.EXTEND, seconds=60)
    with Prober() as prober:
        text = shown(moment_of(house, prober))
    assert "paused by operator operator at" in text
    assert "ordered, not obeyed yet: extend for 60 s by operator operator at" in text
    assert text.count("UTC: it looks odd") == 3


def test_a_release_that_waits_for_a_person_is_not_said_to_be_forgotten(house: House) -> None:
    fleet = toy_fleet(("toy",))
    fleet["models"]["toy"] = fleet["models"]["toy"] | {"approval": {"required": True}}
    write_fleet(house.home, fleet)
    journal = wanted(house, "1")
    for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING):
        journal.enter(phase)
    journal.enter(ReleasePhase.AWAITING_APPROVAL, "revision sha256:1 needs an operator's approval")
    with Prober() as prober:
        text = shown(moment_of(house, prober))
    assert "waits for approval until" in text
    assert "convoy operate toy approve" in text
    assert "nobody holds it" not in text


@pytest.mark.parametrize(("allowed", "says", "over"), [(900, "within 900 s", False), (0.001, "over 0.001 s", True)])
def test_a_region_that_lacks_its_copy_is_shown_with_how_far_behind_it_is(house: House, allowed: float, says: str, over: bool) -> None:
    first, second, third = REGIONS
    fleet = toy_fleet(("toy",))
    replication = {"consistency": "eventual", "primary": first, "standbys": [second], "lag_seconds": allowed}
    fleet["models"]["toy"] = fleet["models"]["toy"] | {"replication": replication}
    write_fleet(house.home, fleet)
    journal = wanted(house, "1")
    for region in (first, second):
        journal.effect(effects.replicate(region), lambda region=region: {"digest": DIGEST, "region": region}, digest=DIGEST, region=region)
    stable = {"version": "1", "digest": DIGEST, "release": "toy-1"}
    house.ledger.append(NewEvent("model/toy", "stable.set", stable, "test", model="toy"))
    with Prober() as prober:
        moment = moment_of(house, prober)
    assert moment.problems == {}
    (lag,) = moment.regions[third].models["toy"].lags
    assert (lag.asset, lag.version, lag.limit_seconds, lag.over_limit) == ("revision", "1", allowed, over)
    assert [region for region in (first, second) if moment.regions[region].models["toy"].lags] == []
    text = shown(moment)
    assert "Copies that lag" in text
    assert says in text
    told = json.loads(moment.model_dump_json())["regions"][third]["models"]["toy"]["lags"]
    assert told == [lag.model_dump(mode="json")]


def test_only_the_newest_releases_are_read(house: House) -> None:
    under_canary(house)
    found = model_now(house, "toy")
    assert [each.release.release for each in found.under_way] == ["toy-2"]
    assert found.last_ended is not None
    assert found.last_ended.release == "toy-1"


def test_everything_away_is_said_in_its_place_and_the_ledger_is_shown_all_the_same(house: House) -> None:
    under_canary(house)
    with Prober() as prober:
        moment = moment_of(house, prober)
    assert {component.healthy for component in moment.components} == {False}
    assert moment.problems == {}
    assert {served.state for region in moment.regions.values() for served in region.models.values()} == {"absent"}
    assert "mlflow: does not answer" in shown(moment)


def test_a_fleet_file_that_is_being_edited_is_told_and_the_watch_goes_on(house: House) -> None:
    house.home.fleet_file.write_text("version: [")
    with Prober() as prober:
        moment = moment_of(House(house.settings, house.home), prober)
    assert "line" in moment.problems["releases"]
    assert moment.components


def test_a_watch_may_begin_before_the_first_start(tmp_path: Path) -> None:
    first = next(moments(Settings(home=tmp_path / "none"), 0.2))
    assert "was never started" in first.problems["stack"]
    assert not (tmp_path / "none").exists()


def test_the_last_words_are_read_whatever_else_their_events_say(house: House) -> None:
    ledger = house.ledger
    ledger.append(NewEvent("drift/toy", "drift.measured", {"outcome": "drifted", "reasons": ["x moved"], "columns": []}, "test"))
    ledger.append(NewEvent("costs", "costs.reconciled", {"total": "12.30"}, "test"))
    ledger.append(NewEvent("drill/us-east-1", "drill.ended", {"outcome": "passed", "reasons": ["served again after 0.4 s"]}, "test"))
    found = {word.subject: (word.outcome, word.reasons) for word in last_words(house)}
    assert found == {
        "drift/toy": ("drifted", ("x moved",)),
        "costs": ("recorded", ()),
        "drill/us-east-1": ("passed", ("served again after 0.4 s",)),
    }
