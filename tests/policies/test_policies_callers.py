"""A version that would break the stable one's callers is refused, column by column; one that only adds is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fleet.evidence import GateOutcome
from policies.callers import CallersKept, breaking
from policies.candidate import Candidate
from policies.gates import STAGES
from policies.signature import Column, Signature, read_signature

GATE = CallersKept()
AGE, HOURS = {"type": "double", "name": "age"}, {"type": "long", "name": "hours"}
SCORE = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}


def signature(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> Signature:
    return Signature(*(tuple(Column.model_validate(column) for column in side) for side in (inputs, outputs)))


STABLE = signature([AGE, HOURS], [SCORE])


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ([AGE], [SCORE], "input 'hours' (long) is gone, and callers send it"),
        ([AGE, {**HOURS, "name": "weekly"}], [SCORE], "input 'hours' (long) is gone, and callers send it (is 'weekly' its new name?)"),
        ([{**AGE, "type": "string"}, HOURS], [SCORE], "input 'age' was double and is string now"),
        ([AGE, HOURS, {"type": "double", "name": "wage"}], [SCORE], "input 'wage' (double) is new and required"),
        (
            [AGE, HOURS],
            [{"type": "double", "name": "score"}],
            "output 'output' (float64 tensor of shape [-1, 2]) is gone, and callers read it",
        ),
        ([AGE, HOURS], [{**SCORE, "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}], "is float32 tensor of shape [-1, 2] now"),
        ([AGE, HOURS], [{**SCORE, "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}], "is float64 tensor of shape [-1, 3] now"),
    ],
)
def test_what_breaks_callers_is_named_by_its_column(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]], says: str) -> None:
    assert says in breaking(STABLE, signature(inputs, outputs))[0]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([AGE, HOURS], [SCORE]),
        ([HOURS, AGE], [SCORE]),
        ([AGE, HOURS, {"type": "double", "name": "wage", "required": False}], [SCORE]),
        ([AGE, HOURS, {"type": "double", "name": "wage", "optional": True}], [SCORE]),
        ([{**AGE, "required": False}, HOURS], [SCORE]),
        ([AGE, HOURS], [{**SCORE, "name": "output"}, {"type": "string", "name": "why"}]),
    ],
    ids=["the same", "another order", "an optional input", "an optional input of old", "less is required", "one more output"],
)
def test_what_callers_need_not_know_of_breaks_nothing(inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    assert breaking(STABLE, signature(inputs, outputs)) == ()


def test_an_input_that_was_optional_and_is_required_breaks_callers() -> None:
    before = signature([{**AGE, "required": False}], [SCORE])
    assert breaking(before, signature([AGE], [SCORE])) == ("input 'age' was optional and is required now",)


def test_a_nested_type_that_changed_inside_breaks_callers() -> None:
    words = {"type": "array", "items": {"type": "string"}, "name": "words"}
    numbers = {**words, "items": {"type": "long"}}
    (reason,) = breaking(signature([words], [SCORE]), signature([numbers], [SCORE]))
    assert 'array of {"items": {"type": "string"}} and is array of {"items": {"type": "long"}}' in reason


def test_every_break_is_told_at_once() -> None:
    assert len(breaking(STABLE, signature([{**AGE, "type": "string"}], []))) == 3


def with_signature(folder: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    with (folder / "MLmodel").open("w") as file:
        YAML().dump({"signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}}, file)
    return folder


def test_a_first_version_has_no_callers(candidate: Candidate) -> None:
    assert GATE.evaluate(candidate).outcome is GateOutcome.NOT_APPLICABLE
    assert any(isinstance(gate, CallersKept) for stage in STAGES for gate in stage)


def test_a_version_of_the_same_schema_passes_and_another_one_hears_of_a_new_name(candidate: Candidate, tmp_path: Path) -> None:
    again = replace(candidate, champion=candidate.folder)
    assert GATE.evaluate(again).outcome is GateOutcome.PASSED
    other = replace(again, folder=with_signature(tmp_path / "other", [{**AGE, "name": "years"}], [SCORE]))
    result = GATE.evaluate(other)
    assert result.outcome is GateOutcome.FAILED
    assert "input 'hours'" in " ".join(result.reasons)
    assert all("under a new name" in reason for reason in result.reasons)


def test_a_stable_version_that_cannot_be_read_passes_nothing(candidate: Candidate, tmp_path: Path) -> None:
    result = GATE.evaluate(replace(candidate, champion=tmp_path))
    assert result.outcome is GateOutcome.FAILED
    assert "cannot be told" in result.reasons[0]


def test_what_mlflow_writes_of_real_models_is_read_and_compared(models: dict[str, Path]) -> None:
    good, _ = read_signature(models["good"] / "MLmodel")
    classes, _ = read_signature(models["classes"] / "MLmodel")
    assert breaking(good, good) == ()
    assert breaking(good, classes) == ("output 'output' was float64 tensor of shape [-1, 2] and is int64 tensor of shape [-1] now",)
