"""PyTorch modules on the device that their revision declares, and compiled where it declares that.

torch.compile: https://docs.pytorch.org/docs/stable/generated/torch.compile.html. Its CUDA graphs ("reduce-overhead") belong to
the thread that recorded them (https://github.com/pytorch/pytorch/issues/123177), so a compiled module has a thread of its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from .device import Device
from .errors import ModelUnusable, SettingsWrong, told

ON_CPU = "cpu"
Array = Any
Run = Callable[[Array], Array]


def placed(device: Device) -> Device:
    """Return where PyTorch asks a model: the declared GPU, with its limit of memory, or the CPU where none is declared.

    Raises ModelUnusable where PyTorch has no CUDA and the CPU is not declared in its place, SettingsWrong for a GPU that is not
    there.
    """
    if device.gpu is None:
        return device
    import torch

    if torch.version.cuda is None:
        return device.without(f"PyTorch {torch.__version__} is built without CUDA")
    if not torch.cuda.is_available():
        return device.without(f"PyTorch {torch.__version__} finds no GPU that its CUDA {torch.version.cuda} can use")
    at, count = device.gpu["device_id"], torch.cuda.device_count()
    if at >= count:
        raise SettingsWrong(f"CONVOY_SERVICE_GPU: must be less than {count}, as many GPUs as PyTorch finds, not {at}")
    # MLflow, where it is asked, takes the process's own
    torch.cuda.set_device(at)
    if limit := device.gpu.get("gpu_mem_limit"):
        whole = torch.cuda.get_device_properties(at).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / whole), at)
    return replace(device, says=f"{device.says}, by PyTorch")


def name_of(device: Device) -> str:
    """Return a device as PyTorch names it."""
    return ON_CPU if device.gpu is None else f"cuda:{device.gpu['device_id']}"


def eager(module: Any, device: str) -> Run:
    """Return what runs a module with an array of rows on a device, and brings its answer back."""
    import torch

    def run(rows: Array) -> Array:
        with torch.inference_mode():
            return module(torch.from_numpy(rows).to(device)).cpu().numpy()

    return run


def sizes(most: int) -> tuple[int, ...]:
    """Return the powers of two below a number, and the number: of how many rows graphs are recorded."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


class Compiled:
    """A compiled module, asked by one thread; `warm` compiles it, and from then on nothing is compiled again.

    On a GPU it is a CUDA graph for each of some sizes (`graphs`): rows are filled up to the next with their last one, and more
    than the largest go in several calls. So it is only for a module whose rows do not mind one another.
    """

    def __init__(self, module: Any, device: str, graphs: bool | None = None) -> None:
        self._module, self._device = module, device
        self._graphs = device != ON_CPU if graphs is None else graphs
        self._sizes: tuple[int, ...] = ()
        self._run: Run | None = None
        self._lane = Lane()

    def __call__(self, rows: Array) -> Array:
        """Return the answer to rows; raises what the module raises."""
        if not self._graphs:
            return self._call(rows)
        answers = [self._call(_filled(part, self._sizes))[: len(part)] for part in _cut(rows, self._sizes[-1])]
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def warm(self, one: Array, most: int) -> None:
        """Compile it, with an array of one row, for up to so many; raises ModelUnusable where that fails: without a C++ compiler, say."""
        import torch

        self._sizes = sizes(most) if self._graphs else (1, max(2, most))
        mode = "default" if self._device == ON_CPU else "reduce-overhead"
        try:
            # In a service no process of its own compiles ahead
            torch._inductor.config.compile_threads = 1
            # A module that cannot be compiled whole raises; it is compiled for one row, and for any number above
            self._run = eager(torch.compile(self._module, mode=mode, fullgraph=True, dynamic=True), self._device)
            # The first call of a size warms a CUDA graph up, the second records it
            for size in self._sizes:
                for _ in range(2):
                    self._call(np.repeat(one, size, axis=0))
        except Exception as problem:
            raise ModelUnusable(f"optimise.compile is declared, and torch.compile fails ({told(problem)})") from problem
        # Here the process serves one model: whatever would be compiled later, while a caller waits, raises
        torch.compiler.set_stance("fail_on_recompile")

    def _call(self, rows: Array) -> Array:
        run = self._run
        assert run is not None, "it is warmed before it is asked"
        return self._lane.run(lambda: run(rows))


class Lane:
    """One thread in which calls are made one after the other; a daemon, so that a call without end keeps no process alive."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="compiled", daemon=True).start()

    def run(self, work: Callable[[], Any]) -> Any:
        """Return what the work returns; raises what it raises."""
        outcome: Future[Any] = Future()
        self._jobs.put((work, outcome))
        return outcome.result()

    def _serve(self) -> None:
        while True:
            work, outcome = self._jobs.get()
            try:
                outcome.set_result(work())
            except BaseException as problem:  # noqa: BLE001  handed to whoever waits; the thread must go on
                outcome.set_exception(problem)


def _cut(rows: Array, most: int) -> Iterator[Array]:
    yield from (rows[begin : begin + most] for begin in range(0, max(1, len(rows)), most))


def _filled(rows: Array, known: tuple[int, ...]) -> Array:
    size = next(size for size in known if size >= len(rows))
    return rows if len(rows) in (0, size) else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
