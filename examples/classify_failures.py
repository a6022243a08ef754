"""Whose fault was each request that did not get a 2xx? Reads the client's and Envoy's logs; imports nothing of Convoy.

    python examples/classify_failures.py --client load.jsonl --access access.log* --attempts attempts.log* --ledger ledger.json

A failure is the canary's own when client and Envoy both saw a 500 of the same revision while it was under canary. It
is a killed process's when the upstream connection broke while the request was in flight and a kill was announced
(--killed REVISION@SECONDS). Everything else counts against Convoy and is shown raw.

Client and Envoy are joined request by request: `unmatched` ids stand in only one of the two logs, `duplicates` are
lines beyond an id's first in either log, and `disagreements` are requests whose revision or status differ.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

APPLICATION_ERROR = 500
KILL_WINDOW_SECONDS = 3.0
CLIENT_LEFT = {"DC", "DR", "DPE"}


def lines(files: Iterable[Path]) -> Iterator[dict]:
    """Yield the JSON objects of several logs; a line that is not one ends the run, for it would hide a request."""
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError:
                sys.exit(f"{file}:{number} is not JSON")


def canary_windows(ledger: list[dict]) -> dict[str, list[tuple[float, float]]]:
    """Return for each revision when it was under canary, in Unix seconds: from its first intent to the end of its release."""
    windows: dict[str, list[tuple[float, float]]] = {}
    began: dict[str, tuple[str, float]] = {}
    for event in ledger:
        moment = datetime.fromisoformat(event["at"]).timestamp()
        stream, kind, payload = event["stream"], event["type"], event["payload"]
        if kind == "effect.intended" and event["effect_key"] == "canary":
            began[stream] = (payload["canary"], moment)
        elif kind == "phase.entered" and stream in began and payload["phase"] in ("promoting", "rolled back", "superseded", "failed"):
            revision, start = began.pop(stream)
            windows.setdefault(revision, []).append((start, moment))
    for revision, start in began.values():
        windows.setdefault(revision, []).append((start, math.inf))
    return windows


def counted_windows(ledger: list[dict]) -> list[dict]:
    """Return for each release whose canary was counted: its revision and the seconds since <= second < complete_to."""
    revisions: dict[str, str] = {}
    since: dict[str, int] = {}
    found = []
    for event in ledger:
        stream, kind, key, payload = event["stream"], event["type"], event["effect_key"], event["payload"]
        if kind == "effect.intended" and key == "canary":
            revisions[stream] = payload["canary"]
        elif kind == "effect.completed" and key == "canary":
            since[stream] = int(payload["since"])
        elif kind == "effect.completed" and key == "count" and stream in since:
            window = {"since": since[stream], "complete_to": int(payload["complete_to"])}
            found.append({"release": stream.removeprefix("release/"), "revision": revisions[stream], **window})
    return found


def under_canary(windows: dict[str, list[tuple[float, float]]], revision: str, moment: float) -> bool:
    """Whether a revision was under canary at a moment."""
    return any(start <= moment <= end for start, end in windows.get(revision, ()))


def classify(sent: dict, access: dict | None, windows: dict, kills: list[tuple[str, float]]) -> str:
    """Return who answers for one request of the client."""
    if 200 <= sent["status"] < 300:
        return "answered"
    seen, revision = access or {}, sent["revision"]
    both = bool(revision) and seen.get("host_revision") == revision and seen.get("code") == sent["status"]
    if both and sent["status"] == APPLICATION_ERROR and under_canary(windows, revision, sent["sent"]):
        return "application error of a revision under canary"
    upstream = seen.get("host_revision") or seen.get("cluster_revision") or ""
    end = sent["due"] + sent["milliseconds"] / 1000
    if any(upstream == killed and sent["sent"] - KILL_WINDOW_SECONDS <= at <= end + KILL_WINDOW_SECONDS for killed, at in kills):
        return "in flight on a killed process"
    return "Convoy"


def disagree(sent: dict, access: dict) -> bool:
    """Whether client and Envoy differ on revision or status; an answer of Envoy's own bears no revision."""
    if sent["status"] != access["code"]:
        return True
    of_envoy = sent["revision"] == "" and access.get("details") != "via_upstream"
    return not of_envoy and sent["revision"] != (access["host_revision"] or "")


def end_second(entry: dict) -> int:
    """Return the Unix second in which an attempt or request ended."""
    return (int(entry["start_ms"]) + entry["duration_ms"]) // 1000


