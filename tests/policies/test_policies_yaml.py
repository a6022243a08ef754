"""Texts that an author wrote to break their readers: every reader says so, none raises, and no gate's answer is lost for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rights_world import candidate

from bentos.needs import needs_of
from fleet.errors import InputError, Unreachable
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate, Gate, passed
from policies.files.gate import ModelFiles
from policies.files.texts import read_yaml
from policies.gates import STAGES, evaluate_all, may_go_on
from policies.metadata import metadata_of
from policies.rego.bundle import read_data
from policies.rego.documents import read_documents
from policies.signature import read_signature
from support.attacks import YAML_TEXTS

SIGNED = "signature:\n  inputs: '[{text}]'\n"


@pytest.mark.parametrize("text", YAML_TEXTS)
def test_every_reader_says_that_it_cannot_read_it(tmp_path: Path, text: str) -> None:
    for name in ("MLmodel", "conda.yaml", "data.yaml"):
        (tmp_path / name).write_bytes(text.encode())
    assert read_signature(tmp_path / "MLmodel")[1].startswith("the model's MLmodel file ")
    assert metadata_of(tmp_path) == {}
    assert read_yaml(text.encode())[1]
    assert [problem for problem in needs_of(tmp_path).problems if problem.startswith("conda.yaml cannot be read")]
    for read in (read_data, read_documents):
        with pytest.raises(InputError, match=r"data\.yaml: cannot be read"):
            read(tmp_path / "data.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000])
def test_a_signature_that_breaks_the_reader_of_json_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(SIGNED.format(text=text))
    assert read_signature(tmp_path / "MLmodel")[1].startswith("the model's signature cannot be read")


def test_json_that_nests_without_end_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"a":' + "[" * 100_000)
    for read in (read_data, read_documents):
        with pytest.raises(InputError, match="cannot be read"):
            read(tmp_path / "data.json")


def test_keys_that_json_would_take_for_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: ConfigMap\ndata: {1: a, '1': b}\n")
    with pytest.raises(InputError, match="a key stands twice"):
        read_documents(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", YAML_TEXTS[:4])
def test_an_mlmodel_file_that_breaks_readers_fails_its_gates_and_their_answers_are_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text(text)
    results = evaluate_all(STAGES, candidate(tmp_path))
    assert [result.gate for result in results] == [gate.name for gate in STAGES[0]]
    found = {result.gate: result.outcome for result in results}
    assert found["schema present"] is GateOutcome.FAILED
    assert found[ModelFiles.name] is GateOutcome.FAILED


class Raises(Gate[None]):
    """A gate with a mistake in it."""

    name = "broken"

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    def gather(self, candidate: Candidate) -> None:
        raise self.problem

    def judge(self, declared: object, evidence: None) -> GateResult:
        return passed(self, "nothing was looked at")


class Passes(Gate[None]):
    """A gate that passes everything."""

    name = "passes"

    def gather(self, candidate: Candidate) -> None:
        pass

    def judge(self, declared: object, evidence: None) -> GateResult:
        return passed(self, "so it is")


def test_a_gate_that_breaks_is_inconclusive_by_the_type_of_what_broke_it_and_no_other_answer_is_lost(tmp_path: Path) -> None:
    results = evaluate_all(((Raises(KeyError("a secret of the file")), Passes()), (Passes(),)), candidate(tmp_path))
    assert [(result.gate, result.outcome) for result in results] == [
        ("broken", GateOutcome.INCONCLUSIVE),
        ("passes", GateOutcome.PASSED),
    ]
    assert "KeyError" in results[0].reasons[0]
    assert "secret" not in results[0].reasons[0]
    assert not may_go_on(results)


@pytest.mark.parametrize("problem", [InputError("rows", "are wrong"), Unreachable("MLflow", "does not answer")])
def test_what_a_gate_reports_in_our_own_terms_is_told_as_it_is(tmp_path: Path, problem: Exception) -> None:
    with pytest.raises(type(problem)):
        evaluate_all(((Raises(problem),),), replace(candidate(tmp_path)))
