"""The only place of the service that knows the environment: variables that start with CONVOY_SERVICE_, and those of clouds.

A cloud that starts the container says port and routes in variables of its own (CLOUDS); ours go before them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SettingsWrong
from .tuning import tuned

PREFIX = "CONVOY_SERVICE_"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false",
    "DO_NOT_TRACK": "true",
    "PYTHONDONTWRITEBYTECODE": "1",
}
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}
"""NVIDIA's libraries calculate 32-bit matrices in 19 bits (TF32) where that is quicker; the gates saw answers in 32."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How one serving process is set.

    `root` is the unpacked revision, `revision` the digest it must have; without it (a Bento started by hand) the
    service measures its files and answers under the digest it found. `model` is the name in the route; without it, the
    name that the Bento was built for. `slots` is how many requests may be inside at once, `body_bytes` the largest body,
    `body_seconds` the time in which it must be there, `queue_bytes` what all bodies inside may have together, `batch_rows`
    how many rows go into one call of the model, `deadline_ms` how long a request may take that does not say so itself.
    `workers` is how many processes share the port. `grpc_port` is where the same questions are taken over gRPC, None for
    nowhere. `health_route` and `predict_route` are where Vertex AI asks, beside the paths that always answer. `direct` says
    whether the model's own library is asked where it answers as MLflow does (`auto`) or never (`off`), `parity` names the
    file that keeps MLflow's answers for the next process that compares. `gpu` is which of the machine's GPUs is asked where
    the revision declares one, `gpu_memory_mib` the most that a model may take of its memory, 0 for all, `gpu_cache` the folder
    in which TensorRT keeps what it builds, None for nowhere. `trace_rate` is how
    many requests in a million are traced that do not say so themselves. `capture` is the folder that answered rows are kept
    in, `usage` the file of counters that outlives the process; without them nothing is kept.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = 3001
    model: str | None = None
    revision: str | None = None
    region: str = "unplaced"
    slots: int = 512
    body_bytes: int = 8 << 20
    queue_bytes: int = 256 << 20
    batch_rows: int = 1024
    deadline_ms: int = 30_000
    workers: int = 1
    direct: str = "auto"
    parity: Path | None = None
    trace_rate: int = 0
    capture: Path | None = None
    usage: Path | None = None
    gpu: int = 0
    gpu_memory_mib: int = 0
    gpu_cache: Path | None = None
    grpc_port: int | None = None
    body_seconds: int = 60
    health_route: str | None = None
    predict_route: str | None = None

    @property
    def manifest_file(self) -> Path:
        """The manifest's bytes, beside the root: inside it they would have to name themselves."""
        return self.root.with_name(self.root.name + ".manifest")

    @property
    def model_folder(self) -> Path:
        """The MLflow model."""
        return self.root / "src" / "model"

    @property
    def variant_folder(self) -> Path:
        """The variant that is served in the model's place, where there is one."""
        return self.root / "src" / "variant"

    @property
    def label_file(self) -> Path:
        """Which model and version the Bento was built for (JSON)."""
        return self.root / "src" / "revision.json"


KNOWN = tuple(ServiceSettings.__dataclass_fields__)
LARGEST = {
    "port": 65535,
    "grpc_port": 65535,
    "slots": 1 << 20,
    "body_bytes": 1 << 40,
    "body_seconds": 3600,
    "queue_bytes": 1 << 40,
    "batch_rows": 1 << 20,
    "deadline_ms": 86_400_000,
    "workers": 64,
    "trace_rate": 1_000_000,
    "gpu": 63,
    "gpu_memory_mib": 1 << 20,
}
SMALLEST = {"trace_rate": 0, "gpu": 0, "gpu_memory_mib": 0}
CHOICES = {"direct": ("auto", "off")}
ROUTES = ("health_route", "predict_route")
CLOUDS = (
    ("SAGEMAKER_BIND_TO_PORT", "port"),
    ("AIP_HTTP_PORT", "port"),
    ("AIP_HEALTH_ROUTE", "health_route"),
    ("AIP_PREDICT_ROUTE", "predict_route"),
)
"""What SageMaker and Vertex AI call our settings; of two that name one the later counts."""


def read_settings(environment: Mapping[str, str] | None = None) -> ServiceSettings:
    """Return the settings of this process; raises SettingsWrong for an unknown or wrong variable."""
    source = os.environ if environment is None else environment
    found = {name.removeprefix(PREFIX).lower(): value for name, value in source.items() if name.startswith(PREFIX)}
    unknown = sorted(set(found) - set(KNOWN))
    if unknown:
        known = ", ".join(PREFIX + name.upper() for name in KNOWN)
        raise SettingsWrong(f"{', '.join(PREFIX + name.upper() for name in unknown)}: no such setting (known: {known})")
    root = _value("root", found["root"], PREFIX + "ROOT") if "root" in found else Path(__file__).resolve().parents[2]
    texts = {**tuned(root.with_name(f"{root.name}.tuning")), **found}
    values: dict[str, Any] = {name: _value(name, text, variable) for variable, name, text in _of_clouds(source)}
    values |= {name: _value(name, text, PREFIX + name.upper()) for name, text in texts.items()}
    _check_together(values)
    return ServiceSettings(**{"root": root, **values})


def handed_on(changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process for one that it starts, with some settings changed."""
    return {**os.environ, **{PREFIX + name.upper(): value for name, value in changes.items()}}


def quiet_libraries() -> None:
    """Switch off the telemetry of what the service imports, bytecode files beside the verified ones, and rounding that nobody asked for."""
    os.environ.update(QUIET)
    for name, value in EXACT.items():
        os.environ.setdefault(name, value)


def _of_clouds(source: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    yield from ((variable, name, source[variable]) for variable, name in CLOUDS if source.get(variable))


def _check_together(values: Mapping[str, Any]) -> None:
    """Raise SettingsWrong for settings that exclude one another."""
    for one, other in (("port", "grpc_port"), ROUTES):
        if values.get(one) is not None and values.get(one) == values.get(other):
            raise SettingsWrong(f"{PREFIX}{one.upper()} and {PREFIX}{other.upper()} are both {values[one]}")


def _value(name: str, text: str, variable: str) -> Any:
    if name in ("root", "capture", "usage", "parity", "gpu_cache"):
        return Path(text).absolute()
    if name in LARGEST:
        least, most = SMALLEST.get(name, 1), LARGEST[name]
        if not (re.fullmatch(r"0|[1-9][0-9]{0,15}", text) and least <= int(text) <= most):
            raise SettingsWrong(f"{variable}: must be a whole number from {least} to {most}, not {text!r}")
    if name in CHOICES and text not in CHOICES[name]:
        raise SettingsWrong(f"{variable}: must be {' or '.join(CHOICES[name])}, not {text!r}")
    if name == "revision" and not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise SettingsWrong(f"{variable}: must be sha256: and 64 hex digits, not {text!r}")
    if name in ("model", "region", "host") and not re.fullmatch(r"[!-~]+", text):
        raise SettingsWrong(f"{variable}: must be printable ASCII without spaces, not {text!r}")
    if name in ROUTES and not re.fullmatch(r"/[!-~]+", text):
        raise SettingsWrong(f"{variable}: must begin with / and be printable ASCII without spaces, not {text!r}")
    return int(text) if name in LARGEST else text
