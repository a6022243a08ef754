"""The demo's summary: releases, requests, and whether three independent counts agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue
from rich.markup import escape

from control.demo.chapter import Chapter
from control.demo.classification import ByRevision, Classification
from control.demo.epilogue import billed, watches
from control.demo.story import MODEL, Story
from control.printing import out, print_json, print_table
from control.views import ReleaseView, release_views
from fleet.phases import ReleasePhase
from traffic.load import Totals

LEAST_RATE = 50.0
MOST_LAG_MS = 1000.0
"""Latency counts from when a request was due, so lag is in every figure; this is where the load is no load any more."""
RAW_SHOWN = 20
WITH_TRAFFIC = (ReleasePhase.PROMOTED, ReleasePhase.ROLLED_BACK, ReleasePhase.SUPERSEDED)
"""Only releases that ended so were ever given a share of the requests."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One figure as several parties counted it."""

    figure: str
    counts: dict[str, int]

    @property
    def agrees(self) -> bool:
        """Whether all of them counted the same."""
        return len(set(self.counts.values())) == 1


@dataclass(frozen=True, slots=True)
class Summary:
    """All that the demo tells at its end; `problems` is empty when everything was as told."""

    chapters: tuple[Chapter, ...]
    releases: tuple[ReleaseView, ...]
    requests: Classification | None
    load: Totals | None
    agreements: tuple[Agreement, ...]
    look_at: dict[str, str]
    problems: tuple[str, ...]
    seconds: float


def summarize(story: Story, requests: Classification | None, seconds: float, failure: str | None) -> Summary:
    """Put the story, the classified requests and the ledger side by side."""
    house, load = story.driver.house, story.driver.totals
    releases = release_views(house.ledger, MODEL)
    agreements = agree(requests, load, releases) if requests is not None and load is not None else ()
    problems = [failure] if failure else []
    if requests is None or load is None:
        problems.append("the requests were not classified")
    else:
        problems += [*load_problems(load), *request_problems(requests)]
        problems += bill_problems(requests, billed(house)) if failure is None else []
    problems += uncounted(releases)
    problems += [f"{found.figure}: {found.counts}" for found in agreements if not found.agrees]
    look_at = {
        "Prefect UI": house.stack.prefect_url,
        "MLflow UI": house.stack.mlflow_url,
        "edge": house.edge_place(None).url,
        "ledger": f"CONVOY_HOME={house.home.root} convoy ledger show",
        "status": f"CONVOY_HOME={house.home.root} convoy status",
        "stop it": f"CONVOY_HOME={house.home.root} convoy down",
    }
    return Summary(tuple(story.chapters), releases, requests, load, agreements, look_at, tuple(problems), round(seconds, 1))


def load_problems(load: Totals) -> list[str]:
    """Return why the load was not the one that was promised."""
    found = []
    if load.sent != load.scheduled:
        found.append(f"{load.sent} requests were sent, {load.scheduled} were due")
    if load.rate < LEAST_RATE:
        found.append(f"{load.rate:.1f} requests a second were reached, fewer than {LEAST_RATE:.0f}")
    if load.p99_lag_ms > MOST_LAG_MS:
        found.append(f"one request in a hundred went out {load.p99_lag_ms:.0f} ms late or more (at most {MOST_LAG_MS:.0f} ms)")
    return found


