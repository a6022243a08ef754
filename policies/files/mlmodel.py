"""What an MLmodel file says of the other files: which are loaded as what, by which library, and what it would have trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from policies.files.allowlist import allowlist
from policies.files.archives import unsafe_name
from policies.files.seen import Described, Kind

FLAVOURS = ("lightgbm", "onnx", "python_function", "sklearn", "xgboost")
LOADERS = (
    "mlflow.lightgbm",
    "mlflow.onnx",
    "mlflow.pyfunc.loaders.code_model",
    "mlflow.pyfunc.model",
    "mlflow.sklearn",
    "mlflow.xgboost",
)
# The keys of a flavour under which MLflow joins a path to the model's folder
PATHS = (
    "artifact_path",
    "code",
    "conda",
    "config",
    "data",
    "model_data",
    "model_path",
    "path",
    "pickled_model",
    "python_model",
    "serving_input_path",
    "virtualenv",
)
LIGHTGBM_BOOSTER = "lightgbm.basic.Booster"
# What a scikit-learn model is asked through (mlflow.sklearn's _SUPPORTED_CUSTOM_PREDICT_FN), and a PythonModel
ASKED = ("predict", "predict_log_proba", "predict_proba", "predict_joint_log_proba", "predict_stream", "score")
_BY_FORMAT = {"skops": Kind.SKOPS, "pickle": Kind.PICKLE, "cloudpickle": Kind.PICKLE}
MOST_DEPTH = 20


def describe(document: object) -> Described:
    """Return what an MLmodel document says; `problems` where it says what no MLflow that we serve with would write."""
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        return Described(problems=("has no flavors, so nothing says what is loaded",))
    flavours: Mapping[str, Any] = document["flavors"]
    problems = [*_unknown(flavours), *_astray(document, 0)]
    if "python_function" not in flavours:
        problems.append("has no flavour python_function, through which models are served")
    return Described(
        flavours=tuple(sorted(map(str, flavours))),
        trusted=tuple(_trusted(document)),
        loaded=tuple(_loaded(flavours)),
        code=tuple(_code(flavours)),
        problems=tuple(problems),
    )


def _unknown(flavours: Mapping[str, Any]) -> Iterator[str]:
    for name, flavour in flavours.items():
        if name not in FLAVOURS:
            yield f"has the flavour '{str(name)[:60]}' (known: {', '.join(FLAVOURS)})"
        elif not isinstance(flavour, dict):
            yield f"has a flavour '{name}' that is no mapping"
    loader = _of(flavours, "python_function").get("loader_module")
    if "python_function" in flavours and loader not in LOADERS:
        yield f"is loaded by the module '{str(loader)[:60]}' (known: {', '.join(LOADERS)})"
    for key in ("predict_fn", "predict_stream_fn"):
        if (asked := _of(flavours, "python_function").get(key, "predict")) not in ASKED:
            yield f"is asked through '{str(asked)[:60]}' as {key} (known: {', '.join(ASKED)})"
    # mlflow.xgboost imports this name and calls what it finds
    made = str(_of(flavours, "xgboost").get("model_class", "xgboost.core.Booster"))
    if not (made.startswith(("xgboost.core.", "xgboost.sklearn.")) and allowlist().allows_type(made)):
        yield f"makes its model of the class '{made[:60]}', which is none of XGBoost's"
    if any(not isinstance(each, str) for each in _listed(_of(flavours, "onnx").get("providers"))):
        yield "gives options to a provider of onnxruntime, which may load libraries by them"


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _of(flavours: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = flavours.get(name)
    return found if isinstance(found, dict) else {}


def _astray(value: object, depth: int) -> Iterator[str]:
    """Give every path, wherever it stands, that leads out of the model's folder or to another machine."""
    if depth > MOST_DEPTH:
        yield "is nested too deeply"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in PATHS and isinstance(inner, str) and inner and (why := _leads_out(inner)):
                yield f"names '{inner[:80]}' as {key}: {why}"
            else:
                yield from _astray(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _astray(inner, depth + 1)


def _leads_out(path: str) -> str:
    return "it is a URL" if "://" in path or path.startswith("file:") or "%" in path else unsafe_name(path)


def _trusted(value: object) -> Iterator[str]:
    """Give every type that the model asks to trust; where the list is no list of names, what stands there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "skops_trusted_types" and inner is not None:
                yield from map(str, _listed(inner))
            else:
                yield from _trusted(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _trusted(inner)


def _loaded(flavours: Mapping[str, Any]) -> Iterator[tuple[str, Kind]]:
    """Give which file MLflow loads as what, as the loaders of its flavours decide it (mlflow/<flavour>/__init__.py)."""
    function = _of(flavours, "python_function")
    loader = str(function.get("loader_module"))
    for library in ("lightgbm", "onnx", "sklearn", "xgboost"):
        serves = loader == f"mlflow.{library}"
        if serves or library in flavours:
            flavour = _of(flavours, library)
            named = (flavour.get("pickled_model" if library == "sklearn" else "data"), *((_data(function),) if serves else ()))
            yield from ((str(path), _kind(library, flavour)) for path in dict.fromkeys(named) if path is not None)
    if "python_model" in function:
        yield str(function["python_model"]), Kind.PICKLE
    if loader.startswith("mlflow.pyfunc.") and _data(function) is not None:
        # It would be the folder of another model, with an MLmodel file of its own
        yield str(_data(function)), Kind.UNKNOWN


def _data(function: Mapping[str, Any]) -> object:
    return function.get("data", function.get("model_path"))


def _kind(library: str, flavour: Mapping[str, Any]) -> Kind:
    """Return what a library's loader takes the file for; without a word of the format it unpickles."""
    if library == "sklearn":
        return _BY_FORMAT.get(str(flavour.get("serialization_format", "pickle")), Kind.UNKNOWN)
    if library == "lightgbm" and flavour.get("model_class", LIGHTGBM_BOOSTER) != LIGHTGBM_BOOSTER:
        return _BY_FORMAT.get(str(flavour.get("serialization_format", "cloudpickle")), Kind.UNKNOWN)
    return Kind(library)


def _code(flavours: Mapping[str, Any]) -> Iterator[str]:
    """Give the folders and files of the model's own code."""
    yield from sorted({str(code) for name in flavours if (code := _of(flavours, name).get("code"))})
    if script := _of(flavours, "python_function").get("model_code_path"):
        # MLflow takes the name alone, whatever stands before it
        yield str(script).replace("\\", "/").rpartition("/")[2]
