"""The files of a model's variant: one graph that calls what ONNX Runtime has, and its document."""

from __future__ import annotations

from pathlib import Path

import pytest

from bentos.service.variant import Document, Feed, Told
from policies.files.graph import graph_problems

SECONDS = 60


def variant(folder: Path, domain: str = "") -> Path:
    """A graph of one operator, of ONNX itself or of somebody's own domain."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "graph", ends[:1], ends[1:])
    folder.mkdir()
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    document = Document("onnx", (Feed("x", "float32", ("a", "b")),), (Told("y", "float64"),))
    (folder / "variant.json").write_bytes(document.to_bytes())
    return folder


def test_a_graph_with_its_document_is_a_variant(tmp_path: Path) -> None:
    assert graph_problems(variant(tmp_path / "variant"), tmp_path / "work", SECONDS) == ()


@pytest.mark.parametrize("what", ["somebody's own operators", "another file", "no graph"])
def test_what_is_more_or_less_than_that_is_none(tmp_path: Path, what: str) -> None:
    folder = variant(tmp_path / "variant", "com.example" if what == "somebody's own operators" else "")
    if what == "another file":
        (folder / "library.so").write_bytes(b"\x7fELF")
    if what == "no graph":
        (folder / "model.onnx").write_bytes(b"\xff\xff")
    found = " ".join(graph_problems(folder, tmp_path / "work", SECONDS))
    assert {
        "somebody's own operators": "calls operators of the domain 'com.example'",
        "another file": "and not a graph with its document",
        "no graph": "the ONNX model cannot be read",
    }[what] in found
