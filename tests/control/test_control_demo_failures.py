"""Whose fault a failure is: the script of examples/, on logs written by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from control.demo.classification import Classification

SCRIPT = Path(__file__).parents[2] / "examples" / "classify_failures.py"
STABLE, CANARY = "sha256:stable", "sha256:canary"
BEGAN = 1_767_225_600
"""2026-01-01T00:00:00Z: the canary lasts for 60 seconds from here."""


def sent(name: str, status: int = 200, revision: str = STABLE, second: float = 10.5) -> dict[str, Any]:
    at = BEGAN + second
    return {
        "id": name,
        "body": 0,
        "due": at,
        "sent": at,
        "milliseconds": 20.0,
        "status": status,
        "revision": revision,
        "region": "r",
        "error": "",
    }


def seen(name: str, code: int = 200, revision: str | None = STABLE, second: float = 10.5, **given: Any) -> dict[str, Any]:
    line = {"id": name, "start_ms": str(int((BEGAN + second) * 1000)), "duration_ms": 10, "code": code, "flags": "-"}
    return line | {"cluster_revision": revision, "host_revision": revision, "details": "via_upstream"} | given


def entry(kind: str, second: int, payload: dict[str, Any], effect: str | None = None) -> dict[str, Any]:
    at = f"2026-01-01T00:{second // 60:02}:{second % 60:02}.000000Z"
    return {"at": at, "stream": "release/m-2", "type": kind, "effect_key": effect, "payload": payload}


LEDGER = [
    entry("effect.intended", 0, {"canary": CANARY, "stable": STABLE}, "canary"),
    entry("effect.completed", 0, {"since": BEGAN}, "canary"),
    entry("phase.entered", 60, {"phase": "promoting"}),
    entry("effect.completed", 70, {"attempts": 1, "bad": 1, "complete_to": BEGAN + 66}, "count"),
]


def classified(
    folder: Path, client: list[dict[str, Any]], access: list[dict[str, Any]], attempts: list[dict[str, Any]] | None = None
) -> Classification:
    for name, rows in (("client", client), ("access", access), ("attempts", access if attempts is None else attempts)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "ledger").write_text(json.dumps(LEDGER))
    command = [sys.executable, "-I", str(SCRIPT)]
    for name in ("client", "access", "attempts", "ledger"):
        command += [f"--{name}", str(folder / name)]
    return Classification.model_validate_json(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_it_imports_nothing_of_convoy() -> None:
    rooms = ("fleet", "registry", "policies", "bentos", "clouds", "traffic", "monitoring", "flows", "control")
    told = [line for line in SCRIPT.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert told
    assert not [line for line in told if line.split()[1].split(".")[0] in rooms]


def test_a_500_that_both_sides_saw_under_canary_is_the_canarys_own(tmp_path: Path) -> None:
    found = classified(tmp_path, [sent("a", 500, CANARY), sent("b")], [seen("a", 500, CANARY), seen("b")])
    assert (found.failed, found.failed_through_convoy, found.raw) == (1, 0, ())
    assert found.by_cause == {"application error of a revision under canary": 1, "answered": 1}


@pytest.mark.parametrize(
    ("client", "envoy"),
    [
        (sent("a", 503, CANARY), seen("a", 503, CANARY)),
        (sent("a", 404, CANARY), seen("a", 404, CANARY)),
        (sent("a", 500, CANARY), seen("a", 500, STABLE)),
        (sent("a", 500, CANARY), seen("a", 502, CANARY)),
        (sent("a", 500, CANARY, second=61), seen("a", 500, CANARY, second=61)),
        (sent("a", 500, STABLE), seen("a", 500, STABLE)),
        (sent("a", 0, ""), seen("a", 0, CANARY, flags="DC")),
    ],
)
def test_every_other_failure_counts_against_convoy_and_is_shown_raw(tmp_path: Path, client: dict[str, Any], envoy: dict[str, Any]) -> None:
    found = classified(tmp_path, [client], [envoy])
    assert found.failed_through_convoy == 1
    assert [(each.client, each.envoy) for each in found.raw] == [(client, envoy)]


def test_no_raw_failure_is_left_out(tmp_path: Path) -> None:
    names = [str(number) for number in range(120)]
    found = classified(
        tmp_path, [sent(name, 503, "") for name in names], [seen(name, 503, None, details="no_healthy_upstream") for name in names]
    )
    assert (len(found.raw), found.disagreements, found.p99_ms) == (120, 0, None)


def test_ids_of_one_side_only_and_repeated_lines_are_counted(tmp_path: Path) -> None:
    found = classified(tmp_path, [sent("a"), sent("b"), sent("d"), sent("d")], [seen("b"), seen("b"), seen("c"), seen("d")])
    assert (found.unmatched, found.unmatched_ids, found.duplicates) == (2, ("a", "c"), 2)


@pytest.mark.parametrize(
    ("client", "envoy", "count"),
    [
        (sent("a"), seen("a"), 0),
        (sent("a"), seen("a", revision=CANARY), 1),
        (sent("a"), seen("a", 500), 1),
        (sent("a", 503, ""), seen("a", 503, details="upstream_reset"), 0),
        (sent("a", 200, ""), seen("a"), 1),
    ],
)
def test_client_and_envoy_are_compared_request_by_request(
    tmp_path: Path, client: dict[str, Any], envoy: dict[str, Any], count: int
) -> None:
    assert classified(tmp_path, [client], [envoy]).disagreements == count


def test_attempts_are_counted_again_in_the_seconds_that_the_ledger_counted(tmp_path: Path) -> None:
    attempts = [
        seen("before", revision=CANARY, second=-0.5),
        seen("across", revision=CANARY, second=-0.005),
        seen("bad", 500, CANARY, 30),
        seen("other", 500, STABLE, 30),
        seen("last", revision=CANARY, second=65.9),
        seen("after", revision=CANARY, second=65.995),
    ]
    (found,) = classified(tmp_path, [], [], attempts).counted
    assert (found.release, found.attempts, found.bad) == ("m-2", 3, 1)


def test_lines_are_told_by_the_revisions_they_name_whoever_sent_them(tmp_path: Path) -> None:
    access = [seen("a"), seen("stranger", cluster_revision=CANARY, host_revision=None)]
    found = classified(tmp_path, [sent("a")], access, [seen("a")])
    assert {(each.log, each.chosen, each.served, each.requests) for each in found.routed} == {
        ("access", STABLE, STABLE, 1),
        ("access", CANARY, "", 1),
        ("attempts", STABLE, STABLE, 1),
    }
