"""What the traffic benchmark makes of what it measures: whose doing a failure is, its rows, its peer, its page."""

from __future__ import annotations

import json
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, RealEdge, wait_until

from benchmarks.documents import section
from benchmarks.form import RESULTS, Row, report
from benchmarks.traffic_cases import apart, bare, beside
from benchmarks.traffic_cases.blame import Doing, kinds, last_answer, whose, within
from benchmarks.traffic_cases.cases import CASES, ONLY_FULL, Case, Done, ran
from benchmarks.traffic_cases.changes import Command
from benchmarks.traffic_cases.figures import APART, COUNTED, LOAD, OURS, SILENT, WITHIN, Ran, load_rows, not_run, rows_of
from traffic.load import Sent, Totals

ANSWERED = Sent("load-1", 0, due=100.0, sent=100.001, milliseconds=50.0, status=200, revision=STABLE, region="us", error="")
BEGIN = 100.0
ROLLBACK = next(case for case in CASES if "rollback" in case.name)


def answered(at: float, revision: str = CANARY) -> Sent:
    """A request that was answered at a moment, 50 ms after it was due."""
    return replace(ANSWERED, due=at - 0.05, sent=at - 0.05, revision=revision)


def turn(milliseconds: float, failed: int = 0, **processor: float) -> beside.Round:
    return beside.Round((milliseconds,) * 98 + (2 * milliseconds,) * 2, (milliseconds / 2,) * 100, processor, failed)


def document(broken: str = "") -> dict[str, object]:
    """A whole result, every case gone through once."""
    rounds = [turn(2.0, Envoy=150.0)] * 3
    rows = beside.figures(dict.fromkeys((beside.FLOOR, beside.BARE, beside.LOGGED, beside.CONVOY), rounds))
    for case in CASES:
        seconds = dict.fromkeys(case.asked, (0.01,))
        rows += rows_of(Ran(case.name, case.times, (ANSWERED,), seconds, broken), case.targets)
    rows += rows_of(Ran(apart.CASE, 3, (ANSWERED,), {APART: (0.01,)}), apart.ASKED)
    return report("traffic", [*rows, *load_rows(Totals(100, 100, 100, 200.0, 0.5, 1.0))])


@pytest.mark.parametrize(
    ("sent", "doing"),
    [
        (ANSWERED, None),
        (replace(ANSWERED, status=500), Doing.SERVER),
        (replace(ANSWERED, status=0, revision="", error="ClientPayloadError: Response payload is not completed"), Doing.SERVER),
        (replace(ANSWERED, status=503, revision=""), Doing.CONVOY),
        (replace(ANSWERED, status=504, revision=""), Doing.CONVOY),
        (replace(ANSWERED, status=0, revision="", error="ServerDisconnectedError: "), Doing.CONVOY),
        (replace(ANSWERED, status=0, revision="", error="TimeoutError: "), Doing.CONVOY),
    ],
)
def test_a_failure_is_convoys_unless_the_server_itself_answered_or_broke_off(sent: Sent, doing: Doing | None) -> None:
    assert whose(sent) is doing


def test_how_requests_failed_is_told_kind_by_kind() -> None:
    refused = replace(ANSWERED, status=503, revision="")
    assert kinds([ANSWERED, refused, refused, replace(ANSWERED, status=500)]) == (
        "2 by Convoy's doing: status 503; 1 by the server's doing: status 500"
    )


def test_a_request_belongs_to_the_case_in_which_it_was_due() -> None:
    sent = [replace(ANSWERED, due=due) for due in (99.999, 100.0, 104.9, 105.0)]
    assert [each.due for each in within(sent, 100, 105)] == [100.0, 104.9]


def test_a_canary_is_silent_from_its_last_answer_on_whenever_that_was_asked_for() -> None:
    sent = [answered(99.9), answered(100.06), answered(100.02), answered(100.9, STABLE), answered(103.0)]
    assert last_answer(sent, CANARY, BEGIN, 102.0) == pytest.approx(0.06)
    assert last_answer([answered(99.9)], CANARY, BEGIN, 102.0) == 0


def test_a_silence_counts_only_for_a_canary_that_had_answered_just_before() -> None:
    done = Done(ROLLBACK, 1, 95.0, 105.0, (Command(BEGIN, 102.0, 100.04),), "")
    rows = {row.subject: row for row in rows_of(ran(done, [answered(99.9), answered(100.06)]), ROLLBACK.targets)}
    assert (rows[SILENT].figure, rows[SILENT].met) == (pytest.approx(0.06), True)
    unseen = {row.subject: row for row in rows_of(ran(done, [answered(96.0)]), ROLLBACK.targets)}
    assert (unseen[SILENT].figure, unseen[SILENT].met) == (None, None)
    assert unseen[SILENT].skipped


def test_every_case_that_was_asked_for_is_there_as_often_as_asked() -> None:
    asked = {"weight is changed": 50, "rollback": 10, "SIGKILL": 5, "SIGSTOP": 5, "SIGTERM": 5, "refused": 3, "agent": 5, "runs out": 5}
    for part, times in asked.items():
        found = [case.times for case in CASES if part in case.name]
        assert found, part
        assert min(found) >= times, part
    assert len({case.name for case in CASES}) == len(CASES)
    assert ROLLBACK.asked == {SILENT: WITHIN}


