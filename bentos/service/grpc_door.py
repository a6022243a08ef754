"""The Open Inference Protocol v2 over gRPC: messages in and out, in the scorer's terms.

What came in raw is answered raw, what came typed is answered typed, as far as the protocol has a type for it (it has none
for 16-bit floats). A missing text is an empty one, since neither form knows another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .doors import LIGHT_COLUMNS, Call, Question, Reply, check_named
from .errors import BadRequest
from .exchange import Headers
from .grpc_messages import CHOICE, message, parsed_message
from .params import known_params
from .raw import NUMPY, decoded, encoded, packed, texts
from .scorer import Scored, Scorer

CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the values of each datatype stand."""
GRPC = "application/grpc"


class Grpc:
    """The door at ModelInfer."""

    light_bytes = LIGHT_COLUMNS

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Take messages."""
        return (GRPC,)

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Add nothing."""
        return []

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a ModelInferRequest asks; raises BadRequest, or NotFound for another model."""
        request = parsed_message("ModelInferRequest", call.body)
        check_named(scorer, request.model_name, request.model_version or None)
        raw = list(request.raw_input_contents)
        if raw and len(raw) != len(request.inputs):
            raise BadRequest(f"raw_input_contents has {len(raw)} tensors, inputs has {len(request.inputs)}")
        inputs = [_tensor(tensor, raw[at] if raw else None) for at, tensor in enumerate(request.inputs)]
        wanted = [{"name": output.name} for output in request.outputs] or None
        params = known_params(scorer.signature.params, {name: _value(given) for name, given in request.parameters.items()})
        return Question(inputs, wanted, params, (request.id, bool(raw)))

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return a ModelInferResponse."""
        identity, raw = question.given
        answer = message("ModelInferResponse")(model_name=scorer.name, model_version=scorer.version, id=identity)
        raw = raw or any(tensor["datatype"] not in CONTENTS for tensor in scored.tensors)
        for tensor in scored.tensors:
            output = answer.outputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
            if raw:
                answer.raw_output_contents.append(encoded(tensor))
            else:
                getattr(output.contents, CONTENTS[tensor["datatype"]]).extend(_values(tensor["data"]))
        return Reply(answer.SerializeToString(), GRPC, told=scored.told)


def _tensor(tensor: Any, raw: bytes | None) -> dict[str, Any]:
    if raw is not None and tensor.HasField("contents"):
        raise BadRequest(f"column '{tensor.name}': has contents beside the raw ones")
    data = decoded(tensor.name, tensor.datatype, raw) if raw is not None else _contents(tensor)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data}


def _contents(tensor: Any) -> Any:
    """Return typed values, an array of its own or a list of texts; raises BadRequest that names the column."""
    name, datatype = tensor.name, tensor.datatype
    where = CONTENTS.get(datatype)
    if where is None:
        raise BadRequest(f"column '{name}': no datatype {datatype!r:.40} in contents")
    others = [field.name for field, _ in tensor.contents.ListFields() if field.name != where]
    if others:
        raise BadRequest(f"column '{name}': its values must stand in {where}, not in {', '.join(others)}")
    values = getattr(tensor.contents, where)
    if datatype == "BYTES":
        return texts(name, values)
    try:
        return np.array(list(values), dtype=NUMPY[datatype])
    except OverflowError as problem:
        raise BadRequest(f"column '{name}': a value does not fit into {datatype}") from problem


def _values(data: Any) -> Any:
    return data.tolist() if isinstance(data, np.ndarray) else packed(data)


def _value(given: Any) -> Any:
    chosen = given.WhichOneof(CHOICE)
    return None if chosen is None else getattr(given, chosen)
