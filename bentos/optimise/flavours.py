"""A model of each flavour as an ONNX graph in 32-bit numbers, how its columns go in, and which output is its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from bentos.optimise.messages import ConvertRequest
from bentos.service.signature import Signature
from bentos.service.tensors import Field, Text
from bentos.service.variant import Feed, Told

NAME, INPUT = "model", "rows"
OPSET = 15
"""The newest that all three converters write; ONNX Runtime reads it without change."""
ML_OPSET = 3
Flavours = Mapping[str, Mapping[str, Any]]
Made = tuple[Any, tuple[Feed, ...], tuple[Told, ...]]


class Unfit(Exception):
    """This model has no such variant, for the reason given."""


def _sklearn(request: ConvertRequest, flavours: Flavours, signature: Signature) -> Made:
    """By skl2onnx: https://onnx.ai/sklearn-onnx/. A pipeline that chooses columns by name gets an input for each."""
    import mlflow.sklearn
    from skl2onnx import convert_sklearn
    from sklearn.base import is_classifier, is_regressor
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    model = mlflow.sklearn.load_model(str(request.model))
    asked = str(flavours["python_function"].get("predict_fn", "predict"))
    classifies = is_classifier(model)
    if not (asked == "predict" and (classifies or is_regressor(model))) and not (asked == "predict_proba" and classifies):
        raise Unfit(f"a {type(model).__name__} that is asked through {asked} has no graph: classifiers and regressors have one")
    first = model.steps[0][1] if isinstance(model, Pipeline) else model
    feeds = _feeds(signature, apart=isinstance(first, ColumnTransformer))
    options = {id(model): {"zipmap": False}} if classifies else None
    types = [_typed(feed) for feed in feeds]
    with _truths_as_numbers():
        graph = convert_sklearn(model, NAME, initial_types=types, options=options, target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET})
    dtype = _dtype(_first_answer(request))
    output = graph.graph.output[1 if asked == "predict_proba" else 0].name
    return graph, _as_named(graph, feeds), (Told(output, dtype, flat=asked == "predict"),)


def _lightgbm(request: ConvertRequest, flavours: Flavours, signature: Signature) -> Made:
    """By onnxmltools: https://github.com/onnx/onnxmltools. A booster answers with what its objective makes of the trees."""
    import mlflow.lightgbm
    from lightgbm import Booster
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    model = mlflow.lightgbm.load_model(str(request.model))
    feeds = _feeds(signature, apart=False)
    graph = convert_lightgbm(
        model, NAME, [(INPUT, FloatTensorType([None, feeds[0].width or len(feeds[0].columns)]))], target_opset=OPSET, zipmap=False
    )
    if isinstance(model, Booster):
        objective = str(model.dump_model(num_iteration=1).get("objective", "")).partition(" ")[0]
        return graph, feeds, (_of_objective(graph, objective, _dtype(_first_answer(request))),)
    return graph, feeds, (Told(graph.graph.output[0].name, _dtype(_first_answer(request)), flat=True),)


def _xgboost(request: ConvertRequest, flavours: Flavours, signature: Signature) -> Made:
    import mlflow.xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import Booster

    model = mlflow.xgboost.load_model(str(request.model))
    feeds = _feeds(signature, apart=False)
    booster = model if isinstance(model, Booster) else model.get_booster()
    # The converter knows features by number only
    booster.feature_names = [f"f{at}" for at in range(feeds[0].width or len(feeds[0].columns))]
    graph = convert_xgboost(model, NAME, [(INPUT, FloatTensorType([None, feeds[0].width or len(feeds[0].columns)]))], target_opset=OPSET)
    dtype = _dtype(_first_answer(request))
    if model is booster:
        objective = str(json.loads(booster.save_config())["learner"]["objective"]["name"]).replace("binary:logistic", "binary")
        return graph, feeds, (_of_objective(graph, objective, dtype),)
    return graph, feeds, (Told(graph.graph.output[0].name, dtype, flat=True),)


def _onnx(request: ConvertRequest, flavours: Flavours, signature: Signature) -> Made:
    import onnx

    if signature.frame:
        raise Unfit("an ONNX model is made smaller where its signature names tensors, and this one names columns")
    graph = onnx.load(str(request.model / str(flavours["onnx"].get("data", "model.onnx"))))
    dtypes = {each.name: _numpy_type(each) for each in (*graph.graph.input, *graph.graph.output)}
    names = [field.name for field in signature.inputs] if signature.named else [graph.graph.input[0].name]
    missing = sorted(set(names) - {each.name for each in graph.graph.input})
    if missing:
        raise Unfit(f"its signature names {', '.join(missing)}, which the graph does not take")
    feeds = tuple(Feed(name, dtypes[name], column=name) for name in names)
    return graph, feeds, tuple(Told(each.name, dtypes[each.name], name=each.name) for each in graph.graph.output)


