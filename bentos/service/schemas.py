"""JSON schemas (2020-12) of what each door takes and answers, made from a model's signature."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from .doors import JSON
from .invocations import CSV
from .oip import BINARY
from .scorer import Scorer
from .signature import Signature
from .tensors import Field, Text

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a door takes and what it answers, by content type."""

    request: dict[str, Schema]
    answer: dict[str, Schema]


def _to(name: str) -> Schema:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


TEXT = {"schema": {"type": "string"}}
BYTES: Schema = {}
DOORS = {
    "Oip": Asked({JSON: _to("InferenceRequest")}, {JSON: _to("InferenceAnswer"), BINARY: BYTES}),
    "Invocations": Asked({JSON: _to("Invocation"), CSV: TEXT}, {JSON: _to("Predictions"), CSV: TEXT}),
    "Vertex": Asked({JSON: _to("Instances")}, {JSON: _to("Predictions")}),
    "Azure": Asked({JSON: _to("InputData")}, {JSON: {}}),
}
"""By the name of a door's class."""
PAGES = {path: {"text/plain": TEXT} for path in ("/", "/version", "/metrics")} | {"/docs": {"text/html": TEXT}}
"""Of the paths that only read, those that do not answer with an object."""


def quoted(name: str) -> str:
    """Return a name as it stands in a path."""
    return quote(name, safe="")


def of_model(scorer: Scorer) -> dict[str, Schema]:
    """Return the named schemas that doors refer to."""
    signature, refuses = scorer.signature, scorer.schema.refuses
    params = {param.name: _many(KINDS.get(param.kind, {}), param.many) for param in signature.params}
    shapes = {key: {"$ref": f"#/components/schemas/{name}"} for key, name in SHAPES.items()}
    return {
        "Error": _object({"error": {"type": "string"}, "ready": {"type": "boolean"}}, "error"),
        "Params": _object(params) | {"type": ["object", "null"], "additionalProperties": False},
        "Row": _object({field.name: of_value(field, refuses) for field in signature.inputs}, *_required(signature))
        | {"additionalProperties": False},
        "Rows": {"type": "array", "minItems": 1, "items": _row(signature, refuses)},
        "Records": {"type": "array", "minItems": 1, "items": _row(signature, refuses)},
        "Columns": _object({field.name: _many(of_value(field, refuses)) for field in signature.inputs}, *_required(signature)),
        "Split": _object({"columns": _many({"type": "string"}), "data": _many({"type": "array"})}, "data"),
        "InferenceRequest": _inference(signature, refuses),
        "InferenceAnswer": _object(
            {"model_name": {"const": scorer.name}, "model_version": {"const": scorer.version}, "outputs": _many({"type": "object"})},
            *("model_name", "model_version", "outputs"),
        ),
        "Predictions": _object({"predictions": {"type": ["array", "object"]}}, "predictions"),
        "Invocation": _one_of(shapes, "params"),
        "InputData": _one_of({"input_data": {"anyOf": list(shapes.values())}} | shapes, "params"),
        "Instances": _object({"instances": shapes["instances"], "parameters": {"$ref": "#/components/schemas/Params"}}, "instances"),
    }


SHAPES = {"dataframe_split": "Split", "dataframe_records": "Records", "instances": "Rows", "inputs": "Columns"}
"""MLflow's keys and what stands behind each."""
KINDS: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "double": {"type": "number"},
    "string": {"type": "string"},
}
"""By MLflow's names of types."""


def of_value(field: Field, refuses: Collection[str] = ()) -> Schema:
    """Return the schema of one value of a column in the doors that know rows, an array for a column of arrays.

    Of the columns in `refuses` no value may be missing.
    """
    value: Schema = _scalar(field, refuses)
    for _ in field.tail:
        value = _many(value)
    return value


def _scalar(field: Field, refuses: Collection[str]) -> Schema:
    kind = field.dtype.kind
    if kind in "iu":
        limits = np.iinfo(field.dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if kind == "f":
        real = np.finfo(field.dtype)
        number = {"type": "number" if field.name in refuses else ["number", "null"]}
        if field.dtype == np.float64:
            return number | {"minimum": -float(real.max), "maximum": float(real.max)}
        # up to half a step beyond the largest number all are rounded to it
        limit = float(real.max) + 2.0 ** (real.maxexp - real.nmant - 2)
        return number | {"exclusiveMinimum": -limit, "exclusiveMaximum": limit}
    if kind == "b":
        return {"type": "boolean"}
    if field.text is Text.JSON:
        return {}
    formats = {Text.MOMENT: {"format": "date-time"}, Text.BINARY: {"contentEncoding": "base64"}}
    return {"type": "string" if field.required else ["string", "null"]} | formats.get(field.text, {})


def _row(signature: Signature, refuses: Collection[str]) -> Schema:
    if not signature.frame and not signature.named:
        return of_value(signature.inputs[0], refuses)
    return {"$ref": "#/components/schemas/Row"}


def _inference(signature: Signature, refuses: Collection[str]) -> Schema:
    tensors = [_tensor(field, refuses) for field in signature.inputs]
    return _object(
        {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": tensors}},
            "outputs": {"type": "array", "items": _object({"name": {"type": "string"}}, "name")},
            "parameters": {"type": "object"},
        },
        "inputs",
    )


def _tensor(field: Field, refuses: Collection[str]) -> Schema:
    value = {"type": "string"} if field.text is Text.JSON else _scalar(field, refuses)
    shape: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    return _object(
        {"name": {"const": field.name}, "datatype": {"const": field.datatype}, "shape": shape, "data": {"type": "array", "items": value}},
        *("name", "datatype", "shape", "data"),
    )


def _one_of(keys: dict[str, Schema], params: str) -> Schema:
    """Return the schema of an object with exactly one of the keys."""
    given = {params: {"$ref": "#/components/schemas/Params"}}
    return {"oneOf": [_object({key: schema} | given, key) for key, schema in keys.items()]}


def _required(signature: Signature) -> tuple[str, ...]:
    return tuple(field.name for field in signature.inputs if field.required)


def _many(schema: Schema, many: bool = True) -> Schema:
    return {"type": "array", "items": schema} if many else schema


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})
