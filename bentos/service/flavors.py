"""How each library's models are loaded and asked without MLflow and pandas: exactly what MLflow's own wrappers do with them.

Each loader takes the model's folder and the flavour's entries of its MLmodel file, and returns what answers one array of
shape (rows, …). What it cannot take raises NotDirect with the reason; the model then goes through MLflow. The wrappers that
are followed: mlflow/{sklearn,lightgbm,xgboost,onnx,pytorch}/__init__.py of MLflow 3.17.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ServiceError
from .linear import straight
from .modules import ON_CPU, Compiled, eager

Ask = Callable[[Any], Any]
KEPT_OUT = ("pandas", "mlflow")
TORCH = "mlflow.pytorch"
SKLEARN_ASKS = frozenset({"predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba"})
PICKLES = {"pickle": "pickle", "cloudpickle": "cloudpickle"}


class NotDirect(ServiceError):
    """A model that only MLflow can answer for; the text says why."""


@dataclass(frozen=True, slots=True)
class Flavor:
    """A model's files and how MLflow was told to load and ask them.

    `frame` says whether its signature names columns, `whole` whether all of them are whole numbers. `device` is where a PyTorch
    module is asked, by PyTorch's name, and `compiled` whether it is compiled.
    """

    folder: Path
    entries: Mapping[str, Any]
    ask: str
    frame: bool
    whole: bool = False
    device: str = ON_CPU
    compiled: bool = False

    def file(self, *keys: str) -> Path:
        """Return the file that the first of some entries names; raises NotDirect for one outside of the folder."""
        name = next((str(self.entries[key]) for key in keys if self.entries.get(key)), "")
        path = (self.folder / name).resolve()
        if not name or not path.is_relative_to(self.folder.resolve()):
            raise NotDirect(f"its MLmodel file names no file of the model under {' or '.join(keys)}")
        return path


class _KeepsOut(MetaPathFinder):
    """Finds nothing, and lets nobody else find what is kept out."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> None:
        if fullname in KEPT_OUT:
            raise ModuleNotFoundError(f"{fullname} is not needed here", name=fullname)


@contextmanager
def kept_out() -> Iterator[None]:
    """Have nothing import pandas or MLflow meanwhile: libraries do where they find them, and need neither for plain arrays.

    Where one is loaded already it stays; afterwards both may be imported again.
    """
    keeps_out = _KeepsOut()
    sys.meta_path.insert(0, keeps_out)
    try:
        yield
    finally:
        sys.meta_path.remove(keeps_out)


def sklearn(flavor: Flavor) -> Ask:
    """Return the method of a scikit-learn model that its pyfunc calls."""
    if flavor.ask not in SKLEARN_ASKS:
        raise NotDirect(f"its pyfunc calls '{flavor.ask}'")
    model = _unpickled(flavor, flavor.file("pickled_model"), "pickle")
    if flavor.frame and flavor.whole and "lightgbm" in sys.modules:
        raise NotDirect("LightGBM is in it, which reads whole numbers of an array in 32 bits, those of a frame as they are")
    _forget_names(model)
    return straight(model, flavor.ask, _method(model, flavor.ask))


def lightgbm(flavor: Flavor) -> Ask:
    """Return `predict` of a LightGBM booster or of its scikit-learn model."""
    import lightgbm as library

    file = flavor.file("data")
    if flavor.entries.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        ask = _method(library.Booster(model_file=str(file)), "predict")
    else:
        ask = _method(_unpickled(flavor, file, "cloudpickle"), "predict")
    # whole numbers of an array it reads in 32 bits, those of a frame, which MLflow gives it, as they are
    return lambda rows: ask(rows.astype(np.float64) if flavor.frame and rows.dtype.kind not in "f" else rows)


def xgboost(flavor: Flavor) -> Ask:
    """Return what predicts as `predict` of an XGBoost booster or of its scikit-learn model does."""
    import xgboost as library

    name = str(flavor.entries.get("model_class", "xgboost.core.Booster"))
    module, _, cls = name.rpartition(".")
    if module.partition(".")[0] != "xgboost":
        raise NotDirect(f"its class is {name}")
    model = getattr(importlib.import_module(module), cls)()
    model.load_model(str(flavor.file("data")))
    if isinstance(model, library.Booster):
        # names are checked where a frame is given; here the signature has put the columns into their order
        return lambda rows: model.inplace_predict(rows, validate_features=False)
    return lambda rows: model.predict(rows, validate_features=False)