def bad(attempt: dict) -> bool:
    """Whether an attempt got a 5xx or no answer, other than by its client's leaving."""
    flags = set() if attempt["flags"] == "-" else set(attempt["flags"].split(","))
    return attempt["code"] >= 500 or attempt["code"] == 0 or bool(flags and not flags & CLIENT_LEFT)


def revision_of(entry: dict) -> str:
    """Return the revision that served an attempt, or the one it was meant for."""
    return entry["host_revision"] or entry["cluster_revision"] or "none"


def count_again(window: dict, attempts: list[dict]) -> dict:
    """Return a window with what Envoy's own lines say of it."""
    inside = [each for each in attempts if window["since"] <= end_second(each) < window["complete_to"]]
    its = [each for each in inside if revision_of(each) == window["revision"]]
    return window | {"attempts": len(its), "bad": sum(map(bad, its))}


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies (nearest rank); NaN for none."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


def rows(found: Counter, *names: str) -> list[dict]:
    """Return a count as rows, each with the names of what was counted."""
    return [dict(zip(names, place, strict=True)) | {"requests": count} for place, count in sorted(found.items())]


def routed(log: str, entries: list[dict]) -> Counter:
    """Count a log's lines by the revision that was chosen and the one that served."""
    return Counter((log, entry["cluster_revision"] or "", entry["host_revision"] or "") for entry in entries)


def report(client: list[dict], access: list[dict], attempts: list[dict], ledger: list[dict], kills: list[tuple[str, float]]) -> dict:
    """Return the classification of all requests and the counts of every party."""
    windows = canary_windows(ledger)
    by_id = {entry["id"]: entry for entry in reversed(access)}
    ours = {sent["id"] for sent in client}
    causes = [(classify(sent, by_id.get(sent["id"]), windows, kills), sent) for sent in client]
    verdicts = Counter(cause for cause, _ in causes)
    one_sided = sorted(ours ^ by_id.keys())
    differing = [sent["id"] for sent in client if sent["id"] in by_id and disagree(sent, by_id[sent["id"]])]
    waits = sorted(sent["milliseconds"] for sent in client if 200 <= sent["status"] < 300)
    answers = Counter((sent["revision"] or "none", str(sent["status"])) for sent in client)
    seen = Counter((entry["host_revision"] or "none", str(entry["code"])) for entry in access)
    return {
        "sent": len(client),
        "answered": verdicts["answered"],
        "failed": len(client) - verdicts["answered"],
        "by_cause": dict(verdicts),
        "failed_through_convoy": verdicts["Convoy"],
        "p50_ms": round(percentile(waits, 0.5), 2) if waits else None,
        "p99_ms": round(percentile(waits, 0.99), 2) if waits else None,
        "client_by_revision": rows(answers, "revision", "status"),
        "envoy_by_revision": rows(seen, "revision", "status"),
        "envoy_requests": len(access),
        "envoy_attempts": len(attempts),
        "attempts_by_revision": dict(Counter(map(revision_of, attempts))),
        "routed": rows(routed("access", access) + routed("attempts", attempts), "log", "chosen", "served"),
        "counted": [count_again(window, attempts) for window in counted_windows(ledger)],
        "unmatched": len(one_sided),
        "unmatched_ids": one_sided,
        "duplicates": len(client) - len(ours) + len(access) - len(by_id),
        "disagreements": len(differing),
        "disagreeing_ids": differing,
        "raw": [{"client": sent, "envoy": by_id.get(sent["id"])} for cause, sent in causes if cause == "Convoy"],
    }


def main() -> None:
    """Print the classification as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", type=Path, nargs="+", required=True)
    parser.add_argument("--access", type=Path, nargs="+", required=True)
    parser.add_argument("--attempts", type=Path, nargs="+", required=True)
    parser.add_argument("--ledger", type=Path, required=True, help="the output of `convoy ledger show --json`")
    parser.add_argument("--killed", action="append", default=[], metavar="REVISION@SECONDS")
    given = parser.parse_args()
    kills = [(name, float(at)) for name, at in (text.rsplit("@", 1) for text in given.killed)]
    ledger = json.loads(given.ledger.read_text(encoding="utf-8"))
    logs = list(lines(given.client)), list(lines(given.access)), list(lines(given.attempts))
    json.dump(report(*logs, ledger, kills), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
