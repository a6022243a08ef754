"""How a revision was tuned: batch size and worker count that were measured, and for which machine they hold.

The file lies beside the unpacked revision, as its manifest does; without it, or on another machine, the settings' own
values hold. What the environment says goes before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SettingsWrong

TUNED = ("batch_rows", "workers")
CPU_FILE = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    """Return what a tuning depends on: the processor's name and how many cores this process may use."""
    try:
        lines = CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else "unknown", "cores": len(os.sched_getaffinity(0))}


def tuned(file: Path, here: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the tuned settings as the environment would name them; nothing without a file, or for another machine.

    Raises SettingsWrong for a file that is no tuning.
    """
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_bytes())
        chosen = {name: str(int(document["chosen"][name])) for name in TUNED}
        measured_on = {name: document["machine"][name] for name in ("cpu", "cores")}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise SettingsWrong(f"the tuning {file.name} cannot be read ({type(problem).__name__})") from problem
    return chosen if measured_on == (machine() if here is None else dict(here)) else {}
