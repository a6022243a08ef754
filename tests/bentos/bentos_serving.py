"""Starts the real service of a Bento as a process, and talks to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bentos.build import build
from bentos.inputs import BuildOptions
from fleet.canonical import digest_of_file
from fleet.settings import inherited_environment
from support.ports import free_port

READY_SECONDS = 90


def wait_until(condition: Callable[[], bool], seconds: float, about: str) -> None:
    """Poll until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {about}"
        time.sleep(0.02)


def environment(root: Path, port: int, **more: str) -> dict[str, str]:
    named = {f"CONVOY_SERVICE_{name.upper()}": value for name, value in more.items()}
    own = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return inherited_environment() | own | {"CONVOY_SERVICE_ROOT": str(root), "CONVOY_SERVICE_PORT": str(port)} | named


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    client: httpx.Client

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def infer(self, model: str, *inputs: dict[str, Any], **headers: str) -> httpx.Response:
        return self.client.post(f"/v2/models/{model}/infer", json={"inputs": list(inputs)}, headers=headers)

    def health(self) -> httpx.Response | None:
        """The answer of the health check; None when nobody listens any more."""
        try:
            return self.get("/v2/health/ready")
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        assert self.process.poll() is None, f"exited with {self.process.returncode}: {self.log.read_text()}"
        answer = self.health()
        return answer is not None and answer.status_code == 200

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def started(command: list[str], cwd: Path, variables: dict[str, str], port: int, log: Path) -> Iterator[Service]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=variables, stdout=output, stderr=output, start_new_session=True)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            yield Service(process, port, log, client)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@contextmanager
def launched(root: Path, log: Path, **settings: str) -> Iterator[Service]:
    """The process of a revision, as a target starts it; ready or not. What the first found out with MLflow, the next need not."""
    port = free_port()
    settings = {"parity": str(root.with_name(root.name + ".parity"))} | settings
    with started([sys.executable, "-m", "convoy_service"], root / "src", environment(root, port, **settings), port, log) as service:
        yield service


@contextmanager
def serving(root: Path, log: Path, **settings: str) -> Iterator[Service]:
    """The process of a revision, ready."""
    with launched(root, log, **settings) as service:
        wait_until(service.ready, READY_SECONDS, "ready")
        yield service


def tensor(name: str, datatype: str, *data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}


def packaged(model: Path, name: str, to: Path, options: BuildOptions | None = None) -> Path:
    """A Bento with its manifest beside it, as a target unpacks it."""
    manifest = build(model, name, "3", to, options or BuildOptions())
    to.with_name(to.name + ".manifest").write_bytes(manifest.to_bytes())
    return to


def digest_of(root: Path) -> str:
    return digest_of_file(root.with_name(root.name + ".manifest"))
