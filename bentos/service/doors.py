"""What every door has in common: a call in, a question in the scorer's terms, and an answer in the door's own form.

A door is a protocol by which others ask. It turns a call's bytes into tensors as the Open Inference Protocol writes them,
which the scorer checks for all doors alike, and writes what the model gave. It keeps no state, and runs in the event loop or
on the thread that predicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from .errors import NotFound, WrongType
from .exchange import Headers
from .scorer import NO_PARAMS, Asked, Scored, Scorer

JSON = "application/json"
PLAIN = JSON.encode()
NO_TYPE = ""
"""Stands among a door's content types where it takes a body without one."""
SHOWN = 100
LIGHT_COLUMNS, LIGHT_ROWS = 64 << 10, 8 << 10
"""Up to which size a body is read in the event loop: one that has values by column, and one that has them by row."""
TENSOR = ("name", "datatype", "shape", "data")


class Call(NamedTuple):
    """A prediction's request: its whole body and its headers, names in lower case."""

    body: bytes
    headers: Mapping[bytes, bytes]


class Question(NamedTuple):
    """What is asked of the model: tensors, the outputs wanted (None for all) and parameters, all as the scorer takes them.

    `given` is what the door alone needs again to write the answer. `plain` says that request and answer are JSON in the
    protocol's own form.
    """

    inputs: list[dict[str, Any]]
    wanted: Any = None
    params: Mapping[str, Any] = NO_PARAMS
    given: Any = None
    plain: bool = False


class Reply(NamedTuple):
    """An answer as it travels; `told` is a prediction's header of `answered`, `kept` request and answer as capturing wants them."""

    body: bytes
    content_type: str = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    told: bytes = b""
    kept: tuple[bytes, bytes] | None = None


class Door(Protocol):
    """One way of asking a model."""

    @property
    def light_bytes(self) -> int:
        """Up to which size a body is read in the event loop: what takes milliseconds is read by the thread that predicts."""

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Return the content types that are taken; raises a Problem for headers that cannot be served, before the body is read."""

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Return headers that every answer of this door carries beside the common ones, refusals too."""

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a call asks; raises BadRequest."""

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return the answer in the door's form."""


def check_named(scorer: Scorer, name: str | None, version: str | None) -> None:
    """Raise NotFound unless the model has the name and the version, where they are given."""
    if name is not None and name != scorer.name:
        raise NotFound(f"no such model: '{name[:SHOWN]}' (known: '{scorer.name}')")
    if version is not None and version != scorer.version:
        raise NotFound(f"no such version: '{version[:SHOWN]}' (known: '{scorer.version}')")


class Heard(NamedTuple):
    """A call that was read: what it asks in its door's terms, and in the scorer's."""

    question: Question
    asked: Asked


class Enquiry(NamedTuple):
    """A call at a door; `keep` says whether what is asked and answered is to be captured."""

    door: Door
    call: Call
    keep: bool = False

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.call.body)

    def heard(self, scorer: Scorer) -> Heard:
        """Return what the call asks; raises BadRequest."""
        question = self.door.read(scorer, self.call)
        return Heard(question, scorer.asked(question.inputs, question.wanted, question.params))

    def reply(self, scorer: Scorer, heard: Heard, scored: Scored) -> Reply:
        """Return the answer in the door's form; raises a Problem where the form cannot carry it."""
        reply = self.door.write(scorer, heard.question, scored)
        return reply._replace(kept=self._kept(heard.question, scored, reply)) if self.keep else reply

    def _kept(self, question: Question, scored: Scored, reply: Reply) -> tuple[bytes, bytes]:
        if question.plain:
            return self.call.body, reply.body
        # what else a caller put beside them is neither checked nor wanted
        tensors = [{key: tensor[key] for key in TENSOR} for tensor in question.inputs]
        asked = orjson.dumps({"inputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)
        return asked, b'{"outputs":%b}' % scored.outputs


def media_type(headers: Mapping[bytes, bytes]) -> tuple[str, dict[str, str]]:
    """Return the content type, in lower case, and its parameters."""
    kind, *others = headers.get(b"content-type", b"").decode("latin-1").split(";")
    pairs = [other.partition("=") for other in others]
    return kind.strip().lower(), {name.strip().lower(): value.strip().strip('"').lower() for name, _, value in pairs}


def check_type(headers: Mapping[bytes, bytes], types: tuple[str, ...]) -> None:
    """Raise WrongType unless the body has one of the content types, is not encoded, and is text in UTF-8 if it is text."""
    if headers.get(b"content-type") == PLAIN and b"content-encoding" not in headers and JSON in types:
        return
    kind, parameters = media_type(headers)
    if kind not in types or (kind == NO_TYPE and b"content-type" in headers):
        named = " or ".join(each for each in types if each)
        raise WrongType(f"the content type must be {named}, not '{kind[:SHOWN]}'")
    if parameters.get("charset", "utf-8") not in ("utf-8", "utf8", "us-ascii"):
        raise WrongType("the charset must be utf-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise WrongType("the body must not be encoded: send it without content-encoding")
