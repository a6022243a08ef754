"""What `fleet.yaml` may say of making a model quicker when it is packaged: the key `optimise` of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from fleet.declared_golden import MOST_ROWS, Tolerance
from fleet.declaring import Declared

SMALL = Decimal("0.0001")
BF16 = "onnx-bf16"
NO_BF16 = (
    "ONNX Runtime multiplies no bfloat16 matrices on a CPU, where the gate compares answers; onnx-fp16 has as few bits and more digits"
)


class Variant(StrEnum):
    """Another form of the same model."""

    ONNX = "onnx"
    FP16 = "onnx-fp16"
    INT8 = "onnx-int8"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANING[self]


_MEANING = {
    Variant.ONNX: "The model as a graph of ONNX Runtime, in 32-bit numbers; trees are compiled into one node.",
    Variant.FP16: "The same graph with 16-bit weights, half as large.",
    Variant.INT8: "The same graph with its matrices in 8-bit whole numbers.",
}


class Optimise(Declared):
    """Which variants of a model are made, how far their answers may lie from the model's own, and which one is served.

    `rows` of the evaluation, else of the training, else of the input example are answered by the model and by each
    variant; `tolerance` holds for every number that `outputs` does not name; labels, texts and whole numbers must be
    equal. So many of the rows `may_differ`. `seconds` is how long each is measured, alone and in batches of 64.
    `serve` names the variant that goes into the Bento; without it, each is only kept beside the revision. `compile` has the
    service compile a PyTorch model (torch.compile) before it is ready; without `variants` none is then made.
    """

    variants: tuple[Variant, ...] = (Variant.ONNX,)
    compile: bool = False
    serve: Variant | None = None
    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 200
    tolerance: Tolerance = Tolerance(absolute=SMALL, relative=SMALL)
    outputs: dict[str, Tolerance] = Field(default_factory=dict)
    may_differ: Annotated[int, Field(ge=0, lt=MOST_ROWS)] = 0
    seconds: Annotated[float, Field(gt=0, le=60)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _compiled_without_variants(cls, given: Any) -> Any:
        compiles = isinstance(given, Mapping) and given.get("compile") is True
        return {"variants": (), **given} if compiles else given

    @model_validator(mode="before")
    @classmethod
    def _no_bf16(cls, given: Any) -> Any:
        named = given.get("variants") if isinstance(given, Mapping) else None
        if isinstance(named, Sequence) and BF16 in named:
            raise ValueError(f"{BF16} is not made: {NO_BF16}")
        return given

    @model_validator(mode="after")
    def _served_is_made(self) -> Self:
        if not self.variants and not self.compile:
            raise ValueError("variants must name one at least, where compile is not declared")
        if self.compile and self.serve is not None:
            raise ValueError(f"compile is for the model itself, and serve puts {self.serve} in its place: declare one of them")
        if len(set(self.variants)) != len(self.variants):
            raise ValueError("variants must not repeat")
        if self.serve is not None and self.serve not in self.variants:
            raise ValueError(f"serve names {self.serve}, and variants are {', '.join(self.variants)}: declare it there too")
        if self.may_differ >= self.rows:
            raise ValueError(f"may_differ must be below rows, or no answer could ever differ (found {self.may_differ} of {self.rows})")
        return self
