"""Loads a revision's model: by its own library where that answers as MLflow does, else through MLflow, and says which and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from .device import Device, device_of
from .direct import Plan, plan, read_document
from .errors import ModelUnusable, ServiceError
from .flavors import LOADERS, NotDirect, kept_out
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
        notes = {"path": predictor.path, "because": self.because, "together": together, **_noted(self.device.of_mlflow())}
        return replace(self.scorer, direct=predictor, notes=notes), made_from


@dataclass(frozen=True, slots=True)
class _Directly:
    scorer: Scorer
    predictor: Direct
    expected: Expected
    device: Device
    tried: tuple[Probe, ...] = field(default_factory=tuple)

    def warmed(self) -> tuple[Scorer, str]:
        """Raises OnlyMlflow where it answers otherwise than MLflow does, ModelUnusable where it fails on its own example."""
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
        schema = Schema(self.scorer.signature, stacked=True, refuses=found.refuses)
        return replace(self.scorer, direct=replace(self.predictor, together=together), compiled=schema, notes=notes), found.on


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
            return _direct(planned, Label(name, label.version), expected, device, tried)
        planned = expected.because
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


def _direct(planned: Plan, named: Label, expected: Expected, device: Device, tried: tuple[Probe, ...]) -> _Directly:
    try:
        predictor = planned.load()
    except NotDirect as problem:
        expected.close()
        if isinstance(problem.__cause__, ImportError | None):
            # no memory now, say, need not be so the next time
            expected.differ(str(problem))
        raise OnlyMlflow(str(problem)) from problem
    try:
        device = device.of_library(predictor.path)
    except ModelUnusable:
        expected.close()
        raise
    scorer = Scorer(named.model, named.version, planned.signature, None, predictor, Schema(planned.signature, stacked=True))
    return _Directly(scorer, predictor, expected, device, tried)
