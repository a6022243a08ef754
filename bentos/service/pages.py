"""What the paths that only read answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import orjson

from . import SERVICE_VERSION
from .board import CONTENT_TYPE
from .desk import Desk
from .doors import Reply
from .oip import EXTENSION

TEXT, HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
Path = Mapping[str, str]
"""What the path named: model and version, where its template has them."""


def live(desk: Desk, path: Path) -> Reply:
    """Say that the process listens."""
    return _json({"live": True})


def ready(desk: Desk, path: Path) -> Reply:
    """Say that the model answers, what the steps of the start took, and by which way it is asked and why."""
    scorer = desk.model()
    return _json({"ready": True, "took_ms": desk.readiness.took_ms, **scorer.notes})


def server(desk: Desk, path: Path) -> Reply:
    """Name the server, and which extensions of the protocol it has."""
    return _json({"name": "convoy_service", "version": SERVICE_VERSION, "extensions": [EXTENSION]})


def model(desk: Desk, path: Path) -> Reply:
    """Describe the model's inputs and outputs."""
    return _json(desk.model(path["model"], path.get("version")).metadata())


def model_ready(desk: Desk, path: Path) -> Reply:
    """Say that a model answers."""
    return _json({"name": desk.model(path["model"], path.get("version")).name, "ready": True})


def ping(desk: Desk, path: Path) -> Reply:
    """Say that the model answers."""
    desk.model()
    return _json({"ready": True})


def healthy(desk: Desk, path: Path) -> Reply:
    """Say that the model answers, in Azure's word."""
    desk.model()
    return Reply(b"Healthy", TEXT)


def metrics(desk: Desk, path: Path) -> Reply:
    """Tell the figures of all serving processes."""
    return Reply(desk.figures(), CONTENT_TYPE)


def mlflow_version(desk: Desk, path: Path) -> Reply:
    """Name the version of MLflow that is installed beside the model."""
    return Reply(version("mlflow").encode(), TEXT)


def _json(document: dict[str, Any]) -> Reply:
    return Reply(orjson.dumps(document))
