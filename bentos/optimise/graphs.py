"""A graph made smaller: 16-bit weights, or matrices in 8-bit whole numbers.

By ONNX Runtime's own tools (`onnxruntime.transformers.float16`, `onnxruntime.quantization`), dynamically: the ranges of
what flows through are taken as it flows, so that no rows are needed and none are learned.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bentos.optimise.flavours import Unfit
from fleet.declared_optimise import Variant

MATRIX_NODES = {"MatMul", "Gemm", "Conv", "LSTM", "Attention"}
NO_MATRICES = "it has no matrices of its own: trees and linear models keep their numbers within one node, which takes only 32-bit ones"


def in_order(graph: Any) -> Any:
    """Return a graph with its sets of operators in one order: skl2onnx writes them in that of a hash table."""
    found = sorted(graph.opset_import, key=lambda each: str(each.domain))
    del graph.opset_import[:]
    graph.opset_import.extend(found)
    return graph


def smaller(graph: Any, variant: Variant) -> Any:
    """Return a graph in 16-bit or 8-bit weights; raises Unfit for one in which nothing becomes smaller."""
    weights = {each.name for each in graph.graph.initializer}
    if not any(node.op_type in MATRIX_NODES and weights.intersection(node.input) for node in graph.graph.node):
        raise Unfit(NO_MATRICES)
    return _halved(graph) if variant is Variant.FP16 else _quantised(graph)


def _halved(graph: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(graph, keep_io_types=True)


def _quantised(graph: Any) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "before.onnx", Path(scratch) / "after.onnx"
        onnx.save(graph, before)
        quantize_dynamic(before, after, weight_type=QuantType.QInt8)
        return onnx.load(after)
