"""Golden answers on a schedule: what serves is asked again in each region, and a change is recorded.

Nothing here needs Prefect. The ledger has an event where a region begins or ceases to reproduce them, not one for each
time that it was asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.canonical import canonical_json
from fleet.errors import TransientError
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import Revision
from flows.gate_report import as_payload
from flows.house import House
from flows.kept_golden import Kept, kept_of
from flows.region_answers import Asked, asked
from flows.work import stable_of
from registry.ledger import JSON, Event, NewEvent

CHECKED = "golden.checked"
REPRODUCED, DIFFERENT = "reproduced", "different"


@dataclass(frozen=True, slots=True)
class Checked:
    """What the regions answered for one model; `away` says where and why nobody could be asked, `without` why none was."""

    model: str
    revision: Revision | None = None
    kept: Kept | None = None
    results: Mapping[str, GateResult] = field(default_factory=dict)
    away: Mapping[str, str] = field(default_factory=dict)
    without: str = ""

    @property
    def different(self) -> dict[str, GateResult]:
        """The regions that give other answers."""
        return {region: result for region, result in self.results.items() if result.outcome is not GateOutcome.PASSED}


def golden_stream(model: str) -> str:
    """Return the ledger's stream of a model's golden answers."""
    return f"golden/{model}"


def watched(house: House) -> list[str]:
    """Return the models that declare golden answers."""
    return [name for name, model in house.fleet.models.items() if model.gates.golden is not None]


def check(house: House, model: str, actor: str) -> Checked:
    """Ask the stable revision of a model in each region, and record where that changed.

    A region that cannot be asked now is told of and counts as it did. Raises what the ledger and the origin store raise.
    """
    declared, stable = house.model(model).gates.golden, stable_of(house, model)
    if declared is None or stable is None:
        return Checked(model, without="fleet.yaml declares none" if declared is None else "no version was released yet")
    kept = kept_of(house, stable)
    if kept is None:
        return Checked(model, stable, without=f"version {stable.version} was released without; the next release brings them")
    results: dict[str, GateResult] = {}
    away: dict[str, str] = {}
    for region in house.model(model).regions:
        try:
            results[region] = asked(house, Asked(region, stable, declared, kept))
        except TransientError as problem:
            away[region] = problem.reason
    found = Checked(model, stable, kept, results, away)
    if stable_of(house, model) == stable:
        # Not what a promotion took off the stage meanwhile
        _record(house, found, actor)
    return found


def last_check(house: House, model: str) -> Event | None:
    """Return what was recorded last of a model's stable revision, None where nothing was."""
    last, stable = house.ledger.last(golden_stream(model), CHECKED), stable_of(house, model)
    return last if last is not None and stable is not None and last.payload["digest"] == stable.digest else None


def _record(house: House, found: Checked, actor: str) -> None:
    assert found.revision is not None
    assert found.kept is not None
    last = last_check(house, found.model)
    before = dict(last.payload["regions"]) if last is not None and isinstance(last.payload["regions"], Mapping) else {}
    now: dict[str, JSON] = {region: DIFFERENT if region in found.different else REPRODUCED for region in found.results}
    regions: dict[str, JSON] = {**before, **now}
    if canonical_json(before) == canonical_json(regions):
        return
    payload: dict[str, JSON] = {
        "version": found.revision.version,
        "digest": found.revision.digest,
        "golden": found.kept.digest,
        "regions": regions,
        "results": [as_payload(result) for result in found.different.values()],
    }
    house.ledger.append(NewEvent(golden_stream(found.model), CHECKED, payload, actor, model=found.model))
