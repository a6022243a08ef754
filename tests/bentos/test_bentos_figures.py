"""What a serving process tells of itself: figures for Prometheus, and traces of sampled requests."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import pytest
from bentos_serving import Service, serving, tensor, wait_until

from bentos.service.board import SIZE, Board
from bentos.service.traces import MOST_A_SECOND, Traces
from bentos.service.visits import Deadline, Visit

ROWS = (tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1))
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LABELS = {"model": 'a"b', "region": "eu", "revision": "r"}


def figures(text: str) -> dict[str, float]:
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


def test_the_text_is_that_of_prometheus_and_adds_up() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    board = Board()
    for status, seconds in ((200, 0.0004), (200, 0.003), (400, 0.002), (418, 0.1), (503, 99.0)):
        board.answered(status, seconds)
    for requests in (1, 1, 7, 9999):
        board.batched(requests)
    board.shed("overloaded")
    board.waiting(3)
    board.ready()

    families = {family.name: family for family in text_string_to_metric_families(board.text(LABELS).decode())}
    found = {
        (sample.name, *(sample.labels.get(key, "") for key in ("code", "kind", "le", "why"))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert {sample.labels["model"] for family in families.values() for sample in family.samples} == {'a"b'}
    assert found["convoy_service_requests_total", "200", "", "", ""] == 2
    assert found["convoy_service_requests_total", "other", "", "", ""] == 1
    assert found["convoy_service_errors_total", "", "server", "", ""] == 1
    assert found["convoy_service_request_seconds_bucket", "", "", "0.0025", ""] == 2
    assert (
        found["convoy_service_request_seconds_bucket", "", "", "+Inf", ""]
        == found["convoy_service_request_seconds_count", "", "", "", ""]
        == 5
    )
    assert found["convoy_service_request_seconds_sum", "", "", "", ""] == pytest.approx(99.1054)
    assert found["convoy_service_batch_requests_sum", "", "", "", ""] == 10008
    assert found["convoy_service_shed_total", "", "", "", "overloaded"] == 1
    assert found["convoy_service_queue_depth", "", "", "", ""] == 3
    assert found["convoy_service_processes_ready", "", "", "", ""] == 1


def test_processes_share_their_figures_and_a_new_one_goes_on_adding() -> None:
    memory = mmap.mmap(-1, 2 * SIZE)
    first, second = Board(memory, 0, 2), Board(memory, 1, 2)
    for board in (first, second):
        board.answered(200, 0.001)
        board.waiting(5)
    again = Board(memory, 1, 2)
    again.answered(200, 0.001)

    found = figures(first.text({"m": "x"}).decode())
    assert found['convoy_service_requests_total{m="x",code="200"}'] == 3
    assert found['convoy_service_queue_depth{m="x"}'] == 5, "nothing waits in a process that has just begun"


def test_a_process_serves_its_figures(logistic: Service) -> None:
    before = figures(logistic.get("/metrics").text)
    logistic.infer("employment", *ROWS)
    logistic.infer("employment")
    answer = logistic.get("/metrics")
    now = figures(answer.text)

    grown = {name.split("{")[0] + name.rpartition(",")[2]: now[name] - before[name] for name in now if now[name] != before[name]}
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["x-convoy-revision"]
    assert {name: value for name, value in grown.items() if "bucket" not in name and "sum" not in name} == {
        'convoy_service_requests_totalcode="200"}': 1.0,
        'convoy_service_requests_totalcode="400"}': 1.0,
        'convoy_service_errors_totalkind="client"}': 1.0,
        "convoy_service_request_seconds_count" + next(name.rpartition(",")[2] for name in now if "seconds_count" in name): 2.0,
        "convoy_service_batch_requests_count" + next(name.rpartition(",")[2] for name in now if "requests_count" in name): 1.0,
    }


def traces(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.text().splitlines() if line.startswith('{"trace_id"')]


def test_a_request_that_is_sampled_by_its_caller_is_one_line_of_where_its_time_went(logistic: Service) -> None:
    for parent in (PARENT, PARENT[:-1] + "0", "00-" + "0" * 32 + PARENT[35:], "ff" + PARENT[2:], "nonsense"):
        logistic.infer("employment", *ROWS, traceparent=parent, **{"x-request-id": "traced"})
    wait_until(lambda: bool(traces(logistic)), 10, "the line is written")

    (line,) = traces(logistic)
    assert (line["trace_id"], line["parent_id"]) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (line["request_id"], line["status"], line["rows"], line["batch_requests"]) == ("traced", 200, 1, 1)
    assert 0 <= line["wait_ms"] + line["predict_ms"] <= line["total_ms"]
    assert "30.0" not in json.dumps(line["request_id"])


def test_no_caller_gets_more_traces_than_a_log_can_bear() -> None:
    sampled = Traces(0)

    assert sum(sampled.sampled(PARENT.encode()) is not None for _ in range(10 * MOST_A_SECOND)) <= 2 * MOST_A_SECOND


def test_those_that_no_caller_samples_are_sampled_by_the_rate() -> None:
    assert Traces(0).sampled(b"") is None
    everything = Traces(1_000_000).sampled(b"")
    assert everything is not None
    assert (everything.parent, len(everything.trace), len(everything.span)) == ("", 32, 16)


def deadline(**headers: str) -> Deadline:
    return Visit({name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}).deadline(5000)


def test_the_time_of_a_request_is_its_callers_its_edges_or_the_settings() -> None:
    assert deadline() == Deadline(5.0, 5.0)
    assert deadline(x_convoy_deadline_ms="250") == Deadline(0.25, 0.25)
    assert deadline(x_envoy_expected_rq_timeout_ms="1000") == Deadline(5.0, 1.05)
    assert deadline(x_envoy_expected_rq_timeout_ms="1000", x_convoy_deadline_ms="250") == Deadline(0.25, 0.25)
    assert deadline(x_envoy_expected_rq_timeout_ms="soon") == Deadline(5.0, 5.0)


@pytest.mark.parametrize("given", ["0", "-1", "1.5", "soon", "", "1" * 9])
def test_a_deadline_that_is_none_is_the_callers_mistake(given: str, logistic: Service) -> None:
    answer = logistic.infer("employment", *ROWS, **{"x-convoy-deadline-ms": given})

    assert answer.status_code == 400
    assert "header x-convoy-deadline-ms: must be whole milliseconds" in answer.json()["error"]


def test_what_is_too_late_is_504_and_too_much_is_503_with_a_time_to_come_back(echo_bento: Path, tmp_path: Path) -> None:
    import threading

    from hostile_bodies import row

    with serving(echo_bento, tmp_path / "log", slots="1", deadline_ms="20000") as service:
        slow = threading.Thread(
            target=lambda: service.infer("echo", *row(city=("BYTES", f"wait:{tmp_path}")), **{"x-convoy-deadline-ms": "50"})
        )
        late = service.infer("echo", *row(city=("BYTES", f"wait:{tmp_path}")), **{"x-convoy-deadline-ms": "50"})
        slow.start()
        slow.join(10)
        refused = service.infer("echo", *row())
        (tmp_path / "go").touch()
        wait_until(lambda: service.infer("echo", *row()).status_code == 200, 10, "it is free again")

    assert (late.status_code, late.json()["error"]) == (504, "not answered within 0.050 s")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "x-convoy-not-ready" not in refused.headers
