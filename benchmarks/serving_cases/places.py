"""Where peers live, and on which core who runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from fleet.settings import NO_TELEMETRY, inherited_environment

PLACE = Path(tempfile.gettempdir()) / "convoy-benchmark-peers"
"""Kept between runs: making the peers' environments takes minutes."""
SAME = ("scikit-learn", "lightgbm", "numpy", "scipy", "joblib", "onnxruntime", "tokenizers", "mlflow", "bentoml", "cloudpickle")
"""What a peer has in the version that is installed here, so that the same model is asked by the same code."""


def core(number: int) -> Callable[[], None] | None:
    """Return what puts a process on one core, counted from the end where negative; None on a machine with one."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {cores[number]})


def environment(requirements: Sequence[str], make: bool) -> Path | str:
    """Return the interpreter of an environment of its own with some requirements, or why there is none."""
    wanted = sorted(requirements)
    pins = [f"{name}=={metadata.version(name)}" for name in SAME if _installed(name)]
    name = hashlib.sha256("\n".join([sys.version, *wanted, *pins]).encode()).hexdigest()[:12]
    folder = PLACE / name
    python = folder / "bin" / "python"
    if (folder / "ready").is_file():
        return python
    if not make:
        return "its environment is made by a full run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    constraints = folder.with_suffix(".constraints")
    constraints.write_text("\n".join(pins) + "\n")
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    for line in (
        [uv, "venv", "-q", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "-q", "--python", str(python), "-c", str(constraints), *wanted],
    ):
        done = subprocess.run(line, env=quiet_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            return f"its environment cannot be made: {done.stderr.strip().splitlines()[-1][:200]}"
    (folder / "ready").touch()
    return python


def quiet_environment() -> dict[str, str]:
    """Return what every server is started with: no telemetry, one thread a library."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return inherited_environment() | NO_TELEMETRY | threads | {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
