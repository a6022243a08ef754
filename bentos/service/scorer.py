"""One loaded model: a request's bytes in, an answer's bytes out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from .answered import told_of
from .answers import Form, form_of, tensors
from .errors import BadRequest, ModelFailed, ModelUnusable, told
from .params import known_params
from .signature import Signature, signature_of
from .tensors import Field, read

OPTIONS = orjson.OPT_SERIALIZE_NUMPY
NAMED = 50


@dataclass(frozen=True, slots=True)
class Label:
    """Which registered model and version a Bento was built for."""

    model: str
    version: str


def read_label(path: Path) -> Label:
    """Return a Bento's label; raises ModelUnusable where it is unreadable."""
    try:
        document = json.loads(path.read_bytes())
        return Label(str(document["model"]), str(document["version"]))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelUnusable(f"{path} cannot be read ({told(problem)})") from problem


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's body, and what may be told of it (`answered`)."""

    body: bytes
    told: bytes


@dataclass(frozen=True, slots=True)
class Scored:
    """What the model gave for one request: the outputs asked for as tensors, their JSON, its form, and what may be told of it."""

    tensors: list[dict[str, Any]]
    outputs: bytes
    form: Form
    told: bytes


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that answers; `predict` is its MLflow pyfunc, which checks the signature once more."""

    name: str
    version: str
    signature: Signature
    pyfunc: Any

    def answer(self, body: bytes) -> Answer:
        """Return the answer to an inference request.

        What is told of it is told of all outputs' score, whichever of them the request asks for.

        Raises BadRequest for a request that the signature does not allow, ModelFailed when the model raises.
        """
        request = parsed(body)
        params = known_params(self.signature.params, request.get("parameters"))
        scored = self.score(request.get("inputs"), request.get("outputs"), params)
        named = {"model_name": self.name, "model_version": self.version} | ({"id": request["id"]} if "id" in request else {})
        # The outputs are large and are written once, for the mark and for the body
        return Answer(b'%b,"outputs":%b}' % (orjson.dumps(named)[:-1], scored.outputs), scored.told)

    def score(self, inputs: Any, wanted: Any = None, params: Mapping[str, Any] | None = None) -> Scored:
        """Return what the model gives for tensors as the protocol writes them; `data` may be an array of the datatype's type.

        `wanted` are the outputs asked for as the protocol names them, None for all of them. Raises as `answer` does.
        """
        prediction = self._predicted(self._input(inputs), params)
        everything = tensors(self.signature, prediction)
        chosen = _wanted(everything, wanted)
        try:
            outputs = orjson.dumps(chosen, option=OPTIONS)
        except TypeError as problem:
            raise ModelFailed(f"the model's answer cannot be expressed ({problem})") from problem
        return Scored(chosen, outputs, form_of(prediction), told_of(everything, outputs))

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata in the protocol's form."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "mlflow_pyfunc",
            "inputs": [_described(field) for field in self.signature.inputs],
            "outputs": [{"name": out.name, "datatype": out.datatype, "shape": list(out.shape)} for out in self.signature.outputs],
        }

    def _predicted(self, model_input: Any, params: Mapping[str, Any] | None) -> Any:
        try:
            return self.pyfunc.predict(model_input, params=dict(params)) if params else self.pyfunc.predict(model_input)
        except BaseException as problem:  # a model may raise anything; none may end the only thread
            raise ModelFailed(told(problem)) from problem

    def _input(self, inputs: Any) -> Any:
        """Return what the pyfunc takes: a frame of columns, a mapping of arrays or one array."""
        arrays = self._arrays(inputs)
        if self.signature.frame:
            import pandas as pd

            columns = arrays if self.signature.named else {int(name): array for name, array in arrays.items()}
            # the arrays are ours alone, so the frame need not copy them
            return pd.DataFrame(columns, copy=False)
        return arrays if self.signature.named else next(iter(arrays.values()))

    def _arrays(self, inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Return the request's arrays in the signature's order, all of one length."""
        given = _by_name(inputs)
        fields = self.signature.by_name
        unknown = [name for name in given if name not in fields]
        if unknown:
            raise BadRequest(f"unknown column{_plural(unknown)} {_listed(unknown)} (known: {_listed(fields)})")
        missing = [field.name for field in fields.values() if field.required and field.name not in given]
        if missing:
            raise BadRequest(f"missing column{_plural(missing)} {_listed(missing)} (known: {_listed(fields)})")
        arrays = {name: read(field, given[name]) for name, field in fields.items() if name in given}
        lengths = {name: len(array) for name, array in arrays.items()}
        first, rows = next(iter(lengths.items()))
        for name, length in lengths.items():
            if length != rows:
                raise BadRequest(f"column '{name}' has {length} rows, column '{first}' has {rows}: all must have the same number")
        return arrays


def load(folder: Path, label: Label, name: str) -> Scorer:
    """Return the model of a folder under a name; raises ModelUnusable when MLflow cannot load it. It runs the model's own code."""
    import mlflow.pyfunc

    try:
        pyfunc = mlflow.pyfunc.load_model(str(folder))
    except BaseException as problem:  # loading runs the model's code; the process ends with the reason
        raise ModelUnusable(f"the model cannot be loaded ({told(problem)})") from problem
    return Scorer(name, label.version, signature_of(pyfunc.metadata.signature), pyfunc)


def parsed(body: bytes) -> dict[str, Any]:
    """Return an inference request's document; raises BadRequest."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"the body is not JSON ({problem})") from problem
    if not isinstance(request, dict):
        raise BadRequest('the body must be an object with the key "inputs"')
    if not isinstance(request.get("id", ""), str):
        raise BadRequest('"id" must be a string')
    return request


def _by_name(inputs: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest('"inputs" must be a list of tensors, one for each column')
    given: dict[str, dict[str, Any]] = {}
    for at, tensor in enumerate(inputs):
        name = tensor.get("name")
        if not isinstance(name, str):
            raise BadRequest(f"inputs[{at}] has no name")
        if name in given:
            raise BadRequest(f"column '{name}' is given twice")
        given[name] = tensor
    return given


def _wanted(outputs: list[dict[str, Any]], asked: Any) -> list[dict[str, Any]]:
    if asked is None:
        return outputs
    if not isinstance(asked, list) or not all(isinstance(output, dict) and isinstance(output.get("name"), str) for output in asked):
        raise BadRequest('"outputs" must be a list of objects with a name')
    by_name = {output["name"]: output for output in outputs}
    unknown = [output["name"] for output in asked if output["name"] not in by_name]
    if unknown:
        raise BadRequest(f"unknown output{_plural(unknown)} {_listed(unknown)} (known: {_listed(by_name)})")
    return [by_name[output["name"]] for output in asked]


def _described(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.tail]}
    if not field.required:
        described["parameters"] = {"optional": True}
    return described


def _listed(names: Collection[str]) -> str:
    shown = [f"'{name[:100]}'" for name in itertools.islice(names, NAMED)]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _plural(names: Collection[str]) -> str:
    return "s" if len(names) > 1 else ""
