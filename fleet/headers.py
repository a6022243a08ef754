"""The request headers that mean something between callers, edges and servers, and which names are left for a model to choose."""

from __future__ import annotations

import re
from typing import Final

RESIDENCY_HEADER: Final = "x-convoy-residency"
"""A request's mark: only regions that the mark allows may answer it."""
TRAFFIC_HEADER: Final = "x-convoy-traffic"
"""Says to the model's server, which counts by it, what kind of traffic a request is."""
SHADOW_HEADER: Final = "x-convoy-shadow"
"""Names, within an edge, the cluster that a copy of a request goes to; whatever a caller sends under it is removed."""
DRILL_HEADER: Final = "x-convoy-drill"
"""A request that carries the key of a drill here is counted as traffic of a drill; the edge removes it before the model sees it."""
REVISION_HEADER: Final = "x-convoy-revision"
"""Names, on every answer, the digest of the revision that gave it."""
NOT_READY: Final = "x-convoy-not-ready"
"""What a serving process puts on a refusal while it is not ready (bentos/service/desk.py)."""

BETWEEN_EDGES_AND_SERVERS: Final = ("x-convoy-pair", "x-convoy-answer")
"""What edges and servers tell one another for the logs (traffic/attempts/formats.py)."""

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")
_TAKEN: Final = frozenset(
    {"host", "connection", "content-type", "content-length", "transfer-encoding", "x-request-id", "cookie", "authorization"}
)
_CONVOYS: Final = (RESIDENCY_HEADER, TRAFFIC_HEADER, SHADOW_HEADER, DRILL_HEADER, NOT_READY, *BETWEEN_EDGES_AND_SERVERS)
_OURS: Final = ("x-envoy-", "x-forwarded-", *_CONVOYS)


def unfit(name: str) -> str:
    """Return why a model's rules may not use a request header of this name; nothing when they may."""
    if not NAME.fullmatch(name):
        return f"'{name}' must be a header's name in small letters, digits, dashes and underscores"
    if name in _TAKEN or name.startswith(_OURS):
        return f"'{name}' has another meaning already"
    return ""
