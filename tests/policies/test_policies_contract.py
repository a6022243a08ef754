from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from fleet.declared import Model
from fleet.errors import InputError
from fleet.evidence import GateOutcome
from policies.candidate import Candidate
from policies.contract import DataContract

GATE = DataContract()
Suite = Callable[..., Path]
VALIDATION = {"repository": "data", "path": "validation.parquet"}


def expect(kind: str, **kwargs: object) -> dict[str, object]:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


def test_rows_within_the_contract_pass_in_one_process_for_both_frames(candidate: Candidate, suite: Suite) -> None:
    result = GATE.evaluate(replace(candidate, contract=suite()))
    assert result.outcome is GateOutcome.PASSED, result.reasons
    assert dict(result.figures)["training rows"] == dict(result.figures)["evaluation rows"] == "200"


def test_rows_out_of_contract_fail_naming_frame_expectation_and_column(candidate: Candidate, suite: Suite, rows: pandas.DataFrame) -> None:
    rows[:200].assign(age=-7.0).to_parquet(candidate.training)
    contract = suite(
        expect("column_values_to_be_between", column="age", min_value=16, max_value=99),
        expect("column_values_to_not_be_null", column="wage"),
        expect("table_row_count_to_be_between", min_value=10, max_value=150),
        expect("column_mean_to_be_between", column="hours", min_value=0, max_value=60),
    )
    result = GATE.evaluate(replace(candidate, contract=contract))
    assert result.outcome is GateOutcome.FAILED
    told = "\n".join(result.reasons)
    assert "training rows: expect_column_values_to_be_between on age: 200 of 200 values do not meet it" in told
    assert "evaluation rows: expect_column_values_to_be_between" not in told
    assert "training rows: expect_column_values_to_not_be_null on wage: there is no such column" in told
    assert "evaluation rows: expect_table_row_count_to_be_between: observed 200 (min_value=10, max_value=150)" in told
    assert "mean" not in told
    assert "-7" not in told, "no value of a row leaves the sandbox"


def test_unknown_expectations_and_arguments_are_input_errors_with_their_names(candidate: Candidate, suite: Suite) -> None:
    contract = suite(expect("nonsense", column="age"), expect("column_values_to_be_unique", colum="age"))
    with pytest.raises(InputError, match=r"expectation 1 \(expect_nonsense\): no such expectation; expectation 2 .*colum: extra") as told:
        GATE.evaluate(replace(candidate, contract=contract))
    assert told.value.subject == str(contract)


def test_unknown_keys_are_input_errors_before_anything_runs(candidate: Candidate, suite: Suite) -> None:
    contract = suite({"type": "expect_x", "kwargs": {}, "arguments": {}}, expectatoins=[])
    with pytest.raises(InputError, match=r"expectations\.0\.arguments: unknown key; expectatoins: unknown key"):
        GATE.evaluate(replace(candidate, contract=contract))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "empty", "expectations": []}', '{"name": "none"}'])
def test_a_suite_that_asks_nothing_is_an_input_error(candidate: Candidate, tmp_path: Path, text: str) -> None:
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(InputError, match=r"suite\.json"):
        GATE.evaluate(replace(candidate, contract=tmp_path / "suite.json"))


def test_the_contract_is_not_applicable_only_where_none_is_declared(candidate: Candidate, suite: Suite) -> None:
    assert GATE.evaluate(candidate).outcome is GateOutcome.NOT_APPLICABLE
    declared = candidate.declared.model_copy(update={"contract": Path("people.json")})
    assert GATE.evaluate(replace(candidate, declared=declared)).outcome is GateOutcome.FAILED
    assert GATE.evaluate(replace(candidate, contract=suite(), training=None)).outcome is GateOutcome.FAILED


def test_rows_that_cannot_be_read_fail(candidate: Candidate, suite: Suite) -> None:
    assert candidate.training is not None
    candidate.training.write_bytes(b"no parquet")
    result = GATE.evaluate(replace(candidate, contract=suite()))
    assert result.outcome is GateOutcome.FAILED
    assert "the rows could not be checked" in result.reasons[0]


def test_declared_rows_that_were_not_found_fail_by_their_name(candidate: Candidate, suite: Suite) -> None:
    document = candidate.declared.model_dump() | {"contract": "people.json", "gates": {"contract": {"validation": VALIDATION}}}
    declared = Model.model_validate(document)
    result = GATE.evaluate(replace(candidate, contract=suite(), declared=declared))
    assert result.outcome is GateOutcome.FAILED
    assert "validation rows, but they were not found" in result.reasons[0]
    with pytest.raises(ValueError, match="declare contract"):
        Model.model_validate(document | {"contract": None})


def test_an_expectation_for_rows_that_nobody_knows_is_an_input_error(candidate: Candidate, suite: Suite) -> None:
    contract = suite(expect("column_values_to_be_unique", column="age") | {"meta": {"sets": ["trainign"]}})
    with pytest.raises(InputError, match=r"expectations\.0\.meta\.sets\.0: .*'training', 'validation', 'evaluation' or 'golden'"):
        GATE.evaluate(replace(candidate, contract=contract))
