"""On which device a model is asked: a GPU where its revision declares one, and the CPU in its place only where that is declared too.

ONNX Runtime goes on with the CPU, and says so in its log alone, where it has no CUDA or CUDA's libraries do not load: a
server that is a hundred times too slow and calls itself ready. Here it is asked what it does after all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ModelUnusable, told
from .settings import ServiceSettings

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
NODES = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg")))
"""What a process that may use an NVIDIA GPU finds: of its driver, or of Windows' for Linux."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Device:
    """A device; `says` is what readiness tells of it, nothing where no GPU is declared. `asked` is what the revision declares."""

    says: str = ""
    gpu: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def providers(self) -> list[Any]:
        """Return ONNX Runtime's providers, the first to be asked first."""
        return [CPU] if self.gpu is None else [(CUDA, dict(self.gpu)), CPU]

    def without(self, why: str) -> Device:
        """Return the CPU in a GPU's place; raises ModelUnusable unless the revision declares that."""
        if self.asked.get("without_gpu") != "cpu":
            raise ModelUnusable(f"{why}, and the revision asks for a GPU; to have it answer on the CPU declare resources.without_gpu: cpu")
        return Device(f"the CPU in a GPU's place: {why}", None, self.asked)

    def of_library(self, path: str) -> Device:
        """Return the CPU, on which each path by a model's own library asks it; raises ModelUnusable unless that is declared."""
        return self if self.gpu is None else self.without(f"a model is asked by {path} on the CPU")

    def of_mlflow(self) -> Device:
        """Return where a model is that MLflow answers for, as far as can be told from outside."""
        return self if self.gpu is None else Device("where MLflow places it, a GPU being here", None, self.asked)


def device_of(settings: ServiceSettings) -> Device:
    """Return the device that a revision declares; raises ModelUnusable where there is none and the CPU is not declared in its place."""
    asked = resources(settings.root / "src")
    if not asked.get("gpu"):
        return Device(asked=asked)
    if not any(node.exists() for node in NODES):
        return Device(asked=asked).without("no GPU is here")
    limit = {"gpu_mem_limit": settings.gpu_memory_mib * MIB} if settings.gpu_memory_mib else {}
    return Device(f"GPU {settings.gpu}", {"device_id": settings.gpu, **limit}, asked)


def resources(folder: Path) -> dict[str, Any]:
    """Return what a revision asks of its machine, as fleet.yaml declares it; raises ModelUnusable for a file that says none of it."""
    file = folder / "resources.json"
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise ModelUnusable(f"{file} cannot be read ({told(problem)})") from problem
    if not isinstance(found, dict):
        raise ModelUnusable(f"{file} must be an object")
    return found