FLAVOURS: Final[dict[str, Callable[[ConvertRequest, Flavours, Signature], Made]]] = {
    "sklearn": _sklearn,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "onnx": _onnx,
}
"""How a model of each flavour becomes a graph; raises Unfit where it does not."""


@contextmanager
def _truths_as_numbers() -> Iterator[None]:
    """Write truths as whole numbers: skl2onnx 1.20 gives them for histogram trees, and protobuf takes none any more."""
    import numpy
    from skl2onnx.common import _container

    make_node = _container.make_node

    def numbered(*arguments: Any, **attributes: Any) -> Any:
        for name, given in attributes.items():
            if isinstance(given, list) and any(isinstance(value, bool | numpy.bool_) for value in given):
                attributes[name] = [int(value) for value in given]
        return make_node(*arguments, **attributes)

    _container.make_node = numbered
    try:
        yield
    finally:
        _container.make_node = make_node


def _of_objective(graph: Any, objective: str, dtype: str) -> Told:
    """Return the answer of a booster: the probability of class 1, of every class, or the number itself."""
    if objective == "binary":
        return Told(graph.graph.output[1].name, dtype, column=1)
    if objective in ("multiclass", "multiclassova", "multi:softprob"):
        return Told(graph.graph.output[1].name, dtype)
    if len(graph.graph.output) == 1:
        return Told(graph.graph.output[0].name, dtype, flat=True)
    raise Unfit(f"a booster with the objective {objective!r} has no graph that answers alike")


def _feeds(signature: Signature, *, apart: bool) -> tuple[Feed, ...]:
    """Return the graph's inputs: one for each column, or one in which all stand beside one another as numbers."""
    if not signature.frame:
        return (_table(signature),)
    strange = [field.name for field in signature.inputs if field.text is not Text.PLAIN or field.tail]
    absent = [field.name for field in signature.inputs if not field.required]
    if strange or absent:
        raise Unfit(f"its columns must be plain and required, and {', '.join([*strange, *absent])} are not")
    if apart:
        return tuple(Feed(field.name, _kind(field), (field.name,)) for field in signature.inputs)
    texts = [field.name for field in signature.inputs if field.dtype.kind == "O"]
    if texts:
        raise Unfit(f"its columns {', '.join(texts)} are texts, and it takes all columns as one table of numbers")
    return (Feed(INPUT, "float32", tuple(field.name for field in signature.inputs)),)


def _table(signature: Signature) -> Feed:
    """Return the one input of a model whose signature is one array of rows."""
    field = signature.inputs[0]
    if signature.named or len(signature.inputs) > 1 or field.dtype.kind not in "iuf" or len(field.tail) != 1 or field.tail[0] < 1:
        raise Unfit("its signature names neither columns nor one array of rows with a fixed number of numbers")
    return Feed(INPUT, "float32", column=field.name, width=field.tail[0])


def _as_named(graph: Any, feeds: tuple[Feed, ...]) -> tuple[Feed, ...]:
    """Return the feeds under the names that the graph gave them; columns that it does not need are not fed."""
    by_name = {_cleaned(feed.name): feed for feed in feeds}
    taken = [each.name for each in graph.graph.input]
    strange = [name for name in taken if name not in by_name]
    if strange or len(by_name) < len(feeds):
        raise Unfit("its columns' names differ only in signs that a graph cannot have")
    return tuple(replace(by_name[name], name=name) for name in taken)


def _cleaned(name: str) -> str:
    """Return a name as skl2onnx writes it (skl2onnx/common/_topology.py, _generate_unique_name)."""
    cleaned = re.sub(r"[^\w+]", "_", name)
    return f"_{cleaned}" if re.match("^[0-9]", cleaned) else cleaned


def _kind(field: Field) -> str:
    return {"f": "float32", "O": "object", "b": "bool"}.get(field.dtype.kind, "int64")


def _typed(feed: Feed) -> tuple[str, Any]:
    from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"float32": FloatTensorType, "int64": Int64TensorType, "object": StringTensorType, "bool": BooleanTensorType}
    return feed.name, kinds[feed.dtype]([None, feed.width or len(feed.columns)])


def _first_answer(request: ConvertRequest) -> Any:
    import mlflow.pyfunc
    import pandas

    return mlflow.pyfunc.load_model(str(request.model)).predict(pandas.read_parquet(request.rows).iloc[:1])


def _dtype(answered: Any) -> str:
    """Return the type in which a model answers; raises Unfit for an answer that is no array."""
    import numpy

    if not isinstance(answered, numpy.ndarray):
        raise Unfit(f"it answers with a {type(answered).__name__}, not with an array")
    return "object" if answered.dtype.kind in "OUS" else str(answered.dtype.name)


def _numpy_type(value: Any) -> str:
    from onnx.helper import tensor_dtype_to_np_dtype

    return str(tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)
