"""What goes into a model and comes out, by name and type, read from its MLmodel file without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fleet.yaml_text import Unreadable, read_yaml_file

UNTYPED = ("any", "")


class Tensor(BaseModel):
    """What MLflow writes of a tensor; in its shape -1 stands for the rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    dtype: str = ""
    shape: tuple[int, ...] = ()


class Column(BaseModel):
    """One input or output as MLflow writes it: a named column, or a tensor; nested types stand beside `type`."""

    model_config = ConfigDict(frozen=True, extra="allow")
    type: str = ""
    name: str | None = None
    required: bool = True
    optional: bool = False
    tensor: Annotated[Tensor | None, Field(alias="tensor-spec")] = None

    @property
    def untyped(self) -> bool:
        """Whether a caller could not know what to send."""
        return (self.tensor.dtype if self.tensor else self.type) in UNTYPED

    @property
    def needed(self) -> bool:
        """Whether a caller must send it."""
        return self.required and not self.optional

    @property
    def kind(self) -> str:
        """The whole type in words, the same for the same type."""
        if self.tensor:
            return f"{self.tensor.dtype} tensor of shape {list(self.tensor.shape)}"
        nested: Mapping[str, Any] = self.model_extra or {}
        return f"{self.type} of {json.dumps(nested, sort_keys=True)}" if nested else self.type


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's inputs and outputs in their order."""

    inputs: tuple[Column, ...] = ()
    outputs: tuple[Column, ...] = ()


_COLUMNS = TypeAdapter(tuple[Column, ...])


def read_signature(file: Path) -> tuple[Signature, str]:
    """Return what an MLmodel file says, or why it says nothing."""
    try:
        document = read_yaml_file(file)
    except Unreadable as problem:
        return Signature(), f"the model's MLmodel file {problem}"
    if not isinstance(document, dict):
        return Signature(), "the model's MLmodel file is no mapping"
    signature = document.get("signature")
    if not isinstance(signature, dict):
        return Signature(), "the model has no signature"
    try:
        return Signature(_side(signature, "inputs"), _side(signature, "outputs")), ""
    except (ValidationError, ValueError, TypeError, RecursionError) as problem:
        return Signature(), f"the model's signature cannot be read ({type(problem).__name__})"


def _side(signature: Mapping[str, object], side: str) -> tuple[Column, ...]:
    text = signature.get(side)
    return _COLUMNS.validate_python(json.loads(text)) if isinstance(text, str) else ()
