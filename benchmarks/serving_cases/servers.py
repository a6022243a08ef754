"""Convoy's server and its peers, each a process on the first core, started once a model and stopped while others have their turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.envoy_alone import free_ports
from benchmarks.serving_cases.models import APPS, NAME, Served
from benchmarks.serving_cases.places import core, environment, quiet_environment
from bentos.build import build
from bentos.inputs import BuildOptions

READY_SECONDS = 120.0
POLL_SECONDS = 0.005
PREFIX = "CONVOY_SERVICE_"
V2_PATH = f"/v2/models/{NAME}/infer"


@dataclass(frozen=True, slots=True)
class Kind:
    """A server: what it is started with, where it is asked, and in which form; `needs` is what its environment holds."""

    name: str
    path: str
    form: str
    needs: tuple[str, ...] = ()
    peer: bool = True


LIBRARIES = ("scikit-learn", "lightgbm", "onnxruntime", "tokenizers", "joblib", "numpy")
CONVOY = Kind("convoy", V2_PATH, "v2", peer=False)
COMPILED = Kind("convoy, ONNX variant", V2_PATH, "v2", peer=False)
ASYNC = Kind("FastAPI, async", "/predict", "plain", ("fastapi", "uvicorn[standard]", *LIBRARIES))
SYNC = Kind("FastAPI, sync", "/predict", "plain", ASYNC.needs)
BENTO = Kind("BentoML's own route", "/predict", "plain", ("bentoml", *LIBRARIES))
LITSERVE = Kind("LitServe", "/predict", "plain", ("litserve", *LIBRARIES))
MLFLOW = Kind("mlflow models serve", "/invocations", "mlflow", ("mlflow", *LIBRARIES))
MLSERVER = Kind("MLServer", V2_PATH, "v2", ("mlserver", "mlserver-mlflow", *LIBRARIES))
KINDS = (CONVOY, COMPILED, ASYNC, SYNC, BENTO, LITSERVE, MLFLOW, MLSERVER)


class NotRun(Exception):
    """This server cannot be measured here, for the reason given."""


@dataclass(slots=True)
class Server:
    """A running server; `cold` is how many seconds it took to its first good answer or word that it is ready."""

    kind: Kind
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    body: Path
    cold: float = 0.0

    @property
    def url(self) -> str:
        """Where it is asked for a prediction."""
        return f"http://127.0.0.1:{self.port}{self.kind.path}"

    def family(self) -> list[psutil.Process]:
        """Return its processes."""
        found = psutil.Process(self.process.pid)
        return [found, *found.children(recursive=True)]

    def freeze(self) -> None:
        """Stop it: nothing that it does by itself may take time from who is in turn."""
        for process in self.family():
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        for process in self.family():
            process.resume()

    def memory_mib(self) -> float:
        """Return its resident memory, shared pages counted once."""
        return sum(process.memory_full_info().pss for process in self.family()) / 2**20

    def loaded(self) -> frozenset[str]:
        """Return which of the libraries that are not to be in the hot process have a file mapped there."""
        maps = " ".join(found.path for process in self.family() for found in process.memory_maps())
        return frozenset(name for name in ("pandas", "mlflow") if f"site-packages/{name}/" in maps)

    def close(self) -> None:
        """End it, whatever it does."""
        # BentoML's workers are no part of its group, and would stay stopped for ever
        with suppress(psutil.NoSuchProcess):
            for process in self.family():
                process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def running(kind: Kind, model: Served, folder: Path, full: bool, **settings: str) -> Iterator[Server]:
    """Give a server that answers a model, Convoy's with more settings; raises NotRun with the reason where it cannot."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    line, cwd, more = _convoy(kind, model, folder, port) if not kind.peer else _peer(kind, model, folder, port, full)
    body = folder / "body.json"
    body.write_bytes(model.body(kind.form))
    began = time.monotonic()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            line,
            cwd=cwd,
            env=quiet_environment() | dict(more) | {PREFIX + name: value for name, value in settings.items()},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=core(0),
        )
    server = Server(kind, port, process, body)
    try:
        _wait(server, folder / "server.log", began)
        yield server
    finally:
        server.close()


def _wait(server: Server, log: Path, began: float) -> None:
    """Wait for the first good answer; raises NotRun where none comes."""
    body = server.body.read_bytes()
    told = "no answer"
    with httpx.Client(trust_env=False, timeout=20) as client:
        while time.monotonic() < began + READY_SECONDS:
            if server.process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
                raise NotRun(f"it ended with status {server.process.returncode}: {last[0][:160]}")
            with suppress(httpx.TransportError):
                answer = client.post(server.url, content=body, headers={"content-type": "application/json"})
                if answer.is_success:
                    server.cold = time.monotonic() - began
                    return
                told = f"{answer.status_code} {answer.text[:160]}"
                if answer.status_code < 500 and answer.status_code != 404:
                    raise NotRun(f"it refuses the request: {told}")
            time.sleep(POLL_SECONDS)
    raise NotRun(f"it did not answer within {READY_SECONDS:g} s: {told}")


Started = tuple[list[str], Path, Mapping[str, str]]


def _convoy(kind: Kind, model: Served, folder: Path, port: int) -> Started:
    """Package the model as a release does, and start it as a region does."""
    variant = model.variants.get("onnx") if kind is COMPILED else None
    if kind is COMPILED and variant is None:
        raise NotRun("this model has no variant: its code brings its own graph")
    root = folder / "revision"
    manifest = build(model.mlflow, NAME, "1", root, BuildOptions(variant=variant))
    root.with_name("revision.manifest").write_bytes(manifest.to_bytes())
    settings = {"ROOT": str(root), "PORT": str(port), "REVISION": manifest.digest, "MODEL": NAME, "REGION": "benchmark"}
    return [sys.executable, "-m", "convoy_service"], root / "src", {PREFIX + name: value for name, value in settings.items()}


def _peer(kind: Kind, model: Served, folder: Path, port: int, full: bool) -> Started:
    python = environment(kind.needs, make=full or kind in (ASYNC, SYNC))
    if isinstance(python, str):
        raise NotRun(python)
    more = {"KIND": model.kind, "MODEL": str(model.plain), "ROUTE": "sync" if kind is SYNC else "async"}
    program = str(python)
    lines: dict[Kind, list[str]] = {
        BENTO: ["-m", "bentoml", "serve", "bento_app:Stock", "--port", str(port), "--host", "127.0.0.1"],
        LITSERVE: ["litserve_app.py", str(port)],
        MLFLOW: ["-m", "mlflow", "models", "serve", "-m", str(model.mlflow), "-p", str(port), "--env-manager", "local", "-w", "1"],
        MLSERVER: ["-c", "from mlserver.cli import main; main()", "start", str(folder / "mlserver")],
    }
    uvicorn = ["-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    if kind is MLSERVER:
        _mlserver(model, folder / "mlserver", port)
    # Their commands start others of the same environment
    path = {"PATH": f"{Path(program).parent}:{os.environ.get('PATH', '')}", "BENTOML_HOME": str(folder / "bentoml")}
    return [program, *lines.get(kind, uvicorn)], APPS, more | path


def _mlserver(model: Served, folder: Path, port: int) -> None:
    import json

    folder.mkdir(exist_ok=True)
    first, second = free_ports(2)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": first, "metrics_port": second, "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    described = {"name": NAME, "implementation": "mlserver_mlflow.MLflowRuntime", "parameters": {"uri": str(model.mlflow)}}
    (folder / "model-settings.json").write_text(json.dumps(described))
