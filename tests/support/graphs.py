"""ONNX models of a few nodes, as somebody would have logged them."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def saved_network(folder: Path, minding_others: bool = False) -> tuple[Path, np.ndarray]:
    """Save an ONNX model of two layers, with rows as its input example; returns both.

    One that minds others takes the mean of all rows of a call off each: a row alone it answers with the same each time.
    """
    import mlflow.onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    weights = {"w1": random.normal(size=(8, 64)), "w2": random.normal(size=(64, 3))}
    first = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), helper.make_node("Sub", ["x", "m"], ["c"])]
    nodes = [
        *(first if minding_others else ()),
        helper.make_node("MatMul", ["c" if minding_others else "x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in (("x", 8), ("y", 3))]
    initial = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    signature = ModelSignature(*(Schema([TensorSpec(np.dtype("float32"), (-1, size), name)]) for name, size in (("x", 8), ("y", 3))))
    rows = random.normal(size=(30, 8)).astype(np.float32)
    mlflow.onnx.save_model(
        model,
        folder,
        signature=signature,
        input_example={"x": rows},
        pip_requirements=["onnxruntime"],
        save_as_external_data=False,
    )
    return folder, rows
