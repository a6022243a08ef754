"""A share that is not the one asked for: told once when it has lasted too long, and once when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from flows import incidents
from flows.desires import observe_candidate
from flows.incidents import CLOSED, OPENED, ShareWatch
from flows.work import Claim, Work
from monitoring.share import MeasuredShare
from support.stack import house_without_servers

AS_ASKED, TOO_MANY = MeasuredShare(0.2, 500, real=True), MeasuredShare(0.71, 500, real=False, unlike=True)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The steady clock, which the test sets."""
    found = [1000.0]
    monkeypatch.setattr(incidents.time, "monotonic", lambda: found[0])
    return found


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    house = house_without_servers(tmp_path)
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert desire is not None
    lease = house.leases.take("toy", "test", 30)
    assert lease is not None
    with house.leases.held(lease) as held, disable_run_logger():
        yield Work.of(house, desire, Claim(held))


def told(work: Work) -> list[str]:
    return [event.type for event in work.journal.events() if event.type in (OPENED, CLOSED)]


def test_what_differs_for_a_moment_is_no_incident(work: Work, now: list[float]) -> None:
    watch = ShareWatch()
    for _ in range(20):
        assert watch.look(work, TOO_MANY, 20) == ""
        now[0] += 59
        assert watch.look(work, AS_ASKED, 20) == ""
        now[0] += 1
    assert told(work) == []


def test_what_differs_for_too_long_is_told_once_and_so_is_its_end(work: Work, now: list[float]) -> None:
    watch = ShareWatch()
    watch.look(work, TOO_MANY, 20)
    for _ in range(3):
        now[0] += 61
        assert "20 % were asked for, and 71.0% of 500 requests seen" in watch.look(work, TOO_MANY, 20)
    assert told(work) == [OPENED]
    watch.look(work, AS_ASKED, 20)
    watch.look(work, AS_ASKED, 20)
    assert told(work) == [OPENED, CLOSED]


def test_a_controller_that_takes_over_does_not_tell_the_same_incident_again_and_tells_its_end(work: Work, now: list[float]) -> None:
    first, second = ShareWatch(), ShareWatch()
    first.look(work, TOO_MANY, 20)
    now[0] += 61
    first.look(work, TOO_MANY, 20)
    second.look(work, TOO_MANY, 20)
    now[0] += 61
    assert second.look(work, TOO_MANY, 20)
    assert told(work) == [OPENED]
    second.look(work, AS_ASKED, 20)
    assert told(work) == [OPENED, CLOSED]
