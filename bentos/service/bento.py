"""The Bento's service, for `bentoml serve`: our server as its command, with BentoML's proxy in front.

Edges and clouds talk to the command's own port; BentoML's port is a second way in.
"""

from __future__ import annotations

import sys

import bentoml

from .settings import read_settings


@bentoml.service(
    name="scoring",
    workers=1,
    http={"proxy_port": read_settings().port},
    endpoints={"livez": "/v2/health/live", "readyz": "/v2/health/ready"},
)
class Scoring:
    """Scores rows with one MLflow model."""

    def __command__(self) -> list[str]:
        return [sys.executable, "-B", "-m", __package__ or "convoy_service"]
