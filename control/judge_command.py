"""`convoy judge RELEASE`: judge a canary again from the ledger alone, with its own limits or with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from control.printing import out, print_json
from fleet.errors import ExitCode, InputError, UnknownName
from fleet.evidence import Outcome, Verdict
from flows.desires import release_stream
from flows.house import House
from flows.judging import CRITERIA
from flows.observed import JUDGED, Observed, Sides, observed_in, wave_of
from monitoring.conviction import Evidence
from monitoring.criteria import Criteria, criteria_from
from monitoring.judge import judge
from monitoring.replay import Decided, decide
from monitoring.strata import pairs_by_region, strata_by_region
from registry.ledger import Event

ENDINGS = {Outcome.PROMOTE: ExitCode.DONE, Outcome.ROLL_BACK: ExitCode.ROLLED_BACK, Outcome.NOT_ENOUGH_DATA: ExitCode.DONE}


@dataclass(frozen=True, slots=True)
class Again:
    """A canary judged again: the verdict on all that was seen, when it was reached, and what was said at the time.

    `differs` names what was recorded and does not come out again; it is empty where limits were changed.
    """

    release: str
    verdict: Verdict
    decided: Decided
    recorded: str
    changed: Mapping[str, str]
    code: str
    looks: int
    differs: tuple[str, ...]


def judge_release(release: str, changes: Sequence[str], as_json: bool) -> ExitCode:
    """Judge a release again and show it; nothing is changed anywhere.

    Raises UnknownName for a release without a canary, InputError for a limit that does not exist. Returns 4 where the
    verdict is to roll back, as the release itself does.
    """
    again = judged_again(House.open(), release, parse(changes))
    if as_json:
        print_json(as_document(again))
    else:
        show(again)
    if again.differs:
        return ExitCode.FAILED
    return ENDINGS[again.verdict.outcome]


def parse(changes: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs; raises InputError for anything else."""
    found = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not (name and equals and value) or name in found:
            raise InputError(f"--set {change}", "is no single NAME=VALUE", "For example: --set alpha=0.01")
        found[name] = value
    return found


def judged_again(house: House, release: str, changes: Mapping[str, str]) -> Again:
    """Return a release's canary judged again from the ledger, which is verified first."""
    house.ledger.verify()
    events = house.ledger.stream(release_stream(release))
    told = [event for event in events if event.type == CRITERIA]
    looks = [event for event in events if event.type == JUDGED]
    if not told or not looks:
        why = "no release has that name" if not events else "it had no canary, or one that was not recorded for this"
        raise UnknownName(f"release '{release}'", why, "See `convoy ledger show`.")
    limits = told[-1].payload
    seen = seen_in(events, told[-1])
    regions = tuple(map(str, _list(limits["regions"])))
    criteria = criteria_from(limits, changes)
    verdict = judge(criteria, seen.evidence(regions), _moment(looks[-1]))
    return Again(
        release=release,
        verdict=verdict,
        decided=_decided(criteria, seen, regions, looks),
        recorded=str(looks[-1].payload["outcome"]),
        changed=changes,
        code=str(limits["code"]),
        looks=len(looks),
        differs=() if changes else _differences(looks[-1], verdict),
    )


def seen_in(events: Sequence[Event], told: Event) -> Observed:
    """Return what was seen, by the revisions that the limits were recorded for."""
    sides = Sides(str(told.payload["model"]), str(told.payload["canary"]), str(told.payload["stable"]))
    return observed_in(events, sides, int(str(told.payload["since"])))


def as_document(again: Again) -> dict[str, Any]:
    """Return it for machines."""
    verdict = again.verdict
    return {
        "release": again.release,
        "outcome": verdict.outcome.value,
        "recorded_outcome": again.recorded,
        "first_reached": _time(again.decided.second),
        "first_outcome": again.decided.outcome.value,
        "harm": f"{verdict.harm:.6g}",
        "harm_limit": f"{verdict.harm_limit:.6g}",
        "metrics": {found.metric.value: f"{found.harm:.6g}" for found in verdict.metrics},
        "only_in": verdict.only_in,
        "reasons": list(verdict.reasons),
        "changed": dict(again.changed),
        "looks": again.looks,
        "code": again.code,
        "differs": list(again.differs),
    }


def show(again: Again) -> None:
    """Print it for people."""
    verdict = again.verdict
    changed = ", ".join(f"{name}={value}" for name, value in again.changed.items())
    limits = f" with {escape(changed)}" if changed else ""
    out.print(f"{escape(again.release)} judged again from {again.looks} looks{limits}: [bold]{verdict.outcome}[/]")
    out.print(f"  at the time: {again.recorded} (judge {escape(again.code)})", highlight=False)
    if again.decided.second is not None:
        out.print(f"  first reached: {again.decided.outcome} at {_time(again.decided.second)}", highlight=False)
    table = Table("metric", "evidence of harm", "stake")
    for found in verdict.metrics:
        table.add_row(found.metric.value, f"{found.harm:.3g}", f"{found.stake:.0%}")
    out.print(table)
    for reason in (*verdict.reasons, *again.differs):
        out.print(f"  {reason}", markup=False, highlight=False)


def _decided(criteria: Criteria, seen: Observed, regions: tuple[str, ...], looks: Sequence[Event]) -> Decided:
    """Return when an end was first reached; a promotion counts from the first look at the last weight of the last wave."""
    evidence = seen.evidence(regions)
    reached = [(wave_of(look), int(str(look.payload["weight"]))) for look in looks]
    first = looks[reached.index(max(reached))]
    return decide(
        criteria, Evidence(strata_by_region(evidence), pairs_by_region(evidence), evidence.cuts, seen.horizon), int(first.at.timestamp())
    )


def _differences(look: Event, verdict: Verdict) -> tuple[str, ...]:
    """Say what does not come out again; without its outcome a verdict was put off by something that is no evidence."""
    recorded = look.payload
    told = [("harm", str(recorded["harm"]), f"{verdict.harm:.6g}")]
    if recorded["outcome"] != Outcome.NOT_ENOUGH_DATA:
        told.append(("outcome", str(recorded["outcome"]), verdict.outcome.value))
    return tuple(
        f"{name} was recorded as {was} and is {now} now: another judge, or a changed record" for name, was, now in told if was != now
    )


def _moment(event: Event) -> datetime:
    return event.at if event.at.tzinfo else event.at.replace(tzinfo=UTC)


def _time(second: int | None) -> str | None:
    return None if second is None else datetime.fromtimestamp(second, UTC).isoformat()


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
