"""One loaded model: tensors as the protocol writes them in, the answer's tensors out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .answered import told_of
from .answers import Form, form_of, tensors
from .documents import parsed_object
from .errors import BadRequest, ModelFailed, ModelUnusable, told
from .params import known_params
from .prediction import Predictor, Pyfunc, parts
from .schema import Rows, Schema, joined, listed, plural
from .signature import Signature, signature_of
from .tensors import Field

OPTIONS = orjson.OPT_SERIALIZE_NUMPY
NO_PARAMS: Mapping[str, Any] = {}


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


# Of these there are several for each request, and named tuples are made in half the time of frozen dataclasses
class Asked(NamedTuple):
    """What was asked, read: the rows, the outputs wanted as the protocol names them (all where None), the model's parameters."""

    rows: Rows
    wanted: Any = None
    params: Mapping[str, Any] = NO_PARAMS


class Scored(NamedTuple):
    """What the model gave for one request: the outputs asked for as tensors, their JSON, its form, and what may be told of it."""

    tensors: list[dict[str, Any]]
    outputs: bytes
    form: Form
    told: bytes


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

    def asked(self, inputs: Any, wanted: Any = None, params: Mapping[str, Any] = NO_PARAMS) -> Asked:
        """Return what is asked by tensors as the protocol writes them; `data` may be an array of the datatype's type.

        Raises BadRequest for what the signature does not allow.
        """
        return Asked(self.schema.rows(inputs), wanted, params)

    def scored(self, asked: Sequence[Asked]) -> list[Scored | Exception]:
        """Answer requests whose rows have one shape in one call; where that fails, each by itself, so that none spoils another's.

        Of parameters there are none, or it is one request. What is told of an answer is told of all outputs' score,
        whichever of them were wanted. A request is answered with BadRequest, or ModelFailed when the model raises.
        """
        if len(asked) > 1:
            counts = [each.rows.count for each in asked]
            try:
                taken = parts(self._predicted(joined([each.rows for each in asked])), counts)
            except (ModelFailed, BadRequest):
                taken = None
            if taken is not None:
                return [self._kept(each, part) for each, part in zip(asked, taken, strict=True)]
        return [self._alone(each) for each in asked]

    def score(self, asked: Asked) -> Scored:
        """Answer one request; raises BadRequest for a request that the model cannot answer, ModelFailed when it raises."""
        try:
            prediction = self._predicted(asked.rows, asked.params)
        except ModelFailed as problem:
            self._blame_missing(asked, problem)
            raise
        return self._told(asked, prediction)

    def answer(self, body: bytes) -> Answer:
        """Return the answer to an inference request in JSON; raises as `asked` and `score` do."""
        request = parsed(body)
        params = known_params(self.signature.params, request.get("parameters"))
        scored = self.score(self.asked(request.get("inputs"), request.get("outputs"), params))
        return Answer(self.written(request, scored), scored.told)

    def written(self, request: Mapping[str, Any], scored: Scored) -> bytes:
        """Return the answer in JSON to a request that may have an id."""
        # The outputs are large and are written once, for the mark and for the body
        return b'%b,"outputs":%b}' % (orjson.dumps(self.named(request))[:-1], scored.outputs)

    def named(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the protocol's answers say beside their outputs."""
        said = {"model_name": self.name, "model_version": self.version}
        if "id" in request:
            said["id"] = request["id"]
        return said

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

    def _alone(self, asked: Asked) -> Scored | Exception:
        try:
            return self.score(asked)
        except Exception as problem:  # noqa: BLE001  handed to whoever asked
            return problem

    def _kept(self, asked: Asked, prediction: Any) -> Scored | Exception:
        try:
            return self._told(asked, prediction)
        except Exception as problem:  # noqa: BLE001  it belongs to one request only
            return problem

    def _predicted(self, rows: Rows, params: Mapping[str, Any] = NO_PARAMS) -> Any:
        try:
            return self.predictor.predict(rows, params)
        except BadRequest:
            raise
        except BaseException as problem:  # a model may raise anything; none may end the only thread
            raise ModelFailed(told(problem)) from problem

    def _blame_missing(self, asked: Asked, problem: ModelFailed) -> None:
        """Raise BadRequest where the model fails on a missing value: the same rows with zeros in these places are answered."""
        missing = self.schema.missing(asked.rows)
        if not missing:
            return
        try:
            self._predicted(self.schema.filled(asked.rows), asked.params)
        except (ModelFailed, BadRequest):
            return
        where = f"column{plural(missing)} {listed(missing)}"
        raise BadRequest(
            f"{where}: null, and the model does not take a missing value there ({type(problem.__cause__).__name__})"
        ) from problem

    def _told(self, asked: Asked, prediction: Any) -> Scored:
        everything = tensors(self.signature, prediction)
        chosen = _wanted(everything, asked.wanted)
        try:
            outputs = orjson.dumps(chosen, option=OPTIONS)
        except TypeError as problem:
            raise ModelFailed(f"the model's answer cannot be expressed ({problem})") from problem
        return Scored(chosen, outputs, form_of(prediction), told_of(everything, outputs))

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


def parsed(body: bytes) -> dict[str, Any]:
    """Return an inference request's document; raises BadRequest."""
    request = parsed_object(body, 'the body must be an object with the key "inputs"')
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
