"""What Prefect's UI says of a canary at a tick."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.commands import Command
from fleet.evidence import Outcome, RegionEvidence, Verdict
from flows import showing
from flows.orders import Go, Order, Orders, Turn
from flows.showing import Progress, plot, show_progress
from monitoring.share import MeasuredShare


@pytest.mark.parametrize(
    ("course", "drawn"), [((), ""), ((0.0, 0.5, 1.0), "▁▅█"), ((0.0, 0.13, 0.26, 0.38, 0.51, 0.63, 0.76, 0.88), "▁▂▃▄▅▆▇█")]
)
def test_the_evidence_is_drawn_as_columns_of_which_a_full_one_is_the_limit(course: tuple[float, ...], drawn: str) -> None:
    assert plot(course) == drawn


@pytest.mark.parametrize(
    ("outcome", "seconds", "says"),
    [
        (Outcome.NOT_ENOUGH_DATA, 41.2, "120 more clean answers are needed: about 42 s at this rate."),
        (Outcome.NOT_ENOUGH_DATA, None, "120 more clean answers are needed, and none comes in."),
        (Outcome.ROLL_BACK, None, "Verdict: roll back."),
    ],
)
def test_a_tick_says_the_weight_the_share_the_evidence_its_cost_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, seconds: float | None, says: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(showing, "table", lambda _rows, **more: told.append(more["description"]))
    monkeypatch.setattr(showing, "title", lambda _work: "toy-2")
    monkeypatch.setattr(showing, "key", lambda _work, subject: subject)
    region = RegionEvidence("eu", 100, 3, 900, 2, 4.0, 0.05)
    verdict = Verdict(outcome, (), 4.0, 20.0, (region, region), answers_needed=120, course=(0.0, 0.5))
    work: Any = None
    show_progress(work, Progress(20, {"edge": 20, "eu": -1}, MeasuredShare(0.199, 1000, True), verdict, seconds))
    assert told == [
        "Canary of toy-2: 20 % asked for, 20 % at edge, unknown at eu, 19.9% seen. "
        f"Evidence of harm 4 of 20 ▁▅. It has cost 6 bad answers. {says}"
    ]


def test_a_tick_says_who_holds_the_canary_and_what_was_ordered_and_is_not_obeyed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(showing, "table", lambda _rows, **more: told.append(more["description"]))
    monkeypatch.setattr(showing, "title", lambda _work: "toy-2")
    monkeypatch.setattr(showing, "key", lambda _work, subject: subject)
    at = datetime(2026, 11, 23, tzinfo=UTC)
    extend = Order("id", Command.EXTEND, "night-shift", "rush hour", "a test", at, 60)
    turn = Turn(Go.HOLD, ("Paused by operator night-shift: it looks odd.",), Orders(pending=(extend,)))
    verdict = Verdict(Outcome.NOT_ENOUGH_DATA, (), 4.0, 20.0, ())
    work: Any = None
    show_progress(work, Progress(20, {}, MeasuredShare(0.2, 1000, True), verdict, None, turn))
    says = "Paused by operator night-shift: it looks odd. Ordered and not obeyed yet: extend for 60 s by operator night-shift: rush hour."
    assert told[0].endswith(says)
