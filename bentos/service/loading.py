"""Loads a revision's model: by its own library where that answers as MLflow does, else through MLflow, and says which and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from .device import Device, compiles, device_of
from .direct import Plan, plan, read_document
from .errors import ModelUnusable, ServiceError, Unfit, told
from .flavors import LOADERS, TORCH, Module, NotDirect, kept_out
from .modules import name_of, placed
from .parity import Expected, compare, stands_alone
from .prediction import Direct, Pyfunc
from .probes import EXAMPLE, Probe, probes
from .schema import Schema, stackable
from .scorer import Label, Scorer, load, read_label
from .settings import ServiceSettings
from .signature import compiled, declares_params
from .variant import Variant, load_variant
from .warming import ZEROS, most_rows, one_row, rows_of_example, warm, warm_sizes

EXAMPLE_ROWS = 8
COMPILED = "optimise.compile is declared"


class OnlyMlflow(ServiceError):
    """A model that was loaded by its own library must be asked through MLflow; the text says why.

    The library was imported without pandas, so that is for another process.
    """


class Loaded(Protocol):
    """A model that has not predicted yet."""

    def warmed(self) -> tuple[Scorer, str]:
        """Make its first predictions; return what answers from now on, and what they were made from."""


@dataclass(frozen=True, slots=True)
class _ByMlflow:
    scorer: Scorer
    because: str
    known: bool
    device: Device

    def warmed(self) -> tuple[Scorer, str]:
        """Raises ModelUnusable where it fails on its own example. Rows of several requests go together where none minds others."""
        made_from = warm(self.scorer)
        example = rows_of_example(self.scorer, EXAMPLE_ROWS) if self.known else None
        together = example is not None and stands_alone(self.scorer, [example])
        predictor = Pyfunc(self.scorer.signature, self.scorer.pyfunc, together)
        notes = {"path": predictor.path, "because": self.because, "together": together, **_noted(self.device)}
        return replace(self.scorer, direct=predictor, notes=notes), made_from


@dataclass(frozen=True, slots=True)
class _Directly:
    scorer: Scorer
    predictor: Direct
    expected: Expected
    device: Device
    settings: ServiceSettings
    tried: tuple[Probe, ...] = field(default_factory=tuple)

    def warmed(self) -> tuple[Scorer, str]:
        """Raises OnlyMlflow where it answers otherwise than MLflow does, ModelUnusable where it fails on its own example.

        What is compiled is compiled before it is compared, so that what is compared is what answers later.
        """
        was_compiled = self._sized()
        try:
            answers = self.expected.answers()
        except NotDirect as problem:
            raise OnlyMlflow(str(problem)) from problem
        try:
            # XGBoost looks for pandas at its first prediction
            with kept_out():
                found = compare(self.scorer, self.tried, answers)
                together = stands_alone(self.scorer, [probe.body for probe in self.tried])
        except NotDirect as problem:
            self.expected.differ(str(problem))
            raise OnlyMlflow(str(problem)) from problem
        if found.on == EXAMPLE and isinstance(answers[0], dict):
            raise ModelUnusable(f"the model fails on its own input example ({answers[0]['error']})")
        notes = {
            "path": self.predictor.path,
            "because": f"it answered {found.compared} requests as MLflow does",
            "together": together,
            **_noted(self.device),
        }
        if was_compiled and not together:
            raise ModelUnusable(f"{COMPILED}, and its rows mind one another, or were not seen not to")
        schema = Schema(self.scorer.signature, stacked=True, refuses=found.refuses)
        return replace(self.scorer, direct=replace(self.predictor, together=together), compiled=schema, notes=notes), found.on

    def _sized(self) -> bool:
        """Make a module ready for as few and as many rows as a call may have, and say whether it was compiled."""
        module = self.predictor.ask
        if not isinstance(module, Module) or not (module.compiled or self.device.gpu is not None):
            return False
        one = one_row(self.scorer)
        most = most_rows(self.settings, one)
        try:
            module.warm(one.block, most)
            warm_sizes(self.scorer, one, (1, most))
        except ModelUnusable:
            self.expected.close()
            raise
        return module.compiled


@dataclass(frozen=True, slots=True)
class _Variant:
    scorer: Scorer
    settings: ServiceSettings
    device: Device

    def warmed(self) -> tuple[Scorer, str]:
        """Raises ModelUnusable where it fails; that it answers as the model does was found out before it was packaged."""
        made_from = warm(self.scorer)
        if self.device.gpu is None or made_from != ZEROS:
            return self.scorer, made_from
        one = one_row(self.scorer)
        # TensorRT builds again for what lies beyond all it has seen: the fewest and the most rows of a call
        most = most_rows(self.settings, one)
        warm_sizes(self.scorer, one, (most,))
        return self.scorer, f"{made_from}, and {most} in one call"


def loading(settings: ServiceSettings, revision: str, because: str) -> Loaded:
    """Return the model of the settings, loaded; `because` says why MLflow is to be asked, where that is known already.

    Raises ModelUnusable for one that cannot be loaded, or not on the device that its revision declares; OnlyMlflow for one
    that its own library does not load.
    """
    device = device_of(settings, revision)
    label = read_label(settings.label_file)
    name = settings.model or label.model
    if settings.variant_folder.is_dir():
        return _variant(settings, Label(name, label.version), device)
    planned = _plan(settings, because)
    if not isinstance(planned, str):
        tried = probes(planned)
        expected = Expected(settings.model_folder, tried, revision, settings.parity)
        if not expected.because:
            return replace(_direct(planned, Label(name, label.version), expected, device, settings), tried=tried)
        planned = expected.because
    if compiles(settings.root / "src"):
        raise ModelUnusable(f"{COMPILED}, and the model is asked through MLflow: {planned}")
    if device.gpu is not None:
        device = placed(device) if _is_torch(settings.model_folder) else device.of_mlflow()
    scorer = load(settings.model_folder, label, name)
    return _ByMlflow(scorer, planned, scorer.pyfunc.loader_module in LOADERS, device)


def _plan(settings: ServiceSettings, because: str) -> Plan | str:
    """Return how the model is asked directly, or why MLflow is asked."""
    if because or settings.direct == "off":
        return because or "the setting says so"
    try:
        return plan(settings.model_folder)
    except NotDirect as problem:
        return str(problem)
    except ModelUnusable:
        return "its MLmodel file cannot be read"


def _noted(device: Device) -> dict[str, str]:
    return {"device": device.says} if device.says else {}


def _variant(settings: ServiceSettings, named: Label, device: Device) -> _Variant:
    """Return the variant that lies beside the model; no code of the model's runs, and MLflow is not asked."""
    declared = read_document(settings.model_folder).get("signature")
    if declares_params(declared):
        raise ModelUnusable("the model's signature declares parameters, which its variant does not take")
    signature = compiled(declared)
    onnx = load_variant(settings.variant_folder, device)
    stacked = not stackable(signature) and onnx.takes_stacked([field.name for field in signature.inputs])
    predictor = Variant(onnx)
    notes = {
        "path": predictor.path,
        "because": "it lies beside the model in the revision",
        "together": predictor.together,
        **_noted(onnx.device),
    }
    schema = Schema(signature, stacked=stacked, refuses=onnx.refuses)
    return _Variant(Scorer(named.model, named.version, signature, onnx, predictor, schema, notes), settings, onnx.device)