def onnx(flavor: Flavor) -> Ask:
    """Return what runs an ONNX model of one input on the CPU and names its outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if flavor.entries.get("onnx_session_options"):
        raise NotDirect("its ONNX session has options of its own")
    if onnxruntime.get_available_providers() != ["CPUExecutionProvider"] and _accelerated(onnxruntime.get_available_providers()):
        raise NotDirect("its ONNX session may run on an accelerator")
    session = onnxruntime.InferenceSession(str(flavor.file("data")), options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
    if len(inputs) != 1 or not isinstance(inputs[0].shape[0] if inputs[0].shape else 0, str | None):
        raise NotDirect("its ONNX graph has several inputs or a fixed number of rows")
    name, narrow = inputs[0].name, inputs[0].type == "tensor(float)"

    def ask(rows: Any) -> dict[str, Any]:
        given = rows.astype(np.float32) if narrow and rows.dtype == np.float64 else rows
        found = dict(zip(outputs, session.run(outputs, {name: given}), strict=True))
        # as MLflow answers a frame: with one, of flat columns
        return {key: np.asarray(value).reshape(-1) for key, value in found.items()} if flavor.frame else found

    return ask


@dataclass(frozen=True, slots=True)
class Module:
    """A PyTorch module that answers an array of rows, each of its columns apart where the signature names columns."""

    run: Callable[[Any], Any]
    frame: bool

    def __call__(self, rows: Any) -> Any:
        """Return the module's answer."""
        found = self.run(self._typed(rows))
        if not self.frame:
            return found
        columns = found.reshape(len(found), -1)
        return {str(at): columns[:, at] for at in range(columns.shape[1])}

    @property
    def compiled(self) -> bool:
        """Whether it is compiled."""
        return isinstance(self.run, Compiled)

    def warm(self, one: Any, most: int) -> None:
        """Compile it with an array of one row, where it is to be compiled; raises ModelUnusable."""
        if isinstance(self.run, Compiled):
            self.run.warm(self._typed(one), most)

    def _typed(self, rows: Any) -> Any:
        return rows.astype(np.float32) if self.frame else rows


def pytorch(flavor: Flavor) -> Ask:
    """Return what runs a PyTorch module, pickled or exported, on its device and without gradients."""
    import torch

    if flavor.device == ON_CPU and torch.cuda.is_available():
        raise NotDirect("a GPU is here, which MLflow places PyTorch models on")
    folder = flavor.file("model_data")
    if (folder / "model.pth").is_file():
        model = torch.load(folder / "model.pth", map_location=flavor.device, pickle_module=_pickles(), weights_only=False)
        model.eval()
    else:
        from torch.export.passes import move_to_device_pass

        model = move_to_device_pass(torch.export.load(folder / "model.pt2"), flavor.device).module()
    return Module((Compiled if flavor.compiled else eager)(model, flavor.device), flavor.frame)


LOADERS: dict[str, tuple[str, Callable[[Flavor], Ask]]] = {
    "mlflow.sklearn": ("sklearn", sklearn),
    "mlflow.lightgbm": ("lightgbm", lightgbm),
    "mlflow.xgboost": ("xgboost", xgboost),
    "mlflow.onnx": ("onnx", onnx),
    TORCH: ("pytorch", pytorch),
}
"""MLflow's loader module of a pyfunc: its flavour's name, and who loads it here."""


def _method(model: Any, name: str) -> Ask:
    method: Ask | None = getattr(model, name, None)
    if method is None:
        raise NotDirect(f"it has no '{name}'")
    return method


def _unpickled(flavor: Flavor, file: Path, usual: str) -> Any:
    form = str(flavor.entries.get("serialization_format", usual))
    if form == "skops":
        import skops.io

        return skops.io.load(file, trusted=flavor.entries.get("skops_trusted_types"))
    if form not in PICKLES:
        raise NotDirect(f"its serialization format is '{form}'")
    # the revision's files were checked against its digest, and the gates looked into them before
    with file.open("rb") as stream:
        return importlib.import_module(PICKLES[form]).load(stream)


def _forget_names(model: Any) -> None:
    """Forget the column names of an estimator and of a pipeline's steps: each call would warn that an array has none."""
    steps = [step for _, step in getattr(model, "steps", ())]
    for each in (model, *steps):
        if "feature_names_in_" in getattr(each, "__dict__", {}):
            del each.feature_names_in_


def _pickles() -> types.ModuleType:
    """Return what `mlflow.pytorch.pickle_module` is, without MLflow: torch asks a module for its `Unpickler` and `load`."""
    import pickle

    import cloudpickle

    module = types.ModuleType("pickles")
    module.__dict__.update({**vars(cloudpickle), "Unpickler": pickle.Unpickler})
    return module


def _accelerated(providers: list[str]) -> bool:
    return any(name.startswith(("CUDA", "Tensorrt", "ROCM", "MIGraphX", "OpenVINO", "DML", "CoreML", "QNN")) for name in providers)