def test_a_failure_of_convoys_is_counted_apart_from_a_servers() -> None:
    sent = (ANSWERED, replace(ANSWERED, status=500), replace(ANSWERED, status=503, revision="", milliseconds=900.0))
    rows = {row.subject: row for row in rows_of(Ran("a case", 2, sent, {}), {OURS: 0.0})}
    assert [rows[name].figure for name in COUNTED] == [3, 2, 1, 900.0, pytest.approx(1.0)]
    assert rows[OURS].met is False
    assert {row.rounds for row in rows.values()} == {2}


def test_a_case_that_broke_off_has_not_met_what_was_asked_and_says_why() -> None:
    rows = {row.subject: row for row in rows_of(Ran(ROLLBACK.name, 3, (ANSWERED,), {}, "the edge was not ready"), ROLLBACK.targets)}
    assert set(rows) == {*COUNTED, SILENT}
    for name in (OURS, SILENT):
        assert (rows[name].met, rows[name].skipped) == (None, "the edge was not ready")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_that_the_quick_run_leaves_out_has_the_same_rows(case: Case) -> None:
    seconds = dict.fromkeys(case.asked, (0.01,))
    full = rows_of(Ran(case.name, 1, (ANSWERED,), seconds), case.targets)
    left_out = not_run(case.name, case.targets, ONLY_FULL)
    assert [(row.subject, row.unit, row.target) for row in left_out] == [(row.subject, row.unit, row.target) for row in full]


def test_ratios_are_taken_within_a_round_and_have_their_targets() -> None:
    ours = [turn(2.0), turn(4.4), turn(1.1)]
    theirs = [turn(2.0), turn(4.0), turn(1.0)]
    found = {beside.FLOOR: theirs, beside.BARE: theirs, beside.LOGGED: theirs, beside.CONVOY: ours}
    rows = {(row.row, row.subject): row for row in beside.figures(found)}
    for name in ("p50", "p99"):
        row = rows[beside.AGAINST, name]
        assert (row.figure, row.spread, row.target, row.met) == (1.1, (1.0, 1.1), 1.05, False)
    assert [row.row for row in rows.values() if row.target is not None] == [beside.AGAINST] * 2 + ["requests that failed in these rounds"]
    assert {row.subject for row in rows.values() if row.row.endswith("p99")} == set(found)


def test_the_edges_failures_in_the_rounds_are_told() -> None:
    found = {name: [turn(1.0, failed=2)] for name in (beside.FLOOR, beside.BARE, beside.LOGGED, beside.CONVOY)}
    row = beside.figures(found)[-1]
    assert (row.subject, row.figure, row.met) == (beside.CONVOY, 2, False)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [beside.quantile(values, q) for q in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]


def test_the_peer_has_the_same_servers_and_shares_and_nothing_else(tmp_path: Path) -> None:
    shares = {"stable": (90, [1, 2]), "canary": (10, [3, 4])}
    plain, logged = (bare.resources(5, shares, log) for log in (None, tmp_path / "access.log"))
    text = json.dumps(plain)
    for part in ("retry", "health_checks", "access_log", "timeout", "header"):
        assert part not in text
    for port in (1, 2, 3, 4, 5):
        assert f'"port_value": {port}}}' in text
    assert [cluster["name"] for cluster in plain["clusters"]] == ["stable", "canary"]
    manager = logged["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager.pop("access_log")
    assert json.dumps(logged) == text


def test_the_page_has_a_line_for_each_case_and_says_whose_doing_a_failure_is() -> None:
    text = section(document())
    for name in (*(case.name for case in CASES), apart.CASE):
        assert f"| {name} | " in text.partition("### While things change")[2]
    assert "all else counts as Convoy's" in text
    assert f"| {LOAD} | reached | 200 requests a second |" in text
    assert "the edge was not ready" in section(document("the edge was not ready"))


def test_a_committed_run_has_every_row() -> None:
    file = RESULTS / "traffic.json"
    if not file.exists():
        pytest.skip("no run is committed yet")
    found = {(row["row"], row["subject"]) for row in json.loads(file.read_text(encoding="utf-8"))["rows"]}
    expected = {(row["row"], row["subject"]) for row in document()["rows"] if row["row"] != "processor time per request"}
    assert found >= expected


def test_a_row_of_another_subject_stays_in_the_general_table() -> None:
    rows = [Row("a row", "of something", 1.0, "s")]
    assert "| a row | of something | 1 s |" in section(report("release", rows))


def test_a_server_of_the_cases_answers_what_it_has_begun_when_it_is_told_to_end(tmp_path: Path) -> None:
    edge = RealEdge(tmp_path)
    try:
        edge.serve(STABLE, "us", delay_ms=300, drains=1)
        place, server = ("127.0.0.1", edge.places[STABLE, "us"]), edge.upstreams[STABLE, "us"].running
        assert server is not None
        with socket.create_connection(place, 10) as idle, socket.create_connection(place, 10) as busy:
            busy.sendall(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            wait_until(lambda: edge.seen(STABLE, "us").total() == 1, 10, "the request")
            server.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""
            assert b"connection: close" in busy.recv(4096)
        assert server.wait(10) == 0
    finally:
        edge.close()