def request_problems(requests: Classification) -> list[str]:
    """Return what went wrong with the requests, or with their two logs."""
    counts = {
        "requests failed through Convoy's doing": requests.failed_through_convoy,
        "requests stand in only one of the client's and Envoy's logs": requests.unmatched,
        "lines of a log repeat a request": requests.duplicates,
        "requests have another revision or status in Envoy's log than in the client's": requests.disagreements,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def bill_problems(requests: Classification, predictions: int) -> list[str]:
    """Return whether the bills charge other predictions than callers were given.

    An attempt that was given up and tried again may have been answered after all: so many more may stand in the bills.
    """
    tried_again = max(requests.envoy_attempts - requests.envoy_requests, 0)
    if requests.answered <= predictions <= requests.answered + tried_again:
        return []
    return [f"the bills charge {predictions} predictions, callers were given {requests.answered} ({tried_again} attempts were repeated)"]


def uncounted(releases: tuple[ReleaseView, ...]) -> list[str]:
    """Return the releases that had a canary whose attempts the ledger never counted."""
    had_canary = [each for each in releases if any(entered.phase == ReleasePhase.CANARY.value for entered in each.phases)]
    return [f"{each.release} had a canary, and the ledger has no count of it" for each in had_canary if each.counted is None]


def agree(requests: Classification, load: Totals, releases: tuple[ReleaseView, ...]) -> tuple[Agreement, ...]:
    """Compare what the client, Envoy and the ledger counted."""
    found = [
        Agreement("requests", {"scheduled": load.scheduled, "sent": load.sent, "client": requests.sent, "envoy": requests.envoy_requests}),
        Agreement("answers by revision", _by_revision(requests)),
        Agreement("lines of revisions that were never let in", {"none": 0} | strangers(requests, releases)),
    ]
    for release in releases:
        if release.counted is not None and release.digest is not None:
            found += _promoted(requests, release) if release.phase == ReleasePhase.PROMOTED else _taken_back(requests, release)
    return tuple(found)


def strangers(requests: Classification, releases: tuple[ReleaseView, ...]) -> dict[str, int]:
    """Count the lines of each of Envoy's logs that name a revision of no release that ever had traffic."""
    known = {each.digest for each in releases if each.phase in WITH_TRAFFIC and each.digest} | {""}
    found = {"access": 0, "attempts": 0}
    for each in requests.routed:
        found[each.log] += 0 if {each.chosen, each.served} <= known else each.requests
    return found


def _taken_back(requests: Classification, release: ReleaseView) -> list[Agreement]:
    """Compare all that a revision ever did: it had no traffic but the canary's."""
    digest, ledger = release.digest or "", release.counted or {}
    bad = {"client": _bad(requests.client_by_revision, digest), "envoy": _bad(requests.envoy_by_revision, digest)}
    attempts = {"envoy": requests.attempts_by_revision.get(digest, 0)}
    return [
        Agreement(f"bad answers of version {release.version}", bad | {"ledger": _number(ledger, "bad")}),
        Agreement(f"attempts on version {release.version}", attempts | {"ledger": _number(ledger, "attempts")}),
    ]


def _promoted(requests: Classification, release: ReleaseView) -> list[Agreement]:
    """Compare what a revision did in the seconds that the ledger counted: it went on to serve afterwards."""
    ledger = release.counted or {}
    envoy = next((each for each in requests.counted if each.release == release.release), None)
    seen = {"bad": -1, "attempts": -1} if envoy is None else {"bad": envoy.bad, "attempts": envoy.attempts}
    return [
        Agreement(f"{what} of version {release.version} until promoted", {"envoy": seen[key], "ledger": _number(ledger, key)})
        for key, what in (("bad", "bad attempts"), ("attempts", "attempts"))
    ]


def _number(counted: dict[str, JsonValue], key: str) -> int:
    """Return a count of the ledger; -2, which agrees with nothing, where it is missing."""
    value = counted.get(key)
    return value if isinstance(value, int) else -2


def _by_revision(requests: Classification) -> dict[str, int]:
    """Count the answers that client and Envoy ascribe to the same revision and status."""
    client = {(row.revision, row.status): row.requests for row in requests.client_by_revision}
    envoy = {(row.revision, row.status): row.requests for row in requests.envoy_by_revision}
    same = sum(min(count, envoy.get(place, 0)) for place, count in client.items())
    return {"client": sum(client.values()), "envoy": sum(envoy.values()), "same in both": same}


def _bad(rows: tuple[ByRevision, ...], digest: str) -> int:
    return sum(row.requests for row in rows if row.revision == digest and row.status >= 500)


def show(summary: Summary, as_json: bool) -> None:
    """Print the summary."""
    if as_json:
        print_json(_plain(summary))
        return
    rows = [(r.release, r.version, r.phase, f"{sum(r.seconds.values()):.0f} s", "; ".join(r.reasons)) for r in summary.releases]
    print_table("Releases", ("release", "version", "ended", "took", "why"), [tuple(map(escape, row)) for row in rows])
    if summary.requests is not None:
        _show_requests(summary, summary.requests)
    _show_watches(summary)
    for what, where in summary.look_at.items():
        out.print(f"  {what:<11} {where}", markup=False)
    if summary.problems:
        out.print("[bold red]Not as told:[/]")
        for problem in summary.problems:
            out.print(f"  {problem}", markup=False)
    else:
        out.print(f"[bold green]Everything ended as told[/], in {summary.seconds:.0f} s.")


def _show_watches(summary: Summary) -> None:
    """Tell what the scheduled flows found, each of which ran once at the end."""
    titles = {watch.title for watch in watches(MODEL)}
    rows = [(escape(each.title), escape(each.says), f"{each.seconds:.0f} s") for each in summary.chapters if each.title in titles]
    print_table("The scheduled watches", ("watch", "found", "took"), rows)


def _show_requests(summary: Summary, found: Classification) -> None:
    rows = [("sent", str(found.sent)), ("answered with 2xx", str(found.answered)), ("failed", str(found.failed))]
    rows += [(f"  {cause}", str(count)) for cause, count in found.by_cause.items() if cause not in ("answered", "Convoy")]
    rows += [("  through Convoy's doing", str(found.failed_through_convoy))]
    rows += [("p50 / p99", f"{found.p50_ms} / {found.p99_ms} ms")]
    if (load := summary.load) is not None:
        rows += [("reached rate", f"{load.rate:.1f} a second"), ("went out late, p99 / max", f"{load.p99_lag_ms} / {load.max_lag_ms} ms")]
    for release in summary.releases:
        if release.counted is not None:
            took = release.seconds.get("canary", 0.0)
            figure = f"{release.counted.get('bad')} bad of {release.counted.get('attempts')}, canary of {took:.0f} s"
            rows.append((f"version {release.version} until its canary ended", figure))
    print_table("Requests", ("what", "figure"), [tuple(map(escape, row)) for row in rows])
    agreements = [
        (escape(each.figure), escape(", ".join(f"{who} {count}" for who, count in each.counts.items())), "yes" if each.agrees else "NO")
        for each in summary.agreements
    ]
    print_table("Do they agree?", ("figure", "counts", "agree"), agreements)
    _show_raw(found)


def _show_raw(found: Classification) -> None:
    if not found.raw:
        return
    rows = [
        (
            str(each.client["id"]),
            str(each.client["status"]),
            str(each.client["error"]),
            "nothing" if each.envoy is None else str(each.envoy),
        )
        for each in found.raw[:RAW_SHOWN]
    ]
    print_table("Failed through Convoy's doing", ("request", "status", "error", "Envoy"), [tuple(map(escape, row)) for row in rows])
    if len(found.raw) > RAW_SHOWN:
        out.print(f"  and {len(found.raw) - RAW_SHOWN} more: see --json", markup=False)


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "as_told": not summary.problems,
        "problems": list(summary.problems),
        "seconds": summary.seconds,
        "chapters": [
            {"title": each.title, "as_told": each.as_told, "says": each.says, "seconds": round(each.seconds, 1)}
            for each in summary.chapters
        ],
        "releases": [each.model_dump(mode="json") for each in summary.releases],
        "requests": None if summary.requests is None else summary.requests.model_dump(mode="json"),
        "load": None if summary.load is None else asdict(summary.load),
        "agreements": [asdict(each) | {"agrees": each.agrees} for each in summary.agreements],
        "look_at": summary.look_at,
    }
