"""The demo's summary: releases, requests, and whether three independent counts agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from control.demo.story import MODEL, Chapter, Story
from control.printing import out, print_json, print_table
from control.views import ReleaseView, release_views


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
    requests: dict[str, Any]
    agreements: tuple[Agreement, ...]
    look_at: dict[str, str]
    problems: tuple[str, ...]
    seconds: float


def summarize(story: Story, requests: dict[str, Any], seconds: float, failure: str | None) -> Summary:
    """Put the story, the classified requests and the ledger side by side."""
    house = story.driver.house
    releases = release_views(house.ledger, MODEL)
    agreements = agree(requests, story.driver.totals, releases) if requests else ()
    problems = [failure] if failure else []
    problems += [f"{found.figure}: {found.counts}" for found in agreements if not found.agrees]
    if requests.get("failed_through_convoy"):
        problems.append(f"{requests['failed_through_convoy']} requests failed through Convoy's doing")
    look_at = {
        "Prefect UI": house.stack.prefect_url,
        "MLflow UI": house.stack.mlflow_url,
        "edge": house.stack.edge_url,
        "ledger": f"CONVOY_HOME={house.home.root} convoy ledger show",
        "status": f"CONVOY_HOME={house.home.root} convoy status",
        "stop it": f"CONVOY_HOME={house.home.root} convoy down",
    }
    return Summary(tuple(story.chapters), releases, requests, agreements, look_at, tuple(problems), round(seconds, 1))


def agree(requests: dict[str, Any], totals: dict[str, int], releases: tuple[ReleaseView, ...]) -> tuple[Agreement, ...]:
    """Compare what the client, Envoy and the ledger counted."""
    found = [
        Agreement(
            "requests",
            {"scheduled": totals["scheduled"], "sent": totals["sent"], "client": requests["sent"], "envoy": requests["envoy_requests"]},
        ),
        Agreement("answers by revision", _by_revision(requests)),
    ]
    for release in releases:
        if release.counted is not None and release.digest is not None:
            bad = {who: _bad(requests[f"{who}_by_revision"], release.digest) for who in ("client", "envoy")}
            found.append(Agreement(f"bad answers of version {release.version}", bad | {"ledger": int(str(release.counted["bad"]))}))
            attempts = int(requests["attempts_by_revision"].get(release.digest, 0))
            found.append(
                Agreement(f"attempts on version {release.version}", {"envoy": attempts, "ledger": int(str(release.counted["attempts"]))})
            )
        if release.phase == "rejected" and release.digest is None:
            versions = {event.digest for event in releases if event.digest}
            strangers = sum(
                row["requests"] for row in requests["envoy_by_revision"] if row["revision"] not in versions and row["revision"] != "none"
            )
            found.append(Agreement(f"requests to rejected version {release.version}", {"none": 0, "envoy": strangers}))
    return tuple(found)


def _by_revision(requests: dict[str, Any]) -> dict[str, int]:
    """Count the answers that client and Envoy ascribe to the same revision and status."""
    client = {(row["revision"], row["status"]): row["requests"] for row in requests["client_by_revision"]}
    envoy = {(row["revision"], row["status"]): row["requests"] for row in requests["envoy_by_revision"]}
    same = sum(min(count, envoy.get(place, 0)) for place, count in client.items())
    return {"client": sum(client.values()), "envoy": sum(envoy.values()), "same in both": same}


def _bad(rows: list[dict[str, Any]], digest: str) -> int:
    return sum(row["requests"] for row in rows if row["revision"] == digest and int(row["status"]) >= 500)


def show(summary: Summary, as_json: bool) -> None:
    """Print the summary."""
    if as_json:
        print_json(_plain(summary))
        return
    rows = [(r.release, r.version, r.phase, f"{sum(r.seconds.values()):.0f} s", "; ".join(r.reasons)) for r in summary.releases]
    print_table("Releases", ("release", "version", "ended", "took", "why"), rows)
    if summary.requests:
        _show_requests(summary)
    for what, where in summary.look_at.items():
        out.print(f"  {what:<11} {where}")
    if summary.problems:
        out.print("[bold red]Not as told:[/]")
        for problem in summary.problems:
            out.print(f"  {problem}")
    else:
        out.print(f"[bold green]Everything ended as told[/], in {summary.seconds:.0f} s.")


def _show_requests(summary: Summary) -> None:
    found = summary.requests
    rows = [("sent", str(found["sent"])), ("answered with 2xx", str(found["answered"])), ("failed", str(found["failed"]))]
    rows += [(f"  {cause}", str(count)) for cause, count in found["by_cause"].items() if cause not in ("answered", "Convoy")]
    rows += [("  through Convoy's doing", str(found["failed_through_convoy"]))]
    rows += [("p50 / p99", f"{found['p50_ms']} / {found['p99_ms']} ms")]
    for release in summary.releases:
        if release.counted is not None:
            took = release.seconds.get("canary", 0.0)
            rows.append(
                (
                    f"version {release.version} under canary",
                    f"{release.counted['bad']} bad of {release.counted['attempts']} in {took:.0f} s",
                )
            )
    print_table("Requests", ("what", "figure"), rows)
    print_table(
        "Do they agree?",
        ("figure", "counts", "agree"),
        [
            (each.figure, ", ".join(f"{who} {count}" for who, count in each.counts.items()), "yes" if each.agrees else "NO")
            for each in summary.agreements
        ],
    )


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
        "requests": summary.requests,
        "agreements": [asdict(each) | {"agrees": each.agrees} for each in summary.agreements],
        "look_at": summary.look_at,
    }
