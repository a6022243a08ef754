"""On which device a model is asked: a GPU where its revision declares one, and the CPU in its place only where that is declared too.

ONNX Runtime goes on with the CPU, and says so in its log alone, where it has no CUDA or CUDA's libraries do not load: a
server that is a hundred times too slow and calls itself ready. Here it is asked what it does after all.

TensorRT's options: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ModelUnusable, SettingsWrong, told
from .settings import ServiceSettings

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
SPOKEN = {TENSORRT: "TensorRT", CUDA: "CUDA"}
NODES = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg")))
"""What a process that may use an NVIDIA GPU finds: of its driver, or of Windows' for Linux."""
MIB = 1 << 20
MOST_KINDS = 5
"""How many of a graph's operators are named in a reason."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device; `says` is what readiness tells of it, nothing where no GPU is declared. `asked` is what the revision declares.

    `gpu` is what ONNX Runtime's CUDA is told of it, `cache` the folder for what TensorRT builds of this revision's graph.
    """

    says: str = ""
    gpu: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    cache: Path | None = None

    @property
    def provider(self) -> str:
        """Which of ONNX Runtime's providers must ask the graph."""
        if self.gpu is None:
            return CPU
        return TENSORRT if self.asked.get("gpu_provider") == "tensorrt" else CUDA

    def providers(self, *, half: bool = False) -> list[Any]:
        """Return ONNX Runtime's providers, the first to be asked first; `half`: TensorRT may calculate in 16 bits."""
        if self.gpu is None:
            return [CPU]
        first = [(TENSORRT, self._of_tensorrt(half))] if self.provider == TENSORRT else []
        return [*first, (CUDA, dict(self.gpu)), CPU]

    def _of_tensorrt(self, half: bool) -> dict[str, Any]:
        assert self.gpu is not None
        told_: dict[str, Any] = {"device_id": self.gpu["device_id"], "trt_fp16_enable": half}
        if "gpu_mem_limit" in self.gpu:
            told_["trt_max_workspace_size"] = self.gpu["gpu_mem_limit"]
        if self.cache is not None:
            told_ |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(self.cache)}
        return told_

    def where(self, operators: Sequence[tuple[str, str]]) -> Device:
        """Return it with what it says of a graph's operators, each given with the provider that runs it.

        ONNX Runtime gives the CPU each operator that no other provider has, such as trees. Raises as `without` where the GPU
        runs none.
        """
        if self.gpu is None:
            return self
        if not any(provider == self.provider for provider, _ in operators):
            return self.without(f"{SPOKEN[self.provider]} runs none of the graph's operators ({_kinds(operators)})")
        left = [each for each in operators if each[0] == CPU]
        if not left:
            return self
        return replace(self, says=f"{self.says}; the CPU runs {len(left)} of {len(operators)} operators ({_kinds(left)})")

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


def device_of(settings: ServiceSettings, revision: str = "") -> Device:
    """Return the device that a revision declares; raises ModelUnusable where there is none and the CPU is not declared in its place.

    Raises SettingsWrong for a device beside a declared slice, and for a folder of TensorRT's that cannot be written.
    """
    asked = resources(settings.root / "src")
    if not asked.get("gpu"):
        return Device(asked=asked)
    if asked.get("gpu_slice") and settings.gpu:
        raise SettingsWrong(f"CONVOY_SERVICE_GPU: must be 0, not {settings.gpu}: of slices ({asked['gpu_slice']}) CUDA shows a process one")
    if not any(node.exists() for node in NODES):
        return Device(asked=asked).without("no GPU is here")
    limit = {"gpu_mem_limit": settings.gpu_memory_mib * MIB} if settings.gpu_memory_mib else {}
    says = f"GPU {settings.gpu}" + (f", asked for as {asked['gpu_slice']}" if asked.get("gpu_slice") else "")
    found = Device(says, {"device_id": settings.gpu, **limit}, asked)
    if found.provider != TENSORRT:
        return found
    return replace(found, says=f"{says}, by TensorRT", cache=_cache(settings.gpu_cache, revision))


def _cache(folder: Path | None, revision: str) -> Path | None:
    """Make a revision's own folder: what TensorRT builds is named by a graph's names, whatever its weights are."""
    if folder is None or not revision:
        return None
    own = folder / revision.removeprefix("sha256:")
    try:
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise SettingsWrong(f"CONVOY_SERVICE_GPU_CACHE: {own} cannot be made ({problem.strerror})") from problem
    if not os.access(own, os.W_OK | os.X_OK):
        raise SettingsWrong(f"CONVOY_SERVICE_GPU_CACHE: {own} cannot be written")
    return own


def _kinds(operators: Sequence[tuple[str, str]]) -> str:
    kinds = sorted({kind for _, kind in operators})
    return ", ".join([*kinds[:MOST_KINDS], *(["…"] if len(kinds) > MOST_KINDS else [])])


def resources(folder: Path) -> dict[str, Any]:
    """Return what a revision asks of its machine, as fleet.yaml declares it; raises ModelUnusable for a file that says none of it."""
    return _declared(folder / "resources.json")


def compiles(folder: Path) -> bool:
    """Say whether a revision declares that its PyTorch module is compiled; raises ModelUnusable for a file that does not say."""
    return _declared(folder / "optimise.json").get("compile") is True


def _declared(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise ModelUnusable(f"{file} cannot be read ({told(problem)})") from problem
    if not isinstance(found, dict):
        raise ModelUnusable(f"{file} must be an object")
    return found
