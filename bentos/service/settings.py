"""The only place of the service that knows the environment: variables that start with CONVOY_SERVICE_."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SettingsWrong

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
    name that the Bento was built for. `slots` is how many requests may be inside at once, `body_bytes` the largest body.
    `capture` is the folder that answered rows are kept in, `usage` the file of counters that outlives the process;
    without them nothing is kept.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = 3001
    model: str | None = None
    revision: str | None = None
    region: str = "unplaced"
    slots: int = 512
    body_bytes: int = 8 << 20
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
    def label_file(self) -> Path:
        """Which model and version the Bento was built for (JSON)."""
        return self.root / "src" / "revision.json"


KNOWN = tuple(ServiceSettings.__dataclass_fields__)
LARGEST = {"port": 65535, "slots": 1 << 20, "body_bytes": 1 << 40}


def read_settings(environment: Mapping[str, str] | None = None) -> ServiceSettings:
    """Return the settings of this process; raises SettingsWrong for an unknown or wrong variable."""
    source = os.environ if environment is None else environment
    found = {name.removeprefix(PREFIX).lower(): value for name, value in source.items() if name.startswith(PREFIX)}
    unknown = sorted(set(found) - set(KNOWN))
    if unknown:
        known = ", ".join(PREFIX + name.upper() for name in KNOWN)
        raise SettingsWrong(f"{', '.join(PREFIX + name.upper() for name in unknown)}: no such setting (known: {known})")
    values: dict[str, Any] = {name: _value(name, text) for name, text in found.items()}
    return ServiceSettings(**{"root": Path(__file__).resolve().parents[2], **values})


def quiet_libraries() -> None:
    """Switch off the telemetry of what the service imports, and bytecode files beside the verified ones."""
    os.environ.update(QUIET)


def _value(name: str, text: str) -> Any:
    if name in ("root", "capture", "usage"):
        return Path(text).absolute()
    if name in LARGEST and not (re.fullmatch(r"[1-9][0-9]{0,15}", text) and int(text) <= LARGEST[name]):
        raise SettingsWrong(f"{PREFIX}{name.upper()}: must be a whole number from 1 to {LARGEST[name]}, not {text!r}")
    if name == "revision" and not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise SettingsWrong(f"{PREFIX}REVISION: must be sha256: and 64 hex digits, not {text!r}")
    if name in ("model", "region", "host") and not re.fullmatch(r"[!-~]+", text):
        raise SettingsWrong(f"{PREFIX}{name.upper()}: must be printable ASCII without spaces, not {text!r}")
    return int(text) if name in LARGEST else text