def _is_torch(folder: Path) -> bool:
    try:
        flavors = read_document(folder).get("flavors")
        return str(flavors["python_function"]["loader_module"]) == TORCH if isinstance(flavors, dict) else False
    except (ModelUnusable, KeyError, TypeError):
        return False  # MLflow says what is wrong


def _direct(planned: Plan, named: Label, expected: Expected, device: Device, settings: ServiceSettings) -> _Directly:
    try:
        predictor, device = _loaded(planned, device, compiles(settings.root / "src"))
    except NotDirect as problem:
        expected.close()
        if isinstance(problem.__cause__, ImportError | None):
            # no memory now, say, need not be so the next time
            expected.differ(str(problem))
        raise OnlyMlflow(str(problem)) from problem
    except Unfit:
        expected.close()
        raise
    scorer = Scorer(named.model, named.version, planned.signature, None, predictor, Schema(planned.signature, stacked=True))
    return _Directly(scorer, predictor, expected, device, settings)


def _loaded(planned: Plan, device: Device, compiled: bool) -> tuple[Direct, Device]:
    """Return a model, loaded by its library, and where it is asked; raises ModelUnusable where that is not what is declared."""
    if planned.loader != TORCH:
        if compiled:
            raise ModelUnusable(f"{COMPILED}, which is for PyTorch models, and this one is asked by {planned.library}")
        predictor = planned.load()
        return predictor, device.of_library(predictor.path)
    try:
        with kept_out():
            device = placed(device)
    except ImportError as problem:
        raise NotDirect(f"pytorch did not load it ({told(problem)})") from problem
    return planned.load(name_of(device), compiled), device
