"""The gate that asks for a schema: what goes in and comes out, by name and type, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fleet.evidence import GateResult
from policies.candidate import Candidate, failed, passed

MOST_BYTES = 4 << 20
UNTYPED = ("any", "")
REMEDY = (
    "Log the model with a signature: "
    "mlflow.<flavour>.log_model(..., signature=mlflow.models.infer_signature(X, model.predict(X))) with X a DataFrame"
)


class _Tensor(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    dtype: str = ""


class _Column(BaseModel):
    """One input or output as MLflow writes it: a named column, or a tensor."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: str = ""
    name: str | None = None
    tensor: Annotated[_Tensor | None, Field(alias="tensor-spec")] = None

    @property
    def untyped(self) -> bool:
        """Whether a caller could not know what to send."""
        return (self.tensor.dtype if self.tensor else self.type) in UNTYPED


_COLUMNS = TypeAdapter(tuple[_Column, ...])


class SchemaPresent:
    """Passes a model whose MLmodel file has a signature: every input named and typed, every output typed.

    A single output needs no name (MLflow gives none to an array).
    """

    name = "schema present"

    def evaluate(self, candidate: Candidate) -> GateResult:
        """Return whether the schema is there; it always applies."""
        sides, problem = _signature(candidate.folder / "MLmodel")
        if problem:
            return failed(self, f"{problem}. {REMEDY}")
        inputs, outputs = sides
        problems = [*_problems("input", inputs, named=True), *_problems("output", outputs, named=len(outputs) > 1)]
        if problems:
            return failed(self, *(f"{problem}. {REMEDY}" for problem in problems))
        figures = (("inputs", str(len(inputs))), ("outputs", str(len(outputs))))
        return passed(self, f"{len(inputs)} named, typed inputs and {len(outputs)} outputs", figures)


def _signature(file: Path) -> tuple[tuple[tuple[_Column, ...], tuple[_Column, ...]], str]:
    """Return inputs and outputs, or why there are none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    none: tuple[_Column, ...] = ()
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
        document = YAML(typ="safe", pure=True).load(text) if len(text) <= MOST_BYTES else None
    except (OSError, YAMLError, UnicodeDecodeError) as problem:
        return (none, none), f"the model's MLmodel file cannot be read ({type(problem).__name__})"
    if not isinstance(document, dict):
        return (none, none), "the model's MLmodel file is no mapping"
    signature = document.get("signature")
    if not isinstance(signature, dict):
        return (none, none), "the model has no signature"
    try:
        return (_side(signature, "inputs"), _side(signature, "outputs")), ""
    except (ValidationError, ValueError, TypeError) as problem:
        return (none, none), f"the model's signature cannot be read ({type(problem).__name__})"


def _side(signature: Mapping[str, object], side: str) -> tuple[_Column, ...]:
    text = signature.get(side)
    return _COLUMNS.validate_python(json.loads(text)) if isinstance(text, str) else ()


def _problems(side: str, columns: tuple[_Column, ...], *, named: bool) -> list[str]:
    if not columns:
        return [f"the model's signature has no {side}s"]
    nameless = [f"{side} {number} has no name" for number, column in enumerate(columns, 1) if named and not column.name]
    untyped = [f"{side} {column.name or number} has no type" for number, column in enumerate(columns, 1) if column.untyped]
    return nameless + untyped
