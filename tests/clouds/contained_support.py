"""Containers of a model's owner for the tests: packaged, tried, deployed, and all of their processes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from clouds_support import STACK, wait_until

from bentos.container.build import Asked, build_contained, lay_root
from clouds.local.spaces import impossible
from clouds.local.target import LocalTarget
from clouds.local.trial import Trial, trial
from clouds.serving import Deployment, State
from fleet.home import Home
from support.own_container import own_layout

MODEL, REGION = "toy", "east"
_WHY = impossible()
needs_namespaces = pytest.mark.skipif(bool(_WHY), reason=f"no container can be kept apart here: {_WHY}")


def region(home: Home) -> LocalTarget:
    first = random.randrange(32500, 32700)
    return LocalTarget(home, STACK, {REGION: range(first, first + 10)})


@dataclass(frozen=True)
class Own:
    """A packaged revision with its container, and what unpacks it."""

    digest: str
    folder: Path

    def fetch(self, digest: str, to: Path) -> None:
        assert digest == self.digest
        shutil.copytree(self.folder, to, dirs_exist_ok=True)
        lay_root(to)


def made(place: Path, server: bytes, memory_bytes: int = 1 << 30, **config: Any) -> Own:
    digest = own_layout(place / "layout", server, **config)
    (place / "model").mkdir()
    (place / "model/MLmodel").write_text("flavors: {}\n")
    manifest = build_contained(place / "model", MODEL, "1", place / "revision", Asked(place / "layout", digest, memory_bytes))
    return Own(manifest.digest, place / "revision")


@contextmanager
def tried(own: Own, place: Path) -> Iterator[Trial]:
    with trial(Deployment(MODEL, "gate", own.digest), own.fetch, place / "trial", STACK) as running:
        yield running


def answering(running: Trial) -> None:
    """Wait until the container answers anything at all."""

    def answered() -> bool:
        try:
            return httpx.get(running.url + "/1").status_code != 503
        except httpx.TransportError:
            return False

    wait_until(lambda: running.process.poll() is not None or answered())


def ready(target: LocalTarget, own: Own) -> str:
    wait_until(lambda: target.status_of(REGION, MODEL, own.digest).state is State.READY)
    endpoint = target.status_of(REGION, MODEL, own.digest).endpoint
    assert endpoint is not None
    return f"http://{endpoint.host}:{endpoint.port}"


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
