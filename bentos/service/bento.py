"""The Bento's service, for `bentoml serve`: our server as its command, with BentoML's proxy in front.

Edges and clouds talk to the command's own port; BentoML's port is a second way in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bentoml

from .settings import read_settings

RESOURCES = Path(__file__).resolve().parents[1] / "resources.json"
"""What a server asks for, as fleet.yaml declares it; absent where it declares nothing."""
OURS = frozenset({"gpu_slice", "gpu_provider", "without_gpu"})
"""What of it BentoML has no word for: it is for our server and for whoever places it."""


def asked_for() -> dict[str, Any]:
    """Return the argument `resources` of the service, nothing where nothing is asked for."""
    if not RESOURCES.is_file():
        return {}
    asked = json.loads(RESOURCES.read_text(encoding="utf-8"))
    return {"resources": {name: value for name, value in asked.items() if name not in OURS}}


@bentoml.service(
    name="scoring",
    workers=1,
    http={"proxy_port": read_settings().port},
    endpoints={"livez": "/v2/health/live", "readyz": "/v2/health/ready"},
    **asked_for(),
)
class Scoring:
    """Scores rows with one MLflow model."""

    def __command__(self) -> list[str]:
        return [sys.executable, "-B", "-m", __package__ or "convoy_service"]
