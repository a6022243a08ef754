"""Golden answers: a declared set is reproduced or refused by name, and without one a model must agree with itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from fleet.declared_gates import Gates
from fleet.declared_golden import Golden, Tolerance
from fleet.errors import InputError
from fleet.evidence import GateOutcome
from policies.candidate import Candidate
from policies.golden import GoldenAnswers, Reproduced, golden_file
from policies.golden_rows import Unfit, expected_of, rows_of, sendable, spread
from policies.golden_set import GoldenSet, alike, answer_of, differences, judge_answers
from policies.signature import Column, Signature

EXACT = Tolerance(absolute=Decimal(0), relative=Decimal(0))
SET = GoldenSet("a test", (("age", "FP64"),), ((18.0,), (40.5,)), ("output.0", "output.1"), ((0.75, 0.25), (0.5, 0.5)))
FILE = {"repository": "data", "path": "golden.parquet"}


def with_golden(candidate: Candidate, golden: dict[str, Any], file: Path | None = None) -> Candidate:
    gates = Gates.model_validate({"golden": golden})
    return replace(candidate, declared=candidate.declared.model_copy(update={"gates": gates}), golden=file)


@pytest.fixture
def golden_rows(tmp_path: Path, rows: pandas.DataFrame, models: dict[str, Path]) -> Callable[..., Path]:
    """Write what the good model answers to five rows, as captured rows have it; `off` is added to the last answer."""

    def make(off: float = 0.0, **columns: Any) -> Path:
        import mlflow.pyfunc

        frame = rows[["age", "hours"]][:5].copy()
        answers = mlflow.pyfunc.load_model(str(models["good"])).predict(frame)
        frame["prediction.output.0"], frame["prediction.output.1"] = answers[:, 0], answers[:, 1]
        frame.loc[frame.index[-1], "prediction.output.1"] += off
        frame = frame.assign(**{"convoy.request_id": "x"}, **columns)
        frame.to_parquet(tmp_path / "golden.parquet")
        return tmp_path / "golden.parquet"

    return make


def test_declared_answers_are_reproduced_or_named_by_request_output_both_values_and_what_is_allowed(
    candidate: Candidate, golden_rows: Callable[..., Path]
) -> None:
    asked = with_golden(candidate, FILE, golden_rows(off=0.01))
    evidence = GoldenAnswers().gather(asked)
    result = GoldenAnswers().judge(asked.declared, evidence)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0] == "1 of 5 requests differ from the golden answers"
    assert result.reasons[1].startswith("request 5, output 'output.1': expected ")
    assert result.reasons[1].endswith("(allowed: 0.000001 + 0.000001 of it)")
    for allowed in ({"may_differ": 1}, {"outputs": {"output.1": {"absolute": "0.02"}}}):
        assert GoldenAnswers().judge(with_golden(candidate, FILE | allowed).declared, evidence).outcome is GateOutcome.PASSED

    left = GoldenSet.from_bytes(golden_file(asked.work).read_bytes())
    assert (left.inputs, len(left.rows), left.outputs) == ((("age", "FP64"), ("hours", "INT64")), 5, ("output.0", "output.1"))
    assert json.loads(left.bodies()[0])["inputs"][1] == {"name": "hours", "shape": [1], "datatype": "INT64", "data": [left.rows[0][1]]}
    assert "the file golden.parquet at HEAD" in left.origin


def test_without_a_file_the_candidates_own_answers_become_the_golden_ones(candidate: Candidate) -> None:
    asked = with_golden(candidate, {"parity": 4})
    assert GoldenAnswers().evaluate(asked).outcome is GateOutcome.PASSED
    left = GoldenSet.from_bytes(golden_file(asked.work).read_bytes())
    assert left.origin == "what the candidate itself answered to 4 evaluation rows in the gates' sandbox"
    assert all(abs(sum(row) - 1) < 1e-9 for row in left.answers)  # type: ignore[arg-type]


def test_a_model_that_does_not_agree_with_itself_has_no_golden_answers(candidate: Candidate, hostile: Callable[[str], Path]) -> None:
    random = hostile("import random\nreturn [random.random() for _ in model_input['age']]")
    result = GoldenAnswers().evaluate(with_golden(replace(candidate, folder=random), {"parity": 3}))
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0] == "3 of 3 requests differ from the golden answers"


def test_a_model_that_fails_or_rows_that_are_not_there_pass_nothing(candidate: Candidate, hostile: Callable[[str], Path]) -> None:
    failing = replace(candidate, folder=hostile("raise ValueError('no')"))
    result = GoldenAnswers().evaluate(with_golden(failing, {"parity": 3}))
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert "ValueError: no" in result.reasons[0]
    without = GoldenAnswers().evaluate(with_golden(replace(candidate, evaluation=None, training=None), {}))
    assert (without.outcome, "no evaluation or training rows and no input example" in without.reasons[0]) == (
        GateOutcome.INCONCLUSIVE,
        True,
    )
    assert GoldenAnswers().evaluate(with_golden(candidate, FILE)).outcome is GateOutcome.INCONCLUSIVE


def test_what_nobody_declared_does_not_apply_and_starts_nothing(candidate: Candidate) -> None:
    assert GoldenAnswers().evaluate(candidate).outcome is GateOutcome.NOT_APPLICABLE
    assert not candidate.work.exists()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"hours": None}, "rows that no request can hold"),
        ({"hours": 1.5}, "column 'hours' does not fit"),
        ({"age": "x"}, "column 'age' does not fit"),
    ],
)
def test_a_file_whose_rows_are_no_rows_of_the_model_is_told_of(
    candidate: Candidate, golden_rows: Callable[..., Path], columns: dict[str, Any], why: str
) -> None:
    result = GoldenAnswers().evaluate(with_golden(candidate, FILE, golden_rows(**columns)))
    assert (result.outcome, why in result.reasons[0]) == (GateOutcome.INCONCLUSIVE, True)


def test_a_file_that_is_no_parquet_is_bad_input(candidate: Candidate, tmp_path: Path) -> None:
    (tmp_path / "golden.parquet").write_text("age,hours\n1,2\n")
    with pytest.raises(InputError, match="is no Parquet file"):
        GoldenAnswers().evaluate(with_golden(candidate, FILE, tmp_path / "golden.parquet"))


def test_a_refused_request_a_missing_output_and_another_type_are_differences() -> None:
    given_ = ["a refusal: 400", {"output.0": True, "output.2": 1}]
    found = differences(Golden(), SET, given_)
    assert [(each.request, each.output, each.got) for each in found] == [
        (1, "", "a refusal: 400"),
        (2, "output.0", "true"),
        (2, "output.1", "no such output"),
    ]
    judged = judge_answers("golden answers in eu", Golden(), SET, given_)
    assert (judged.gate, judged.outcome, dict(judged.figures)["differ"]) == ("golden answers in eu", GateOutcome.FAILED, "2")


def test_a_tolerance_holds_for_one_output_or_for_all_its_places() -> None:
    near: list[dict[str, Any]] = [{"output.0": 0.76, "output.1": 0.25}, {"output.0": 0.5, "output.1": 0.51}]
    wide, one = (
        Golden(outputs={"output": Tolerance(absolute=Decimal("0.02"))}),
        Golden(outputs={"output.1": Tolerance(relative=Decimal("0.02"))}),
    )
    assert differences(wide, SET, near) == ()
    assert [(each.request, each.output) for each in differences(one, SET, near)] == [(1, "output.0")]


def test_a_tolerance_for_an_output_that_is_not_there_is_told_and_passes_nothing() -> None:
    exact: list[dict[str, Any]] = [{"output.0": 0.75, "output.1": 0.25}, {"output.0": 0.5, "output.1": 0.5}]
    found = judge_answers("golden answers", Golden(outputs={"outputs": Tolerance()}), SET, exact)
    assert found.outcome is GateOutcome.INCONCLUSIVE
    assert found.reasons == ("gates.golden.outputs names outputs, and the golden answers are of output.0, output.1",)
    assert judge_answers("golden answers", Golden(outputs={"output": Tolerance()}), SET, exact).outcome is GateOutcome.PASSED


def test_as_many_rows_as_there_are_may_not_differ(candidate: Candidate, golden_rows: Callable[..., Path]) -> None:
    result = GoldenAnswers().evaluate(with_golden(candidate, FILE | {"may_differ": 5}, golden_rows()))
    assert (result.outcome, "5 of 5 golden rows may differ" in result.reasons[0]) == (GateOutcome.INCONCLUSIVE, True)


@settings(deadline=None, max_examples=50)
@given(some.floats(-1e12, 1e12), some.floats(-1e-3, 1e-3))
def test_alike_is_numpys_rule_for_numbers(wanted: float, off: float) -> None:
    tolerance = Tolerance(absolute=Decimal("0.0001"), relative=Decimal("0.001"))
    got = wanted + off
    edge = abs(abs(got - wanted) - (0.0001 + 0.001 * abs(wanted)))
    if edge > 1e-9 * max(1.0, abs(wanted)):
        assert alike(wanted, got, tolerance) == bool(numpy.isclose(got, wanted, atol=0.0001, rtol=0.001))


@pytest.mark.parametrize(
    ("wanted", "got", "same"), [(None, None, True), (None, 0.0, False), (1, 1.0, True), (True, 1, False), ("a", "a", True)]
)
def test_what_is_no_number_must_be_equal(wanted: Any, got: Any, same: bool) -> None:
    assert alike(wanted, got, EXACT) is same
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        assert alike(wanted, got, Tolerance(absolute=Decimal(10))) is same


def test_a_set_is_the_same_after_it_was_stored_and_gives_the_same_bytes() -> None:
    assert GoldenSet.from_bytes(SET.to_bytes()) == SET
    assert GoldenSet.from_bytes(SET.to_bytes()).to_bytes() == SET.to_bytes()


def test_an_open_inference_answer_is_read_by_output_and_place() -> None:
    two = {"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [0.25, 0.75]}
    assert answer_of({"outputs": [two, {"name": "label", "shape": [1], "data": ["yes"]}]}) == {"p.0": 0.25, "p.1": 0.75, "label": "yes"}
    assert answer_of({"error": "x"}) == "an answer without outputs"
    assert answer_of({"outputs": [{"name": "p"}]}) == "an answer whose outputs are no tensors"


KINDS = Signature(
    tuple(
        Column(type=kind, name=kind, required=kind != "string")
        for kind in ("boolean", "integer", "long", "float", "double", "string", "datetime")
    )
)


def test_rows_travel_in_the_signatures_own_types() -> None:
    table = pyarrow.table(
        {
            "datetime": pandas.to_datetime(["2026-01-01", "2026-01-02"]),
            "double": [float("inf"), 1],
            "float": [0.1, None],
            "integer": [1, 2],
            "long": [2**60, None],
            "boolean": [True, False],
            "string": [None, "b"],
        }
    )
    rows = rows_of(table.slice(1), KINDS)
    assert [kind for _, kind in rows.inputs] == ["BOOL", "INT32", "INT64", "FP32", "FP64", "BYTES", "BYTES"]
    assert rows.values()[0] == (False, 2, None, None, 1.0, "b", "2026-01-02T00:00:00")
    assert sendable(rows_of(table, KINDS), KINDS).table.num_rows == 0
    assert rows_of(pyarrow.table({"float": [0.1]}), Signature(KINDS.inputs[3:4])).values() == ((0.1,),)


def test_rows_are_spread_over_the_whole_file() -> None:
    rows = rows_of(pyarrow.table({"double": [float(at) for at in range(100)]}), Signature(KINDS.inputs[4:5]))
    assert spread(rows, 4).values() == ((0.0,), (33.0,), (66.0,), (99.0,))
    assert (len(spread(rows, 1).values()), len(spread(rows, 200).values())) == (1, 100)


def test_what_golden_rows_cannot_hold_is_told() -> None:
    with pytest.raises(Unfit, match="no named column of plain values"):
        rows_of(pyarrow.table({"x": [1]}), Signature((Column(type="tensor", name="x"),)))
    with pytest.raises(Unfit, match="the rows have no column 'long'"):
        rows_of(pyarrow.table({"x": [1]}), Signature(KINDS.inputs[2:3]))
    with pytest.raises(Unfit, match=r"it has no column 'prediction\.<output>'"):
        expected_of(pyarrow.table({"x": [1]}))


@pytest.mark.parametrize(
    ("golden", "why"),
    [
        ({"repository": "data"}, "declare both"),
        ({"repository": "d", "path": "g.parquet", "parity": 3}, "parity makes golden answers where no file has them"),
        ({"parity": 3, "may_differ": 3}, "may_differ must be below parity"),
    ],
)
def test_what_could_mean_nothing_is_refused_in_fleet_yaml(golden: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Golden.model_validate(golden)


def test_the_judgement_can_be_given_again_without_a_file(candidate: Candidate) -> None:
    model = with_golden(candidate, {}).declared
    answers = tuple(dict(zip(SET.outputs, row, strict=True)) for row in SET.answers)
    assert GoldenAnswers().judge(model, Reproduced(SET, answers)).outcome is GateOutcome.PASSED
