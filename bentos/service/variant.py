"""A model's optimised variant: an ONNX graph, and how a request's columns go in and its answer comes out.

It lies in a folder of its own beside the model's, `model.onnx` and `variant.json`, and it answers as the model's pyfunc
does: the same names, types and shapes. It needs neither MLflow nor pandas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .device import SPOKEN, Device
from .errors import BadRequest, ModelUnusable, told
from .schema import Rows

GRAPH, DOCUMENT = "model.onnx", "variant.json"
HALF = "onnx-fp16"


@dataclass(frozen=True, slots=True)
class Feed:
    """One input of the graph: its name and NumPy type, and the columns that stand beside one another in it.

    With `column` it takes that one alone as it is (a tensor), otherwise as an array of shape (rows, columns). `width` is
    set where the tensor is a table of so many numbers a row.
    """

    name: str
    dtype: str
    columns: tuple[str, ...] = ()
    column: str | None = None
    width: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One output of the graph, the NumPy type in which it is told, and which of its columns (None: all).

    `flat` drops a second dimension of one; `name` is set where the model answers with a mapping.
    """

    output: str
    dtype: str
    column: int | None = None
    flat: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """All that there is to know beside the graph; `kind` is the variant's name.

    `refuses` names the columns of which no value may be missing: the model raises on it, or the graph answers it otherwise.
    `together` says that rows of several requests may share a call.
    """

    kind: str
    feeds: tuple[Feed, ...]
    told: tuple[Told, ...]
    refuses: tuple[str, ...] = ()
    together: bool = False

    def to_bytes(self) -> bytes:
        """Return it as JSON, the same bytes for the same document."""
        return (json.dumps(asdict(self), sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Document:
        """Read what `to_bytes` gave; raises ModelUnusable for anything else."""
        try:
            found = json.loads(data)
            feeds = tuple(Feed(**{**feed, "columns": tuple(feed["columns"])}) for feed in found["feeds"])
            refuses = tuple(str(name) for name in found.get("refuses", ()))
            told_ = tuple(Told(**each) for each in found["told"])
            return cls(str(found["kind"]), feeds, told_, refuses, found.get("together") is True)
        except (ValueError, KeyError, TypeError) as problem:
            raise ModelUnusable(f"the variant's document cannot be read ({told(problem)})") from problem


class OnnxVariant:
    """A loaded variant; `predict` takes what the model's pyfunc takes, or a mapping of the same columns."""

    input_example = None
    """It has none of its own: it is warmed with a row of zeros."""

    def __init__(self, session: Any, document: Document, device: Device) -> None:
        self.device = device
        self._session = session
        self._document = document
        self._outputs = [told_.output for told_ in document.told]

    @property
    def kind(self) -> str:
        """Which variant it is."""
        return self._document.kind

    @property
    def refuses(self) -> tuple[str, ...]:
        """Columns of which no value may be missing."""
        return self._document.refuses

    @property
    def together(self) -> bool:
        """Whether rows of several requests may be scored in one call: those of int8 share their range."""
        return self._document.together and not self.kind.endswith("int8")

    def predict(self, columns: Any) -> Any:
        """Return the answers to rows: an array, or a mapping of arrays where the model gives one."""
        return self._run({feed.name: _fed(feed, columns) for feed in self._document.feeds})

    def takes_stacked(self, columns: Sequence[str]) -> bool:
        """Whether one array of these columns is all that the graph takes."""
        feeds = self._document.feeds
        if len(feeds) != 1 or feeds[0].dtype == "object":
            return False
        return feeds[0].width > 0 if feeds[0].column is not None else feeds[0].columns == tuple(columns)

    def predict_stacked(self, block: Any) -> Any:
        """Return the answers to rows that are one array of all columns."""
        feed = self._document.feeds[0]
        return self._run({feed.name: _narrowed(block, feed.dtype, feed.columns or (feed.column or "",))})

    def _run(self, fed: dict[str, Any]) -> Any:
        found = [_as_told(told_, array) for told_, array in zip(self._document.told, self._session.run(self._outputs, fed), strict=True)]
        names = [told_.name for told_ in self._document.told]
        return found[0] if names == [None] else dict(zip(names, found, strict=True))


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant as what predicts."""

    onnx: OnnxVariant

    @property
    def light(self) -> bool:
        """Whether a call that is known to be short may be made in the event loop: one that waits for a GPU may not."""
        return self.onnx.device.gpu is None

    @property
    def path(self) -> str:
        """How the model is reached."""
        return f"variant {self.onnx.kind}"

    @property
    def together(self) -> bool:
        """Whether rows of several requests may be scored in one call."""
        return self.onnx.together

    def predict(self, rows: Rows, params: Mapping[str, Any]) -> Any:
        """Ask the graph with rows, stacked or by column."""
        if rows.block is not None:
            return self.onnx.predict_stacked(rows.block)
        return self.onnx.predict(rows.arrays)


def load_variant(folder: Path, device: Device | None = None) -> OnnxVariant:
    """Return the variant of a folder, on one thread; raises ModelUnusable where it cannot be loaded, or not on its device."""
    try:
        return loaded(folder / GRAPH, Document.from_bytes((folder / DOCUMENT).read_bytes()), device)
    except ModelUnusable:
        raise
    except Exception as problem:  # what a graph's reader raises is its own; the process ends with the reason
        raise ModelUnusable(f"the variant cannot be loaded ({told(problem)})") from problem


def loaded(graph: Path | bytes, document: Document, device: Device | None = None) -> OnnxVariant:
    """Return the variant of a graph, in a file or as its bytes, on one thread; raises ModelUnusable where its device does not take it."""
    import onnxruntime

    device = device or Device()
    if device.gpu is not None and device.provider not in onnxruntime.get_available_providers():
        device = device.without(f"ONNX Runtime here has no {SPOKEN[device.provider]} (onnxruntime-gpu has)")
    session = _session(graph, device, document)
    if device.gpu is not None:
        placed = _placed(session, device)
        # What was made may be on another device than the one that is declared in its place
        session, device = (session if placed.gpu is not None else _session(graph, placed, document)), placed
    return OnnxVariant(session, document, device)


def _session(graph: Path | bytes, device: Device, document: Document) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One process answers one batch at a time; threads of ONNX Runtime would spin beside the event loop
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if device.gpu is not None:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    source = graph if isinstance(graph, bytes) else str(graph)
    # TensorRT calculates in 16 bits what the parity gate has seen in 16 bits, and nothing else
    return onnxruntime.InferenceSession(source, options, providers=device.providers(half=document.kind == HALF))


def _placed(session: Any, device: Device) -> Device:
    """Return where ONNX Runtime has put the graph; raises ModelUnusable where that is not what is declared."""
    if session.get_providers()[0] != device.provider:
        return device.without(f"ONNX Runtime could not load {SPOKEN[device.provider]} (its log says why)")
    found = [(part.ep_name, node.op_type) for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()]
    return device.where(found)


def _fed(feed: Feed, columns: Any) -> Any:
    if feed.column is not None:
        array = columns.get(feed.column, next(iter(columns.values()))) if isinstance(columns, Mapping) else columns
        return np.ascontiguousarray(_narrowed(np.asarray(array), feed.dtype, (feed.column,)))
    given = [_text(columns[name]) if feed.dtype == "object" else np.asarray(columns[name]) for name in feed.columns]
    if len(given) == 1:
        return _narrowed(given[0], feed.dtype, feed.columns).reshape(-1, 1)
    table = np.empty((len(given[0]), len(given)), dtype=feed.dtype)
    for at, array in enumerate(given):
        table[:, at] = _narrowed(array, feed.dtype, feed.columns[at : at + 1])
    return table


def _narrowed(array: Any, dtype: str, columns: Sequence[str]) -> Any:
    """Return numbers in the graph's type; raises BadRequest for one that it does not hold: the model would answer it."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if narrow.dtype.kind != "f":
        return narrow
    lost = np.isinf(narrow) & np.isfinite(array)
    if lost.any():
        name = columns[int(lost.any(axis=0).argmax()) if len(columns) > 1 else 0]
        raise BadRequest(f"column '{name}': a value is too large for {dtype}, in which this variant of the model calculates")
    return narrow


def _text(values: Any) -> Any:
    return np.asarray(values, dtype=object)


def _as_told(told_: Told, array: Any) -> Any:
    if told_.column is not None:
        array = array[:, told_.column]
    if told_.flat and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return array.astype(told_.dtype, copy=False)
