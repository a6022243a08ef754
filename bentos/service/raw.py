"""Tensors as raw bytes, as the binary extension of REST and gRPC's raw contents write them alike.

Numbers lie in row-major order, little-endian, without padding; truth values are one byte each, 0 or 1. Each element of a
BYTES tensor is its length in four bytes and then that many bytes, which are the same text in UTF-8 that JSON would hold.
https://github.com/kserve/open-inference-protocol and Triton's `extension_binary_data.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import BadRequest
from .tensors import DATATYPES

NUMPY = {datatype: np.dtype(name) for name, datatype in DATATYPES.items()}
LENGTH = struct.Struct("<I")


def decoded(name: str, datatype: Any, raw: bytes) -> Any:
    """Return what the bytes of a tensor hold, an array of its own or a list of texts; raises BadRequest that names it."""
    if datatype == "BYTES":
        return texts(name, elements(name, raw))
    dtype = NUMPY.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise BadRequest(f"column '{name}': no datatype {datatype!r} in binary")
    if len(raw) % dtype.itemsize:
        raise BadRequest(f"column '{name}': {len(raw)} bytes are no whole number of {datatype}")
    if dtype.kind == "b" and raw.strip(b"\0\1"):
        raise BadRequest(f"column '{name}': a BOOL must be a byte of 0 or 1")
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)


def elements(name: str, raw: bytes) -> list[bytes]:
    """Return the elements of a BYTES tensor; raises BadRequest that names it."""
    found, at = [], 0
    while at < len(raw):
        begin = at + LENGTH.size
        end = begin + LENGTH.unpack_from(raw, at)[0] if begin <= len(raw) else -1
        if not begin <= end <= len(raw):
            raise BadRequest(f"column '{name}': its bytes end within an element")
        found.append(raw[begin:end])
        at = end
    return found


def texts(name: str, given: Iterable[bytes]) -> list[str]:
    """Return the elements of a BYTES tensor as texts; raises BadRequest that names it."""
    try:
        return [bytes(element).decode() for element in given]
    except UnicodeDecodeError as problem:
        raise BadRequest(f"column '{name}': its elements must be text in UTF-8 ({problem.reason})") from problem


def encoded(tensor: dict[str, Any]) -> bytes:
    """Return an answer's tensor as bytes; a missing text is an empty one, since the form knows no other."""
    data = tensor["data"]
    if not isinstance(data, np.ndarray):
        return b"".join(LENGTH.pack(len(element)) + element for element in packed(data))
    return data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()


def packed(data: Iterable[str | None]) -> list[bytes]:
    """Return texts as the elements of a BYTES tensor."""
    return [(value or "").encode() for value in data]
