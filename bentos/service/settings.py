"""The only place of the service that knows the environment: variables that start with CONVOY_SERVICE_."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How one serving process is set.

    `root` is the unpacked revision, `revision` the digest it must have; without it (a Bento started by hand) the
    service measures its files and answers under the digest it found. `model` is the name in the route; without it, the
    name that the Bento was built for. `slots` is how many requests may be inside at once, `body_bytes` the largest body,
    `queue_bytes` what all bodies inside may have together, `batch_rows` how many rows go into one call of the model,
    `deadline_ms` how long a request may take that does not say so itself. `workers` is how many processes share the port.
    `direct` says whether the model's own library is asked where it answers as MLflow does (`auto`) or never (`off`), `parity`
    names the file that keeps MLflow's answers for the next process that compares. `trace_rate` is how many requests in a
    million are traced that do not say so themselves. `capture` is the folder that answered rows are kept in, `usage` the file
    of counters that outlives the process; without them nothing is kept.
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
    "slots": 1 << 20,
    "body_bytes": 1 << 40,
    "queue_bytes": 1 << 40,
    "batch_rows": 1 << 20,
    "deadline_ms": 86_400_000,
    "workers": 64,
    "trace_rate": 1_000_000,
}
SMALLEST = {"trace_rate": 0}
CHOICES = {"direct": ("auto", "off")}


def read_settings(environment: Mapping[str, str] | None = None) -> ServiceSettings:
    """Return the settings of this process; raises SettingsWrong for an unknown or wrong variable."""
    source = os.environ if environment is None else environment
    found = {name.removeprefix(PREFIX).lower(): value for name, value in source.items() if name.startswith(PREFIX)}
    unknown = sorted(set(found) - set(KNOWN))
    if unknown:
        known = ", ".join(PREFIX + name.upper() for name in KNOWN)
        raise SettingsWrong(f"{', '.join(PREFIX + name.upper() for name in unknown)}: no such setting (known: {known})")
    root = _value("root", found["root"]) if "root" in found else Path(__file__).resolve().parents[2]
    texts = {**tuned(root.with_name(f"{root.name}.tuning")), **found}
    return ServiceSettings(**{"root": root, **{name: _value(name, text) for name, text in texts.items()}})


def handed_on(changes: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process for one that it starts, with some settings changed."""
    return {**os.environ, **{PREFIX + name.upper(): value for name, value in changes.items()}}


def quiet_libraries() -> None:
    """Switch off the telemetry of what the service imports, and bytecode files beside the verified ones."""
    os.environ.update(QUIET)


def _value(name: str, text: str) -> Any:
    if name in ("root", "capture", "usage", "parity"):
        return Path(text).absolute()
    if name in LARGEST:
        least, most = SMALLEST.get(name, 1), LARGEST[name]
        if not (re.fullmatch(r"0|[1-9][0-9]{0,15}", text) and least <= int(text) <= most):
            raise SettingsWrong(f"{PREFIX}{name.upper()}: must be a whole number from {least} to {most}, not {text!r}")
    if name in CHOICES and text not in CHOICES[name]:
        raise SettingsWrong(f"{PREFIX}{name.upper()}: must be {' or '.join(CHOICES[name])}, not {text!r}")
    if name == "revision" and not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise SettingsWrong(f"{PREFIX}REVISION: must be sha256: and 64 hex digits, not {text!r}")
    if name in ("model", "region", "host") and not re.fullmatch(r"[!-~]+", text):
        raise SettingsWrong(f"{PREFIX}{name.upper()}: must be printable ASCII without spaces, not {text!r}")
    return int(text) if name in LARGEST else text
