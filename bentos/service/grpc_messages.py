"""The messages of the Open Inference Protocol v2 over gRPC, declared here rather than generated.

Generated code demands the protobuf that is at least as new as its generator; a declaration serves every one. The pool is our
own, so that a model that brings the same messages (a client of Triton, say) does not collide with it.
https://github.com/kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from .errors import BadRequest

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
PARAMETERS = "map InferParameter"
MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": (("live", "bool"),),
    "ServerReadyRequest": (),
    "ServerReadyResponse": (("ready", "bool"),),
    "ModelReadyRequest": (("name", "string"), ("version", "string")),
    "ModelReadyResponse": (("ready", "bool"),),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": (("name", "string"), ("version", "string"), ("extensions", "many string")),
    "ModelMetadataRequest": (("name", "string"), ("version", "string")),
    "ModelMetadataResponse": (
        ("name", "string"),
        ("versions", "many string"),
        ("platform", "string"),
        ("inputs", "many ModelMetadataResponse.TensorMetadata"),
        ("outputs", "many ModelMetadataResponse.TensorMetadata"),
    ),
    "ModelMetadataResponse.TensorMetadata": (("name", "string"), ("datatype", "string"), ("shape", "many int64")),
    "ModelInferRequest": (
        ("model_name", "string"),
        ("model_version", "string"),
        ("id", "string"),
        ("parameters", PARAMETERS),
        ("inputs", "many ModelInferRequest.InferInputTensor"),
        ("outputs", "many ModelInferRequest.InferRequestedOutputTensor"),
        ("raw_input_contents", "many bytes"),
    ),
    "ModelInferRequest.InferInputTensor": (
        ("name", "string"),
        ("datatype", "string"),
        ("shape", "many int64"),
        ("parameters", PARAMETERS),
        ("contents", "InferTensorContents"),
    ),
    "ModelInferRequest.InferRequestedOutputTensor": (("name", "string"), ("parameters", PARAMETERS)),
    "ModelInferResponse": (
        ("model_name", "string"),
        ("model_version", "string"),
        ("id", "string"),
        ("parameters", PARAMETERS),
        ("outputs", "many ModelInferResponse.InferOutputTensor"),
        ("raw_output_contents", "many bytes"),
    ),
    "ModelInferResponse.InferOutputTensor": (
        ("name", "string"),
        ("datatype", "string"),
        ("shape", "many int64"),
        ("parameters", PARAMETERS),
        ("contents", "InferTensorContents"),
    ),
    "InferParameter": (
        ("bool_param", "one bool"),
        ("int64_param", "one int64"),
        ("string_param", "one string"),
        ("double_param", "one double"),
        ("uint64_param", "one uint64"),
    ),
    "InferTensorContents": (
        ("bool_contents", "many bool"),
        ("int_contents", "many int32"),
        ("int64_contents", "many int64"),
        ("uint_contents", "many uint32"),
        ("uint64_contents", "many uint64"),
        ("fp32_contents", "many float"),
        ("fp64_contents", "many double"),
        ("bytes_contents", "many bytes"),
    ),
}
"""Fields by message, in the order of their numbers, from 1 on; a nested message comes after the one that it stands in."""
CHOICE = "parameter_choice"
"""The only choice of one field among several, which fields of `one` belong to."""


def message(name: str) -> Any:
    """Return the class of a message."""
    return CLASSES[name]


def parsed_message(name: str, body: bytes) -> Any:
    """Return a message; raises BadRequest."""
    try:
        return CLASSES[name].FromString(body)
    except DecodeError as problem:
        raise BadRequest(f"the message is no {name} ({problem})") from problem


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="convoy/open_inference.proto", package=PACKAGE, syntax="proto3")
    declared: dict[str, DescriptorProto] = {}
    for path, fields in MESSAGES.items():
        outer, _, name = path.rpartition(".")
        declared[path] = (declared[outer].nested_type if outer else file.message_type).add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            _add(declared[path], field, kind, (number, path))
    return file


def _add(into: DescriptorProto, name: str, kind: str, at: tuple[int, str]) -> None:
    number, path = at
    how, _, kind = kind.rpartition(" ")
    label = FieldDescriptorProto.LABEL_REPEATED if how in ("many", "map") else FieldDescriptorProto.LABEL_OPTIONAL
    field = into.field.add(name=name, number=number, label=label)
    if how == "map":
        # what protoc makes of map<string, kind>
        entry = into.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add(entry, "key", "string", (1, ""))
        _add(entry, "value", kind, (2, ""))
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{path}.{entry.name}"
    elif kind in MESSAGES:
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    if how == "one":
        if not into.oneof_decl:
            into.oneof_decl.add(name=CHOICE)
        field.oneof_index = 0


def _classes() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.Add(_file())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


CLASSES = _classes()
