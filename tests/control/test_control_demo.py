"""The demo's options and its checks of the story, on values that no stack has made."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control.demo.classification import Classification
from control.demo.command import MARKER, Options, clear, material, prepare, settings_of, tale_of
from control.demo.pace import FAST, WHOLE, Pace
from control.demo.rows import Pair
from control.demo.story import Tale
from control.demo.summary import Summary, load_problems, request_problems, show, strangers, uncounted
from control.demo.told import FIRST, PROMOTED, REJECTED, ROLLED_BACK, WEBHOOK, Ending, gate_outcomes, opener, otherwise, wrong_answers
from control.views import PhaseView, ReleaseView
from fleet.errors import InputError
from fleet.home import Home
from fleet.reading import read_fleet
from fleet.settings import Settings
from registry.ledger import Event
from traffic.load import Totals

AT = datetime(2026, 1, 1, tzinfo=UTC)
GOOD_LOAD = Totals(scheduled=600, sent=600, answered=600, rate=60.0, p99_lag_ms=3.0, max_lag_ms=20.0)


def event(kind: str, payload: dict[str, Any], effect: str | None = None, actor: str = WEBHOOK) -> Event:
    return Event(1, 1, "any", 1, kind, AT, actor, 1, None, effect, payload, "", "")


def view(phase: str, *before: str, version: str = "2", **given: Any) -> ReleaseView:
    phases = tuple(PhaseView(phase=name, at=AT, reasons=()) for name in (*before, phase))
    told: dict[str, Any] = {"reasons": (), "digest": "sha256:2", "seconds": {"requested": 5.0}, "canary": None, "counted": None} | given
    return ReleaseView(
        release="m-2", model="m", version=version, why="alias", phase=phase, meaning="", requested=AT, ended=AT, phases=phases, **told
    )


PROMOTED_VIEW = view("promoted", "validating", "canary", canary={"outcome": "promote"})
ROLLED_BACK_VIEW = view("rolled back", "validating", "canary", canary={"outcome": "roll back"}, counted={"bad": 3})
REJECTED_VIEW = view("rejected", "validating", digest=None)
REFUSED = (event("effect.completed", {"results": [{"gate": "metric against champion", "outcome": "failed"}]}, "gates"),)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_folder_that_merely_holds_a_folder_named_demo_is_never_deleted(home: Home) -> None:
    (home.root / "demo").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no \.convoy-demo of ours"):
        clear(home, Settings(home=home.root))
    assert (home.root / "demo").is_dir()


@pytest.mark.parametrize("content", [None, "", "mine\n"])
def test_a_marker_of_other_content_is_not_ours(home: Home, content: str | None) -> None:
    (home.root / MARKER).mkdir(parents=True) if content is None else home.root.mkdir()
    if content is not None:
        (home.root / MARKER).write_text(content)
    with pytest.raises(InputError):
        clear(home, Settings(home=home.root))
    assert home.root.exists()


def test_a_link_to_a_demo_is_refused(home: Home, tmp_path: Path) -> None:
    prepare(home, WHOLE)
    (tmp_path / "link").symlink_to(home.root)
    with pytest.raises(InputError, match="not a folder"):
        clear(Home(tmp_path / "link"), Settings(home=tmp_path / "link"))


def test_what_prepare_made_is_deleted_and_can_be_made_again(home: Home) -> None:
    prepare(home, WHOLE)
    (home.root / "left").write_text("over")
    clear(home, Settings(home=home.root))
    assert not home.root.exists()
    home.root.mkdir()
    clear(home, Settings(home=home.root))
    prepare(home, WHOLE)
    assert home.fleet_file.exists()


@pytest.mark.parametrize("pace", [WHOLE, FAST], ids=["whole", "fast"])
def test_the_demos_fleet_is_one_and_its_default_pair_is_found_at_either_pace(home: Home, pace: Pace) -> None:
    prepare(home, pace)
    model = read_fleet(home.fleet_file).models["employment"]
    assert model.rollback.margin == pace.margin
    assert tuple(step.seconds for step in model.canary.steps) == pace.seconds
    assert material(Tale(), pace).versions


def test_a_pair_that_only_the_whole_story_would_find_is_bad_input_for_the_fast_one() -> None:
    pair = Pair.parse("CIT=4,SEX=1")
    share = float(pair.holds(material(Tale(), WHOLE).live).mean())
    assert WHOLE.least_pair <= share < 0.06
    with pytest.raises(InputError, match="of the live rows"):
        material(Tale(pair=pair), Pace(share, FAST.seconds))


def test_a_low_port_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="port_base"):
        settings_of(Options(tmp_path, port_base=80))


def test_the_users_ledger_and_a_rehearsals_crash_stay_out_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_LEDGER_URL", "sqlite:////elsewhere.db")
    monkeypatch.setenv("CONVOY_CRASH_AT", "between stable")
    monkeypatch.setenv("CONVOY_FLEET", "/elsewhere.yaml")
    monkeypatch.setenv("CONVOY_PORT_BASE", "9000")
    found = settings_of(Options(tmp_path))
    assert (found.ledger_url, found.crash_at, found.fleet, found.port_base) == (None, None, None, None)


def test_an_unknown_variable_is_refused_as_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_LEDGER", "x")
    with pytest.raises(InputError, match="no such setting"):
        settings_of(Options(tmp_path))


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**32}, {"rate": math.nan}, {"rate": math.inf}, {"pair": "MAR=3"}])
def test_options_that_cannot_be_told_are_bad_input(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        tale_of(Options(tmp_path, **options))


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("MAR=77,SEX=2", "in 0.00% of the live rows"),
        ("MAR=4,SEX=2", "% of the live rows"),
        ("DIS=2,NATIVITY=1", "rows are left for holdout"),
        ("CIT=5,NATIVITY=2", "CIT=5 never occurs without"),
    ],
)
def test_a_pair_that_cannot_carry_the_story_is_bad_input(pair: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        material(Tale(pair=Pair.parse(pair)), WHOLE)


def test_the_default_pair_carries_the_story() -> None:
    found = material(Tale(), WHOLE)
    assert {name: int(Tale().pair.holds(rows).sum()) for name, rows in found.frames.items() if name in ("v3", "holdout")} == {
        "v3": 0,
        "holdout": 0,
    }


@pytest.mark.parametrize(
    ("seen", "ending", "champion", "events"),
    [
        (view("promoted", "validating"), FIRST, "2", ()),
        (PROMOTED_VIEW, PROMOTED, "2", ()),
        (ROLLED_BACK_VIEW, ROLLED_BACK, "1", ()),
        (REJECTED_VIEW, REJECTED, "1", REFUSED),
    ],
)
def test_a_release_that_ended_as_told_leaves_nothing_to_say(
    seen: ReleaseView, ending: Ending, champion: str, events: tuple[Event, ...]
) -> None:
    assert otherwise(seen, ending, champion, WEBHOOK, events) == ()


def changed(seen: ReleaseView, **given: Any) -> ReleaseView:
    return seen.model_copy(update=given)


@pytest.mark.parametrize(
    ("seen", "ending", "champion", "opened_by", "events", "says"),
    [
        (PROMOTED_VIEW, FIRST, "2", WEBHOOK, (), "a canary took place"),
        (view("promoted", "validating"), PROMOTED, "2", WEBHOOK, (), "no canary took place"),
        (
            changed(PROMOTED_VIEW, canary={"outcome": "not enough data"}),
            PROMOTED,
            "2",
            WEBHOOK,
            (),
            "the judge's last word was 'not enough",
        ),
        (changed(PROMOTED_VIEW, seconds={"requested": 31.0}), PROMOTED, "2", WEBHOOK, (), "nobody took it up within 30 s but after 31.0 s"),
        (PROMOTED_VIEW, PROMOTED, "2", "reconcile", (), "it was opened by reconcile"),
        (PROMOTED_VIEW, PROMOTED, "1", WEBHOOK, (), "champion is version 1"),
        (changed(ROLLED_BACK_VIEW, canary={"outcome": "promote"}), ROLLED_BACK, "1", WEBHOOK, (), "the judge's last word was 'promote'"),
        (changed(ROLLED_BACK_VIEW, counted={"bad": 0}), ROLLED_BACK, "1", WEBHOOK, (), "no bad answer of it was counted"),
        (changed(REJECTED_VIEW, digest="sha256:4"), REJECTED, "1", WEBHOOK, REFUSED, "it was packaged as sha256:4"),
        (REJECTED_VIEW, REJECTED, "1", WEBHOOK, (), "the gate 'metric against champion' said nothing"),
        (view("rejected", "validating", "packaging", digest=None), REJECTED, "1", WEBHOOK, REFUSED, "it went through packaging"),
    ],
)
def test_what_ended_otherwise_is_said(
    seen: ReleaseView, ending: Ending, champion: str, opened_by: str, events: tuple[Event, ...], says: str
) -> None:
    (found,) = otherwise(seen, ending, champion, opened_by, events)
    assert found.startswith(says)


def test_gates_are_read_from_events_of_their_own_too() -> None:
    decided = event("gate.decided", {"gate": "metric against champion", "outcome": "failed"})
    assert gate_outcomes((decided,)) == gate_outcomes(REFUSED) == {"metric against champion": "failed"}


def test_the_opener_is_the_one_of_this_release() -> None:
    events = [event("candidate.observed", {"release": f"m-{n}"}, actor=f"actor {n}") for n in (1, 2)]
    assert (opener(events, "m-2"), opener(events, "m-3")) == ("actor 2", "")


@pytest.mark.parametrize(
    ("body", "status", "wrong"),
    [(7, 500, ()), (8, 200, ()), (7, 200, ("load-1 with the pair got 200",)), (8, 500, ("load-1 without the pair got 500",))],
)
def test_version_3_fails_on_exactly_the_pair(tmp_path: Path, body: int, status: int, wrong: tuple[str, ...]) -> None:
    sent = {"id": "load-1", "body": body, "status": status, "revision": "sha256:3"}
    log = tmp_path / "client.jsonl"
    log.write_text("".join(json.dumps(each) + "\n" for each in (sent, sent | {"revision": "sha256:2", "status": 503})))
    assert wrong_answers(log, "sha256:3", frozenset({7})) == (int(body == 7), wrong)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sent": 599}, "599 requests were sent, 600 were due"),
        ({"rate": 49.9}, "49.9 requests a second"),
        ({"p99_lag_ms": 1000.1}, "one request in a hundred"),
    ],
)
def test_a_load_that_was_not_the_promised_one_is_a_problem(given: dict[str, Any], says: str) -> None:
    assert load_problems(GOOD_LOAD) == []
    (found,) = load_problems(replace(GOOD_LOAD, **given))
    assert found.startswith(says)


def classified(**given: Any) -> Classification:
    nothing: dict[str, Any] = dict.fromkeys(
        (
            "sent",
            "answered",
            "failed",
            "failed_through_convoy",
            "envoy_requests",
            "envoy_attempts",
            "unmatched",
            "duplicates",
            "disagreements",
        ),
        0,
    )
    nothing |= {"by_cause": {}, "attempts_by_revision": {}, "p50_ms": None, "p99_ms": None}
    nothing |= {
        name: [] for name in ("client_by_revision", "envoy_by_revision", "routed", "counted", "unmatched_ids", "disagreeing_ids", "raw")
    }
    return Classification.model_validate(nothing | given)


def test_requests_that_the_logs_do_not_agree_on_are_problems() -> None:
    assert request_problems(classified()) == []
    assert len(request_problems(classified(unmatched=1, duplicates=1, disagreements=1, failed_through_convoy=1))) == 4


def test_every_line_of_a_revision_that_was_never_let_in_is_counted() -> None:
    rows = [
        {"log": "access", "chosen": "sha256:2", "served": "sha256:2", "requests": 9},
        {"log": "access", "chosen": "", "served": "", "requests": 1},
        {"log": "access", "chosen": "sha256:2", "served": "sha256:4", "requests": 2},
        {"log": "attempts", "chosen": "sha256:4", "served": "", "requests": 3},
    ]
    releases = (PROMOTED_VIEW, view("rejected", digest="sha256:4"))
    assert strangers(classified(routed=rows), releases) == {"access": 2, "attempts": 3}


def test_a_canary_that_the_ledger_never_counted_is_a_problem() -> None:
    assert len(uncounted((PROMOTED_VIEW,))) == 1
    assert uncounted((ROLLED_BACK_VIEW, REJECTED_VIEW)) == []


def test_text_that_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "[/v2/health] said no"
    raw = {"client": {"id": "1", "status": 0, "error": odd}, "envoy": None}
    found = classified(raw=[raw] * 21, by_cause={odd: 1})
    show(Summary((), (view("failed", reasons=(odd,)),), found, GOOD_LOAD, (), {"edge": odd}, (odd,), 1.0), as_json=False)
    printed = capsys.readouterr().out
    assert printed.count(odd) >= 4
    assert "and 1 more" in printed
