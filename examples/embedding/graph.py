"""A BERT sentence encoder as one ONNX graph, built from its weights: token ids and their mask in, one vector a sentence out.

The architecture is that of the model's config.json (Devlin et al. 2018, https://arxiv.org/abs/1810.04805), the pooling that
of its 1_Pooling/config.json: the mean over the tokens that the mask keeps, scaled to length 1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
FORGOTTEN = -10_000.0
"""Added to the attention on padding: after the softmax nothing is left of it."""


class Graph:
    """Nodes and weights so far; every method adds nodes and returns the name of their result."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.kept: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add one operator."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """Keep a weight under a name."""
        self.kept[name] = np.ascontiguousarray(value)
        return name

    def dense(self, name: str, given: str) -> str:
        """Multiply by a matrix and add its bias."""
        matrix = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        return self.node("Add", self.node("MatMul", given, matrix), self.constant(f"{name}.bias", self.weights[f"{name}.bias"]))

    def norm(self, name: str, given: str, epsilon: float) -> str:
        """Normalise each token's vector."""
        scale, bias = (self.constant(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("LayerNormalization", given, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, given: str) -> str:
        """x / 2 * (1 + erf(x / √2)): https://arxiv.org/abs/1606.08415."""
        half, one, root = (self.constant(name, np.float32(value)) for name, value in (("half", 0.5), ("one", 1), ("root", 2**0.5)))
        inner = self.node("Add", self.node("Erf", self.node("Div", given, root)), one)
        return self.node("Mul", self.node("Mul", given, inner), half)


def encoder(folder: Path) -> Any:
    """Return the graph of a sentence-transformers model's folder."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    graph = Graph(load_file(folder / "model.safetensors"))
    found = _embedded(graph, config["layer_norm_eps"])
    heads = config["num_attention_heads"]
    mask = _forgotten(graph)
    for layer in range(config["num_hidden_layers"]):
        found = _layer(graph, f"encoder.layer.{layer}", found, mask, (heads, config["hidden_size"], config["layer_norm_eps"]))
    pooled = _pooled(graph, found)
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"]) for name in ("input_ids", "attention_mask")]
    out = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["rows", config["hidden_size"]])]
    graph.nodes.append(helper.make_node("Identity", [pooled], ["embedding"]))
    kept = [numpy_helper.from_array(value, name) for name, value in graph.kept.items()]
    made = helper.make_graph(graph.nodes, "encoder", ends, out, kept)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="convoy example")


def _embedded(graph: Graph, epsilon: float) -> str:
    """Words and their places; every token is of the first sentence."""
    weights = graph.weights
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    words = graph.node("Gather", graph.constant("words", weights["embeddings.word_embeddings.weight"]), "input_ids")
    zero, one = graph.constant("begin", np.array([0])), graph.constant("axis", np.array([1]))
    length = graph.node("Slice", graph.node("Shape", "input_ids"), one, graph.constant("two", np.array([2])))
    first = graph.node("Slice", graph.constant("places", places), zero, length, graph.constant("rows_axis", np.array([0])))
    return graph.norm("embeddings.LayerNorm", graph.node("Add", words, first), epsilon)


def _forgotten(graph: Graph) -> str:
    """0 where a token counts, much less where it is padding, of shape [rows, 1, 1, tokens]."""
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    inverse = graph.node("Sub", graph.constant("one", np.float32(1)), mask)
    wide = graph.node("Unsqueeze", inverse, graph.constant("middle", np.array([1, 2])))
    return graph.node("Mul", wide, graph.constant("forgotten", np.float32(FORGOTTEN)))


def _layer(graph: Graph, name: str, given: str, mask: str, size: tuple[int, int, float]) -> str:
    heads, width, epsilon = size
    apart = graph.constant("apart", np.array([0, 0, heads, width // heads]))
    query, key, value = (
        graph.node("Reshape", graph.dense(f"{name}.attention.self.{part}", given), apart) for part in ("query", "key", "value")
    )
    query, value = (graph.node("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, value))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 2, 3, 1]))
    scaled = graph.node("Div", scores, graph.constant("scale", np.float32((width // heads) ** 0.5)))
    attention = graph.node("Softmax", graph.node("Add", scaled, mask), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", attention, value), perm=[0, 2, 1, 3])
    together = graph.node("Reshape", mixed, graph.constant("together", np.array([0, 0, width])))
    attended = graph.node("Add", graph.dense(f"{name}.attention.output.dense", together), given)
    attended = graph.norm(f"{name}.attention.output.LayerNorm", attended, epsilon)
    inner = graph.gelu(graph.dense(f"{name}.intermediate.dense", attended))
    return graph.norm(f"{name}.output.LayerNorm", graph.node("Add", graph.dense(f"{name}.output.dense", inner), attended), epsilon)


def _pooled(graph: Graph, given: str) -> str:
    mask = graph.node("Unsqueeze", graph.node("Cast", "attention_mask", to=TensorProto.FLOAT), graph.constant("last", np.array([2])))
    axis = graph.constant("axis", np.array([1]))
    total = graph.node("ReduceSum", graph.node("Mul", given, mask), axis, keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", mask, axis, keepdims=0))
    return graph.node("LpNormalization", mean, axis=1, p=2)
