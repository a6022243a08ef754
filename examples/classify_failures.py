"""Whose fault was each request that did not get a 2xx? Reads the client's and Envoy's logs; imports nothing of Convoy.

    python examples/classify_failures.py --client load.jsonl --access access.log* --attempts attempts.log* --ledger ledger.json

A failure is the canary's own when the service of a revision under canary answered it with an error. It is a killed
process's when the upstream connection broke while the request was in flight and a kill was announced (--killed
REVISION@SECONDS). Everything else counts against Convoy. The counts of the client, of Envoy and of the ledger stand
side by side.
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

NO_ANSWER = 0
KILL_WINDOW_SECONDS = 3.0


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


def under_canary(windows: dict[str, list[tuple[float, float]]], revision: str, moment: float) -> bool:
    """Whether a revision was under canary at a moment."""
    return any(start <= moment <= end for start, end in windows.get(revision, ()))


def classify(sent: dict, access: dict | None, windows: dict, kills: list[tuple[str, float]]) -> str:
    """Return who answers for one request of the client."""
    if 200 <= sent["status"] < 300:
        return "answered"
    revision = sent["revision"]
    if sent["status"] >= 400 and revision and under_canary(windows, revision, sent["sent"]):
        return "application error of a revision under canary"
    upstream = (access or {}).get("host_revision") or (access or {}).get("cluster_revision") or ""
    end = sent["due"] + sent["milliseconds"] / 1000
    if any(upstream == killed and sent["sent"] - KILL_WINDOW_SECONDS <= at <= end + KILL_WINDOW_SECONDS for killed, at in kills):
        return "in flight on a killed process"
    return "Convoy"


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies (nearest rank); NaN for none."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else math.nan


def main() -> None:
    """Print the classification as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", type=Path, nargs="+", required=True)
    parser.add_argument("--access", type=Path, nargs="+", required=True)
    parser.add_argument("--attempts", type=Path, nargs="+", required=True)
    parser.add_argument("--ledger", type=Path, required=True, help="the output of `convoy ledger show --json`")
    parser.add_argument("--killed", action="append", default=[], metavar="REVISION@SECONDS")
    given = parser.parse_args()
    windows = canary_windows(json.loads(given.ledger.read_text(encoding="utf-8")))
    kills = [(name, float(at)) for name, at in (text.rsplit("@", 1) for text in given.killed)]
    client = list(lines(given.client))
    ours = {sent["id"] for sent in client}
    access = {entry["id"]: entry for entry in lines(given.access) if entry["id"] in ours}
    attempts = [entry for entry in lines(given.attempts) if entry["id"] in ours]
    verdicts = Counter(classify(sent, access.get(sent["id"]), windows, kills) for sent in client)
    against = [
        {"client": sent, "envoy": access.get(sent["id"])}
        for sent in client
        if classify(sent, access.get(sent["id"]), windows, kills) == "Convoy"
    ]
    waits = sorted(sent["milliseconds"] for sent in client if 200 <= sent["status"] < 300)
    answers = Counter((sent["revision"] or "none", str(sent["status"])) for sent in client)
    seen = Counter((entry["host_revision"] or "none", str(entry["code"])) for entry in access.values())
    json.dump(
        {
            "sent": len(client),
            "answered": verdicts["answered"],
            "failed": len(client) - verdicts["answered"],
            "by_cause": dict(verdicts),
            "failed_through_convoy": verdicts["Convoy"],
            "p50_ms": round(percentile(waits, 0.5), 2),
            "p99_ms": round(percentile(waits, 0.99), 2),
            "client_by_revision": [{"revision": r, "status": s, "requests": n} for (r, s), n in sorted(answers.items())],
            "envoy_by_revision": [{"revision": r, "status": s, "requests": n} for (r, s), n in sorted(seen.items())],
            "envoy_requests": len(access),
            "envoy_attempts": len(attempts),
            "attempts_by_revision": dict(Counter(entry["host_revision"] or "none" for entry in attempts)),
            "raw": against[:50],
        },
        sys.stdout,
        indent=2,
    )


if __name__ == "__main__":
    main()
