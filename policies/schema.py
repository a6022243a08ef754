"""The gate that asks for a schema: what goes in and comes out, by name and type, without loading the model."""

from __future__ import annotations

from fleet.declared import Model
from fleet.evidence import GateResult
from policies.candidate import Candidate, Gate, failed, passed
from policies.signature import Column, Signature, read_signature

REMEDY = (
    "Log the model with a signature: "
    "mlflow.<flavour>.log_model(..., signature=mlflow.models.infer_signature(X, model.predict(X))) with X a DataFrame"
)


class SchemaPresent(Gate[tuple[Signature, str]]):
    """Passes a model whose MLmodel file has a signature: every input named and typed, every output typed.

    A single output needs no name (MLflow gives none to an array).
    """

    name = "schema present"

    def gather(self, candidate: Candidate) -> tuple[Signature, str]:
        """Return the signature, or why there is none."""
        return read_signature(candidate.folder / "MLmodel")

    def judge(self, declared: Model, evidence: tuple[Signature, str]) -> GateResult:
        """Return whether the schema is there; it always applies."""
        found, problem = evidence
        if problem:
            return failed(self, f"{problem}. {REMEDY}")
        inputs, outputs = found.inputs, found.outputs
        problems = [*_problems("input", inputs, named=True), *_problems("output", outputs, named=len(outputs) > 1)]
        if problems:
            return failed(self, *(f"{problem}. {REMEDY}" for problem in problems))
        figures = (("inputs", str(len(inputs))), ("outputs", str(len(outputs))))
        return passed(self, f"{len(inputs)} named, typed inputs and {len(outputs)} outputs", figures)


def _problems(side: str, columns: tuple[Column, ...], *, named: bool) -> list[str]:
    if not columns:
        return [f"the model's signature has no {side}s"]
    nameless = [f"{side} {number} has no name" for number, column in enumerate(columns, 1) if named and not column.name]
    untyped = [f"{side} {column.name or number} has no type" for number, column in enumerate(columns, 1) if column.untyped]
    return nameless + untyped
