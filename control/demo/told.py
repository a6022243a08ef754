"""Whether a release ended as the story tells it: pure functions that return what was otherwise, nothing when all was as told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from control.views import ReleaseView
from fleet.canonical import canonical_json
from fleet.evidence import GateOutcome, Outcome
from fleet.phases import ReleasePhase
from flows import effects
from registry.ledger import Event

WEBHOOK = "MLflow webhook"
PICKED_UP_SECONDS = 30.0
"""The automation takes up a release well within this; reconcile looks once a minute."""
METRIC_GATE = "metric against champion"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a version's release ends: its phase, what the judge said last (None: no canary), and which gate refused it."""

    phase: ReleasePhase
    judged: Outcome | None = None
    refused_by: str | None = None


FIRST = Ending(ReleasePhase.PROMOTED)
PROMOTED = Ending(ReleasePhase.PROMOTED, Outcome.PROMOTE)
ROLLED_BACK = Ending(ReleasePhase.ROLLED_BACK, Outcome.ROLL_BACK)
REJECTED = Ending(ReleasePhase.REJECTED, refused_by=METRIC_GATE)


def otherwise(view: ReleaseView, ending: Ending, champion: str | None, opened_by: str, events: Sequence[Event]) -> tuple[str, ...]:
    """Return what differs from the ending that was told; `events` are the release's own."""
    return (*_phase(view, ending, champion), *_start(view, opened_by), *_canary(view, ending), *_refusal(view, ending, events))


def opener(events: Iterable[Event], release: str) -> str:
    """Return who opened the desire that a release answers, from the events of its model; empty for nobody."""
    return next((event.actor for event in events if event.type == "candidate.observed" and event.payload.get("release") == release), "")


def _phase(view: ReleaseView, ending: Ending, champion: str | None) -> list[str]:
    found = [] if view.phase == ending.phase.value else [f"it ended {view.phase}, not {ending.phase.value}"]
    if (champion == view.version) != (ending.phase is ReleasePhase.PROMOTED):
        found.append(f"champion is version {champion}")
    return found


def _start(view: ReleaseView, opened_by: str) -> list[str]:
    found = [] if opened_by == WEBHOOK else [f"it was opened by {opened_by or 'nobody'}, not by the {WEBHOOK}"]
    waited = view.seconds.get(ReleasePhase.REQUESTED.value)
    if waited is None or waited > PICKED_UP_SECONDS:
        found.append(f"nobody took it up within {PICKED_UP_SECONDS:.0f} s" + ("" if waited is None else f" but after {waited:.1f} s"))
    return found


def _canary(view: ReleaseView, ending: Ending) -> list[str]:
    took_place = any(entered.phase == ReleasePhase.CANARY.value for entered in view.phases)
    if ending.judged is None:
        return ["a canary took place"] if took_place else []
    if not took_place:
        return ["no canary took place"]
    judged = (view.canary or {}).get("outcome")
    found = [] if judged == ending.judged.value else [f"the judge's last word was {judged!r}, not {ending.judged.value!r}"]
    if ending.judged is Outcome.ROLL_BACK and not _number((view.counted or {}).get("bad")):
        found.append("no bad answer of it was counted")
    return found


def _refusal(view: ReleaseView, ending: Ending, events: Sequence[Event]) -> list[str]:
    if ending.refused_by is None:
        return []
    outcome = gate_outcomes(events).get(ending.refused_by)
    found = [] if outcome == GateOutcome.FAILED.value else [f"the gate '{ending.refused_by}' said {outcome or 'nothing'}"]
    if view.digest is not None:
        found.append(f"it was packaged as {view.digest}")
    beyond = {entered.phase for entered in view.phases} - {ReleasePhase.VALIDATING.value, ReleasePhase.REJECTED.value}
    if beyond:
        found.append(f"it went through {', '.join(sorted(beyond))}")
    return found


def gate_outcomes(events: Iterable[Event]) -> dict[str, str]:
    """Return what each gate said last: an event of its own, or one of the results of the effect `gates`."""
    found: dict[str, str] = {}
    for event in events:
        payload: dict[str, JsonValue] = json.loads(canonical_json(event.payload))
        if event.type == "gate.decided":
            results: JsonValue = [payload]
        elif event.type == "effect.completed" and event.effect_key == effects.GATES:
            results = payload.get("results", [])
        else:
            continue
        for result in results if isinstance(results, list) else []:
            if isinstance(result, dict):
                found[str(result.get("gate"))] = str(result.get("outcome"))
    return found


def wrong_answers(client_log: Path, digest: str, pair_bodies: frozenset[int]) -> tuple[int, tuple[str, ...]]:
    """Return how many requests with the pair a revision answered, and those that ended otherwise than the pair tells.

    Requests with the pair must all have failed, all others must have been answered well.
    """
    failed, wrong = 0, []
    with client_log.open(encoding="utf-8") as lines:
        for sent in map(json.loads, lines):
            if sent["revision"] != digest:
                continue
            has_pair, bad = sent["body"] in pair_bodies, not 200 <= sent["status"] < 300
            failed += has_pair
            if has_pair != bad:
                wrong.append(f"{sent['id']} {'with' if has_pair else 'without'} the pair got {sent['status']}")
    return failed, tuple(wrong)


def _number(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0
