"""A slice of a GPU (MIG) that a revision asks for: local processes are shown what Convoy itself is shown (fleet/settings.py).

To CUDA a slice is one device, named by CUDA_VISIBLE_DEVICES=MIG-…: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
"""

from __future__ import annotations

import json
from pathlib import Path

from fleet.errors import IntegrityError, NotSupported
from fleet.settings import VISIBLE, visible_slice


def check_slice(root: Path) -> None:
    """Raise NotSupported for an unpacked revision that asks for a slice where none is shown and the CPU is not declared in its place.

    Raises IntegrityError for a revision whose resources cannot be read. Whether a slice has the size that is declared is not
    looked up.
    """
    asked = _asked(root)
    if not asked.get("gpu_slice") or asked.get("without_gpu") == "cpu" or visible_slice():
        return
    raise NotSupported(
        f"the slice {asked['gpu_slice']} of a GPU",
        f"local processes are given none: {VISIBLE} names no MIG device",
        f"Start Convoy with {VISIBLE}=MIG-…, or declare resources.without_gpu: cpu.",
    )


def _asked(root: Path) -> dict[str, object]:
    file = root / "src" / "resources.json"
    try:
        found = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError) as problem:
        raise IntegrityError(str(file), f"cannot be read ({type(problem).__name__})", "Package the model version again.") from problem
    return found if isinstance(found, dict) else {}
