"""One loaded model: requests' bytes in, answers' bytes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from .answered import told_of
from .answers import tensors
from .errors import BadRequest, ModelFailed, ModelUnusable, told
from .prediction import Predictor, Pyfunc, parts
from .schema import Rows, Schema, joined, listed, plural
from .signature import Signature, signature_of
from .tensors import Field

OPTIONS = orjson.OPT_SERIALIZE_NUMPY


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
class Asked:
    """A request that was read: its rows, its id as the caller gave it, and which outputs are wanted (all where None)."""

    rows: Rows
    named: dict[str, str]
    outputs: Any


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model that answers. `pyfunc` is what MLflow loaded, None where another predictor answers without it.

    `notes` tells of the path that predictions take, for readiness and metadata.
    """

    name: str
    version: str
    signature: Signature
    pyfunc: Any
    direct: Predictor | None = None
    compiled: Schema | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.compiled is None:
            object.__setattr__(self, "compiled", Schema(self.signature))
        if self.direct is None:
            object.__setattr__(self, "direct", Pyfunc(self.signature, self.pyfunc))

    @property
    def schema(self) -> Schema:
        """What reads its requests."""
        assert self.compiled is not None
        return self.compiled

    @property
    def predictor(self) -> Predictor:
        """What predicts."""
        assert self.direct is not None
        return self.direct

    def asked(self, body: bytes) -> Asked:
        """Return what a request asks for; raises BadRequest for what the signature does not allow."""
        request = _parsed(body)
        rows = self.schema.rows(request.get("inputs"))
        return Asked(rows, {"id": request["id"]} if "id" in request else {}, request.get("outputs"))

    def answer(self, body: bytes) -> Answer:
        """Return the answer to an inference request.

        What is told of it is told of all outputs' score, whichever of them the request asks for.

        Raises BadRequest for a request that the signature does not allow, ModelFailed when the model raises.
        """
        return self._alone(self.asked(body))

    def answers(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """Answer requests whose rows have one shape in one call; where that fails, each by itself, so that none spoils another's."""
        if len(asked) > 1:
            counts = [each.rows.count for each in asked]
            try:
                taken = parts(self._predicted(joined([each.rows for each in asked])), counts)
            except ModelFailed:
                taken = None
            if taken is not None:
                return [_kept(self._written, each, part) for each, part in zip(asked, taken, strict=True)]
        return [_kept(self._alone, each) for each in asked]

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata in the protocol's form."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "mlflow_pyfunc",
            "inputs": [self._described(field) for field in self.signature.inputs],
            "outputs": [{"name": out.name, "datatype": out.datatype, "shape": list(out.shape)} for out in self.signature.outputs],
            "properties": {key: str(value) for key, value in self.notes.items()},
        }

    def _alone(self, asked: Asked) -> Answer:
        try:
            prediction = self._predicted(asked.rows)
        except ModelFailed as problem:
            self._blame_missing(asked.rows, problem)
            raise
        return self._written(asked, prediction)

    def _predicted(self, rows: Rows) -> Any:
        try:
            return self.predictor.predict(rows)
        except BaseException as problem:  # a model may raise anything; none may end the only thread
            raise ModelFailed(told(problem)) from problem

    def _blame_missing(self, rows: Rows, problem: ModelFailed) -> None:
        """Raise BadRequest where the model fails on a missing value: the same rows with zeros in these places are answered."""
        missing = self.schema.missing(rows)
        if not missing:
            return
        try:
            self._predicted(self.schema.filled(rows))
        except ModelFailed:
            return
        where = f"column{plural(missing)} {listed(missing)}"
        raise BadRequest(
            f"{where}: null, and the model does not take a missing value there ({type(problem.__cause__).__name__})"
        ) from problem

    def _written(self, asked: Asked, prediction: Any) -> Answer:
        everything = tensors(self.signature, prediction)
        try:
            outputs = orjson.dumps(_wanted(everything, asked.outputs), option=OPTIONS)
        except TypeError as problem:
            raise ModelFailed(f"the model's answer cannot be expressed ({problem})") from problem
        named = {"model_name": self.name, "model_version": self.version} | asked.named
        # The outputs are large and are written once, for the mark and for the body
        return Answer(b'%b,"outputs":%b}' % (orjson.dumps(named)[:-1], outputs), told_of(everything, outputs))

    def _described(self, field: Field) -> dict[str, Any]:
        optional = {} if field.required else {"optional": True}
        missing = {"missing": "refused"} if field.name in self.schema.refuses else {}
        parameters = {"parameters": optional | missing} if optional or missing else {}
        return {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.tail], **parameters}


def load(folder: Path, label: Label, name: str) -> Scorer:
    """Return the model of a folder under a name; raises ModelUnusable when MLflow cannot load it. It runs the model's own code."""
    import mlflow.pyfunc

    try:
        pyfunc = mlflow.pyfunc.load_model(str(folder))
    except BaseException as problem:  # loading runs the model's code; the process ends with the reason
        raise ModelUnusable(f"the model cannot be loaded ({told(problem)})") from problem
    return Scorer(name, label.version, signature_of(pyfunc.metadata.signature), pyfunc)


def _kept(work: Callable[..., Answer], *given: Any) -> Answer | Exception:
    """Return an answer, or what came instead of it: it belongs to one request only."""
    try:
        return work(*given)
    except Exception as problem:  # noqa: BLE001  handed to whoever asked
        return problem


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"the body is not JSON ({problem})") from problem
    if not isinstance(request, dict):
        raise BadRequest('the body must be an object with the key "inputs"')
    if not isinstance(request.get("id", ""), str):
        raise BadRequest('"id" must be a string')
    return request


def _wanted(outputs: list[dict[str, Any]], asked: Any) -> list[dict[str, Any]]:
    if asked is None:
        return outputs
    if not isinstance(asked, list) or not all(isinstance(output, dict) and isinstance(output.get("name"), str) for output in asked):
        raise BadRequest('"outputs" must be a list of objects with a name')
    by_name = {output["name"]: output for output in outputs}
    unknown = [output["name"] for output in asked if output["name"] not in by_name]
    if unknown:
        raise BadRequest(f"unknown output{plural(unknown)} {listed(unknown)} (known: {listed(by_name)})")
    return [by_name[output["name"]] for output in asked]
