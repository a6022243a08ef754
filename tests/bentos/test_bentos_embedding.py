"""The second example: what it answers, against figures that its authors published, and what the gate of its files says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bentos_serving import digest_of, packaged, serving, tensor

from fleet.declared import Model
from fleet.evidence import GateOutcome, GateResult
from fleet.reading import read_fleet
from policies.candidate import Candidate
from policies.files.gate import ModelFiles

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBLISHED = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
"""Similarities of the three sentences (sbert.net, "Quickstart"), to four digits."""
BEGINS = [6.7657e-02, 6.3496e-02, 4.8713e-02, 7.9305e-02, 3.7448e-02]
"""What the graph makes of "This is an example sentence", so that a change shows."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Any:
    sys.path.insert(0, str(EXAMPLES))
    import register_embedding

    folder = register_embedding.save(tmp_path_factory.mktemp("embedding") / "model")
    return register_embedding, folder


def declared() -> Model:
    return read_fleet(EXAMPLES / "embedding" / "fleet.yaml").models["embedding"]


def looked_at(folder: Path, model: Model, work: Path) -> GateResult:
    nothing = None
    return ModelFiles().evaluate(Candidate("embedding", model, folder, nothing, nothing, nothing, nothing, work, 60))


def test_the_graph_built_from_the_weights_gives_the_published_vectors(example: Any) -> None:
    import mlflow.pyfunc

    register, folder = example
    model = mlflow.pyfunc.load_model(str(folder))
    vectors = model.predict(pd.DataFrame({"text": register.TEXTS}))
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    for (one, other), similarity in PUBLISHED.items():
        assert float(vectors[one] @ vectors[other]) == pytest.approx(similarity, abs=5e-5)
    alone = model.predict(pd.DataFrame({"text": ["This is an example sentence"]}))
    assert alone[0][:5] == pytest.approx(BEGINS, abs=5e-6)
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)


def test_a_text_is_answered_alike_alone_and_beside_a_longer_one(example: Any) -> None:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(example[1]))
    both = model.predict(pd.DataFrame({"text": ["short", "a much longer text than the other one " * 40]}))
    assert model.predict(pd.DataFrame({"text": ["short"]}))[0] == pytest.approx(both[0], abs=1e-5)


def test_its_files_pass_the_gate_as_its_fleet_file_declares_and_not_without_code(example: Any, tmp_path: Path) -> None:
    folder = example[1]
    result = looked_at(folder, declared(), tmp_path)
    assert result.outcome is GateOutcome.PASSED, result.reasons
    plain = declared()
    plain = plain.model_copy(
        update={"gates": plain.gates.model_copy(update={"files": plain.gates.files.model_copy(update={"code": False})})}
    )
    refused = looked_at(folder, plain, tmp_path)
    assert refused.outcome is GateOutcome.FAILED
    assert "model.py: is code" in refused.reasons[0]
    assert replace(refused, reasons=()).gate == "model files"


def test_its_bento_answers_a_text_with_384_numbers(example: Any, tmp_path: Path) -> None:
    register, folder = example
    bento = packaged(folder, "embedding", tmp_path / "revision")
    with serving(bento, tmp_path / "log", revision=digest_of(bento)) as service:
        answer = service.infer("embedding", tensor("text", "BYTES", *register.TEXTS))
        wrong = service.infer("embedding", tensor("text", "FP64", 1.0))
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [3, 384])
    vectors = np.array(output["data"]).reshape(3, 384)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(PUBLISHED[0, 1], abs=5e-5)
    assert wrong.status_code == 400
