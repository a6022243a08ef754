"""What the demo does once its story is told: each scheduled watch runs once, as Prefect runs it, and says what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from control.demo.chapter import Chapter
from control.stack.components import Site
from control.stack.prefect_runs import run_now
from fleet.canonical import canonical_json
from flows.costed import RECONCILED, STREAM
from flows.drifting import MEASURED, drift_stream
from flows.drill_journal import ENDED, drill_stream
from flows.house import House
from monitoring.costs.deviations import ALL, Outcome
from monitoring.costs.splitting import UNATTRIBUTED
from monitoring.drift import DriftOutcome
from monitoring.drills import DrillOutcome
from registry.ledger import Event

WATCH_SECONDS = 240.0
DRILLED = "europe-west4"
DRILL_RATE = 50.0
DRILL_WINDOW = 3.0
"""Seconds: half a minute of drill is enough for a demo."""
LIVE = ("live", "canary")

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """A scheduled flow, the event in which it says what it found, and how that must be for the demo to be as told."""

    title: str
    deployment: str
    parameters: Mapping[str, str | float]
    stream: str
    event: str
    wrong: Callable[[Payload], str]
    says: Callable[[Payload], str]


def watches(model: str) -> tuple[Watch, ...]:
    """Return the watches of the demo's model; the drill is the last one, since it takes a region away."""
    return (
        Watch(
            "what was answered is held against what version 1 learned from",
            "monitor_drift",
            {"model": model},
            drift_stream(model),
            MEASURED,
            lambda found: (
                "" if found["outcome"] == DriftOutcome.STABLE.value else f"the census did not drift, yet it says {found['outcome']}"
            ),
            _drift,
        ),
        Watch("the regions' bills are split to the last digit", "reconcile_costs", {}, STREAM, RECONCILED, _unsplit, _costs),
        Watch(
            f"{DRILLED} is lost on purpose, under load, and put back",
            "failover_drill",
            {"region": DRILLED, "rate": DRILL_RATE, "window_seconds": DRILL_WINDOW},
            drill_stream(DRILLED),
            ENDED,
            lambda found: _otherwise(found, DrillOutcome.PASSED),
            lambda found: "; ".join(found["reasons"]),
        ),
    )


def watched(house: House, watch: Watch) -> Chapter:
    """Have Prefect run a watch now and return what it found; raises OperationFailed when the run does not end well."""
    began = time.monotonic()
    before = house.ledger.last(watch.stream, watch.event)
    run_now(Site(house.home, house.settings, house.stack, house.credentials), watch.deployment, watch.parameters, WATCH_SECONDS)
    event = house.ledger.last(watch.stream, watch.event)
    if event is None or (before is not None and event.seq == before.seq):
        return Chapter(watch.title, False, f"no {watch.event} stands in the ledger", time.monotonic() - began)
    found = plain(event)
    wrong = watch.wrong(found)
    return Chapter(watch.title, not wrong, "; ".join(filter(None, (wrong, watch.says(found)))), time.monotonic() - began)


def billed(house: House) -> int:
    """Return how many predictions for callers stand in the regions' bills: every hour that is over, and the one that goes on."""
    events = [plain(event) for event in house.ledger.stream(STREAM) if event.type == RECONCILED]
    counted = [found for found in events if found["final"]] + [found for found in events[-1:] if not found["final"]]
    parts = [part for found in counted for part in found["parts"]]
    return sum(int(Decimal(part["predictions"])) for part in parts if part["traffic"] in LIVE)


def plain(event: Event) -> Payload:
    """Return an event's payload as JSON has it."""
    found: Payload = json.loads(canonical_json(event.payload))
    return found


def _otherwise(found: Payload, told: StrEnum) -> str:
    return "" if found["outcome"] == told.value else f"it says {found['outcome']}, not {told.value}; {'; '.join(found['reasons'])}"


def _drift(found: Payload) -> str:
    rows = sum(int(count) for count in found["rows"].values())
    worst = found["columns"][0] if found["columns"] else None
    most = f"; the most that a column moved: {worst['column']}, index {worst['psi']} of {found['limits']['psi']}" if worst else ""
    return f"{found['outcome']}, {rows} rows of three regions against {found['reference']['path']}{most}"


def _unsplit(found: Payload) -> str:
    """Say what is wrong with the split: parts that are not the whole, nothing billed, or costs that belong to nobody."""
    whole = sum(Decimal(total["billed"]) for total in found["totals"])
    parts = sum(Decimal(part["billed"]) for part in found["parts"])
    if parts != whole or whole <= 0:
        return f"the parts come to {parts}, the bills to {whole}"
    nobodys = [part for part in found["parts"] if UNATTRIBUTED in (part["model"], part["region"], part["traffic"])]
    return "; ".join(f"{part['billed']} of {part['model']} in {part['region']} belong to nobody" for part in nobodys)


def _costs(found: Payload) -> str:
    kinds: dict[str, Decimal] = {}
    for part in found["parts"]:
        kinds[part["traffic"]] = kinds.get(part["traffic"], Decimal(0)) + Decimal(part["billed"])
    split = ", ".join(f"{kind} {amount.quantize(Decimal('1e-6'))}" for kind, amount in sorted(kinds.items()))
    total = next(place for place in found["places"] if place["region"] == ALL)
    each = "none" if total["per_thousand"] is None else str(Decimal(total["per_thousand"]).quantize(Decimal("1e-6")))
    deviating = sum(place["outcome"] in (Outcome.ABOVE, Outcome.BELOW) for place in found["places"])
    return f"{split} {total['currency']}; {each} per 1,000 predictions; {deviating} deviations from the forecast"
