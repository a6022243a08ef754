"""On the real stack: the service is measured, every region is asked before any traffic, and one that answers otherwise ends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from clouds.local.counters import SUFFIX, read_counters
from flows.effects import Course, Ending, effects_of
from support.stack import GATED, REGIONS

if TYPE_CHECKING:
    from control.views import ReleaseView
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(400)]


def completed(stack: TestStack, view: ReleaseView) -> list[str]:
    events = stack.house.ledger.stream(f"release/{view.release}")
    return sorted(str(event.effect_key) for event in events if event.type == "effect.completed")


def course(view: ReleaseView) -> Course:
    return Course(REGIONS, str(view.digest), measured=True, asked=True)


def golden_requests(stack: TestStack, region: str) -> int:
    """How many requests for golden answers a region's servers of the model have counted."""
    files = stack.house.home.usage(region).glob(f"serve-{region}-{GATED}-*{SUFFIX}")
    return sum(found.figures["golden"].requests for file in files if (found := read_counters(file)) is not None)


def test_a_revision_is_measured_and_asked_in_every_region_and_one_that_answers_otherwise_gets_no_traffic(
    stack: TestStack, alone: None
) -> None:
    done = stack.release(GATED, stack.register(GATED))
    assert done.returncode == 0, done.stderr
    (first,) = stack.releases(GATED)
    assert first.phase == "promoted", first.reasons
    assert completed(stack, first) == sorted(effects_of(Ending.FIRST, course(first)))
    shown = stack.convoy("gates", first.release)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"cold start ms \| \d+", shown.stdout)
    for region in REGIONS:
        assert f"## golden answers in {region}: passed" in shown.stdout
        assert golden_requests(stack, region) == 1
    captured = stack.house.home.captured(REGIONS[0]) / GATED
    assert not list(captured.rglob("*.parquet"))

    again = stack.flow(f"check_golden({GATED!r})")
    assert f"{GATED}: reproduced in {', '.join(REGIONS)}" in again.stdout, again.stderr

    done = stack.release(GATED, stack.register(GATED, "shifts europe-west4"))
    assert done.returncode == 0, done.stderr
    second = stack.releases(GATED)[1]
    assert second.phase == "rejected", second.reasons
    assert completed(stack, second) == sorted(effects_of(Ending.UNLIKE, course(second)))
    assert "golden answers in europe-west4: request 1, output 'output': expected -2.0, got -1.0" in " ".join(second.reasons)
    for region in REGIONS:
        assert [status.revision for status in stack.house.target(region).status(GATED, region)] == [first.digest]
    assert stack.convoy("gates", second.release).returncode == 3
