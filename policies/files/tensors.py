"""Formats that hold numbers: their headers say what they hold, and must say it without contradiction."""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Iterator
from typing import IO

LONGEST_HEADER = 16 << 20
LONGEST_NUMPY_HEADER = 10_000
NUMPY = b"\x93NUMPY"


def numpy_array(head: bytes) -> tuple[str, int]:
    """Return what is wrong with a .npy file that begins so (empty: nothing), and where its data begins.

    An array of objects is a pickle behind a header (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
    """
    if len(head) < 12 or head[6] not in (1, 2, 3):
        return "the .npy header cannot be read", 0
    length, begin = (struct.unpack_from("<H", head, 8)[0], 10) if head[6] == 1 else (struct.unpack_from("<I", head, 8)[0], 12)
    if length > LONGEST_NUMPY_HEADER or begin + length > len(head):
        return f"the .npy header is {length} bytes long, more than {LONGEST_NUMPY_HEADER}", 0
    try:
        header = ast.literal_eval(head[begin : begin + length].decode("utf-8"))
        objects = any(_of_objects(kind) for kind in _types(header["descr"]))
    except (ValueError, SyntaxError, TypeError, KeyError, UnicodeDecodeError, RecursionError, MemoryError):
        return "the .npy header cannot be read", 0
    return ("holds Python objects, which numpy loads by unpickling them" if objects else ""), begin + length


def _types(description: object) -> Iterator[str]:
    if isinstance(description, str):
        yield description
    elif isinstance(description, list | tuple):
        for part in description:
            # (name, type[, shape]): the name and the shape are no types
            if isinstance(part, tuple | list) and len(part) in (2, 3):
                yield from _types(part[1])
            elif isinstance(description, tuple) and isinstance(part, str):
                yield part


def _of_objects(kind: str) -> bool:
    return "O" in kind or "object" in kind


def safetensors(file: IO[bytes], size: int) -> str:
    """Return what is wrong with a safetensors file: its tensors must cover the rest of it, each byte once.

    https://github.com/huggingface/safetensors#format
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(LONGEST_HEADER, size - 8):
        return f"the safetensors header claims {length} bytes"
    try:
        header = json.loads(file.read(length), object_pairs_hook=_once)
        spans = sorted(tuple(tensor["data_offsets"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        return f"the safetensors header cannot be read ({type(problem).__name__})"
    end = 0
    for span in spans:
        if len(span) != 2 or not all(isinstance(each, int) for each in span) or span[0] != end or span[1] < span[0]:
            return "the tensors of the safetensors file overlap or leave gaps"
        end = span[1]
    return "" if end == size - 8 - length else "the safetensors file has bytes that belong to no tensor"


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def is_safetensors(head: bytes, size: int) -> bool:
    """Return whether a file that begins so is meant as safetensors."""
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8


def booster(head: bytes) -> str:
    """Return which of the boosting libraries' own formats a file begins like, or nothing."""
    if head.startswith((b"tree\nversion=v", b"tree\r\nversion=v")):
        return "lightgbm"
    plain = b"".join(head[:64].split())
    if plain.startswith((b'{"learner":', b'{"version":[')) or (head.startswith((b"{L", b"{l")) and b"learner" in head[:64]):
        return "xgboost"
    if head.startswith((b"{L", b"{i", b"{U")) and (b"version" in head[:32] or b"learner" in head[:32]):
        return "xgboost"
    return ""
