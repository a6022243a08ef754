from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fleet.declared import Model
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate, Gate, passed
from policies.gates import STAGES, evaluate_all, may_go_on
from policies.schema import SchemaPresent

GATE = SchemaPresent()
NAMED = [{"type": "double", "name": "age"}]


def with_signature(candidate: Candidate, tmp_path: Path, inputs: list[dict], outputs: list[dict]) -> Candidate:
    folder = tmp_path / "model"
    folder.mkdir()
    with (folder / "MLmodel").open("w") as file:
        YAML().dump({"signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)}}, file)
    return replace(candidate, folder=folder)


def test_a_model_with_a_signature_passes(candidate: Candidate) -> None:
    result = GATE.evaluate(candidate)
    assert result.outcome is GateOutcome.PASSED
    assert dict(result.figures) == {"inputs": "2", "outputs": "1"}


def test_a_model_without_a_signature_fails_and_hears_how_to_add_one(candidate: Candidate, models: dict[str, Path]) -> None:
    results = evaluate_all(STAGES, replace(candidate, folder=models["unsigned"]))
    assert [result.gate for result in results] == [gate.name for gate in STAGES[0]], "nothing that loads it is asked"
    assert results[0].outcome is GateOutcome.FAILED
    assert "the model has no signature" in results[0].reasons[0]
    assert "mlflow.models.infer_signature" in results[0].reasons[0]
    assert not may_go_on(results)


def test_what_comes_after_the_schema_is_asked_at_once_each_in_a_folder_of_its_own_and_told_in_order(candidate: Candidate) -> None:
    met, folders = threading.Barrier(2, timeout=20), set()

    class Waits(Gate[None]):
        def __init__(self, name: str) -> None:
            self.name = name

        def gather(self, candidate: Candidate) -> None:
            folders.add(candidate.work)
            met.wait()

        def judge(self, declared: Model, evidence: None) -> GateResult:
            return passed(self, "met the other one")

    results = evaluate_all(((GATE,), (Waits("one"), Waits("two"))), candidate)
    assert [result.gate for result in results] == ["schema present", "one", "two"]
    assert len(folders) == 2


class Says(Gate[None]):
    """A gate that gives one answer to everything."""

    def __init__(self, outcome: GateOutcome) -> None:
        self.name, self.outcome = outcome.value, outcome

    def gather(self, candidate: Candidate) -> None:
        pass

    def judge(self, declared: Model, evidence: None) -> GateResult:
        return GateResult(self.name, self.outcome, ("so it is",))


@pytest.mark.parametrize("outcome", GateOutcome)
def test_only_what_passed_or_did_not_apply_goes_on_to_the_next_stage(candidate: Candidate, outcome: GateOutcome) -> None:
    good = outcome in (GateOutcome.PASSED, GateOutcome.NOT_APPLICABLE)
    results = evaluate_all(((Says(outcome),), (Says(GateOutcome.PASSED),)), candidate)
    assert len(results) == (2 if good else 1)
    assert may_go_on(results) is good


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([{"type": "double"}], NAMED, "input 1 has no name"),
        ([{"type": "any", "name": "age"}], NAMED, "input age has no type"),
        ([], NAMED, "no inputs"),
        (NAMED, [], "no outputs"),
        (NAMED, [{"type": "tensor", "tensor-spec": {"shape": [-1, 2]}}], "output 1 has no type"),
        (NAMED, [{"type": "double"}, {"type": "double", "name": "b"}], "output 1 has no name"),
    ],
)
def test_what_is_not_named_and_typed_fails(
    candidate: Candidate, tmp_path: Path, inputs: list[dict], outputs: list[dict], reason: str
) -> None:
    result = GATE.evaluate(with_signature(candidate, tmp_path, inputs, outputs))
    assert result.outcome is GateOutcome.FAILED
    assert reason in result.reasons[0]


@pytest.mark.parametrize("text", ["", "[]", "signature: {inputs: '{', outputs: 3}", "a: [", "!!python/object:os.system {}", "\0\0"])
def test_a_broken_mlmodel_file_fails(candidate: Candidate, tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    assert GATE.evaluate(replace(candidate, folder=tmp_path)).outcome is GateOutcome.FAILED


def test_a_folder_without_an_mlmodel_file_fails(candidate: Candidate, tmp_path: Path) -> None:
    result = GATE.evaluate(replace(candidate, folder=tmp_path))
    assert "cannot be read (FileNotFoundError)" in result.reasons[0]


def test_no_answers_are_no_permission() -> None:
    assert not may_go_on(())
