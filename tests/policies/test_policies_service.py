"""The service gate's judgement: budgets are kept or named, what a busy machine cannot tell is inconclusive, odd requests are met."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from fleet.declared_service import Odd, Service
from fleet.evidence import GateOutcome
from policies.odd_requests import UNSEEN, odd_requests, trouble_with
from policies.service import Loaded, Measured, OddAnswer, judge_service

LOAD = Loaded(scheduled=100, sent=100, failed=0, p50_ms=Decimal("4"), p99_ms=Decimal("20"), lag_p99_ms=Decimal("1.5"))
MEASURED = Measured("", Decimal("2500"), Decimal("1800"), Decimal("40"), Decimal("300.5"), LOAD, (OddAnswer(Odd.WRONG_TYPE, "text", ""),))
P, F, I = GateOutcome.PASSED, GateOutcome.FAILED, GateOutcome.INCONCLUSIVE  # noqa: E741


def test_without_a_budget_everything_is_measured_and_recorded() -> None:
    found = judge_service(Service(), MEASURED)
    assert (found.gate, found.outcome, found.charts) == ("service", P, ())
    figures = dict(found.figures)
    assert (figures["cold start ms"], figures["p99 ms"], figures["memory MiB"], figures["odd requests"]) == ("2500", "20", "300.5", "1")


@pytest.mark.parametrize(
    ("budget", "outcome", "says"),
    [
        ({"cold_start_ms": 2500}, P, "ready after 2500 ms"),
        ({"cold_start_ms": 2499}, F, "cold start was 2500 ms, above the budget of 2499 ms"),
        ({"load_ms": 1000}, F, "load was 1800 ms"),
        ({"warm_up_ms": 39}, F, "warm-up was 40 ms"),
        ({"memory_mib": 300}, F, "memory was 300.5 MiB"),
        ({"p50_ms": 4, "p99_ms": 20}, P, "p99 20 ms"),
        ({"p50_ms": 2}, F, "p50 was 4 ms"),
        ({"p99_ms": 19}, I, "the machine was too busy: p99 was 20 ms and requests went out up to 1.5 ms late (budget 19 ms)"),
        ({"p99_ms": 18}, F, "p99 was 20 ms, above the budget of 18 ms"),
    ],
)
def test_a_budget_is_kept_or_named(budget: dict[str, int], outcome: GateOutcome, says: str) -> None:
    found = judge_service(Service.model_validate(budget), MEASURED)
    assert (found.outcome, says in found.reasons[0]) == (outcome, True), found.reasons
    assert found.charts[0].limit == 100


def test_a_rate_that_was_not_held_tells_nothing_of_latency_and_never_passes() -> None:
    busy = replace(MEASURED, load=replace(LOAD, sent=80))
    assert judge_service(Service(), busy).outcome is I
    assert judge_service(Service(p99_ms=2), busy).outcome is I
    assert judge_service(Service(p99_ms=2, load_ms=1), busy).outcome is F


def test_what_did_not_start_or_has_no_figure_for_a_budget_never_passes() -> None:
    assert judge_service(Service(), Measured("the service: ended with status 5")).outcome is I
    blind = replace(MEASURED, peak_mib=None)
    assert (judge_service(Service(memory_mib=900), blind).outcome, judge_service(Service(), blind).outcome) == (I, P)


def test_a_failed_request_fails_the_gate_unless_it_is_allowed() -> None:
    failing = replace(MEASURED, load=replace(LOAD, failed=2, first_failure="500"))
    found = judge_service(Service(), failing)
    assert found.reasons == ("2 of 100 requests failed, the first with 500 (allowed: 0.00%)",)
    assert judge_service(Service(error_rate=0.02), failing).outcome is P


def test_an_odd_request_that_is_failed_on_is_named_with_the_remedy() -> None:
    odd = tuple(OddAnswer(Odd.MISSING_VALUE, f"null in column '{name}'", "was answered 500: no") for name in "abcdefg")
    found = judge_service(Service(), replace(MEASURED, odd=odd))
    assert found.outcome is F
    assert found.reasons[0] == "a request with null in column 'a' was answered 500: no"
    assert found.reasons[5] == "and 2 more odd requests"
    assert "leave 'missing value' out of gates.service.odd" in found.reasons[6]
    assert len(found.tables[0].rows) == 7


INPUTS = [
    {"name": "age", "datatype": "INT64", "shape": [-1]},
    {"name": "hours", "datatype": "FP64", "shape": [-1]},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
]
VALID = {
    "inputs": [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [18]},
        {"name": "hours", "datatype": "FP64", "shape": [1], "data": [40.5]},
        {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Bern"]},
    ]
}


def data_of(body: bytes) -> dict[str, Any]:
    return {tensor["name"]: tensor["data"] for tensor in json.loads(body)["inputs"]}


def test_odd_requests_change_one_thing_of_a_valid_one() -> None:
    made = odd_requests(VALID, INPUTS, tuple(Odd))
    by_what = {each.what: each for each in made}
    assert data_of(by_what["text in column 'age'"].body) == {"age": ["seventeen"], "hours": [40.5], "city": ["Bern"]}
    assert data_of(by_what["a number in column 'city'"].body)["city"] == [17]
    assert b'"data": [NaN]' in by_what["NaN, which is no JSON, in column 'hours'"].body
    assert list(data_of(by_what["without column 'hours'"].body)) == ["age", "city"]
    assert data_of(by_what["null in column 'city'"].body)["city"] == [None]
    assert data_of(by_what[f"{2**62} in column 'age'"].body)["age"] == [2**62]
    assert by_what["10002 characters in column 'city'"].kind is Odd.UNSEEN_VALUE
    assert len(by_what) == len(made)
    assert VALID["inputs"][0]["data"] == [18]


@pytest.mark.parametrize("kind", Odd)
def test_only_the_declared_kinds_are_sent_and_not_for_every_column(kind: Odd) -> None:
    wide = [{"name": f"c{at}", "datatype": "FP64", "shape": [1], "data": [1.0]} for at in range(300)]
    made = odd_requests({"inputs": wide}, wide, (kind,))
    assert {each.kind for each in made} == {kind}
    assert len(made) <= 30
    assert odd_requests(VALID, INPUTS, ()) == ()


def test_every_type_of_the_protocol_has_values_at_its_ends() -> None:
    assert all(json.loads(json.dumps(value)) == value for values in UNSEEN.values() for value in values)
    assert set(UNSEEN) >= {"BOOL", "BYTES", "FP32", "FP64", "INT32", "INT64"}


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (400, b"no", ""),
        (413, b"", ""),
        (200, b'{"outputs": [{"name": "p", "datatype": "FP64", "shape": [1], "data": [0.5]}]}', ""),
        (200, b'{"outputs": [{"name": "p", "datatype": "BYTES", "shape": [1], "data": [null]}]}', ""),
        (200, b'{"outputs": [{"name": "p", "datatype": "FP64", "shape": [1], "data": [null]}]}', "was answered with a NaN in output p"),
        (200, b'{"outputs": [{"name": "p", "data": [NaN]}]}', "was answered with what is no JSON (it has NaN)"),
        (500, b'{"error": "ValueError: row 17 has a NaN"}', "was answered 500 (ValueError)"),
        (500, b'{"error":"unexpected: ZeroDivisionError: 17 / 0"}', "was answered 500 (ZeroDivisionError)"),
        (200, b"[]", "was answered with what is no answer"),
        (200, b'{"outputs": 1}', "was answered with what is no answer"),
        (200, b'{"outputs": [{"name": "p", "datatype": "FP64", "data": 1}]}', "was answered with what is no answer"),
        (200, b'{"outputs": [{"name": "p", "data": [1]}]}', "was answered with what is no answer"),
        (200, b"[" * 100_000, "was answered with what is no answer"),
        (500, b"oh, 17", "was answered 500"),
        (503, b'{"ready": false, "error": "512 requests are waiting"}', "was answered 503"),
    ],
)
def test_an_answer_is_a_refusal_or_finite(status: int, body: bytes, trouble: str) -> None:
    assert trouble_with(status, body) == trouble


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"seconds": 0.5}, {"p99_ms": 0}, {"error_rate": 1}, {"odd": ["other"]}, {"memory": 1}])
def test_what_cannot_be_measured_is_refused_in_fleet_yaml(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Service.model_validate(wrong)
