"""Reports for people, shown in a browser: GET /reports/<subject>/.../<file>, read-only.

Anyone on this machine may read them, without a token, since a link carries none. A page of another site that has its
name resolve to this machine may not: the request must be for a loopback name. A report's own scripts run in a sandbox
that reaches neither Convoy nor any network.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import ExitStack
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fleet.errors import Refused, UnknownName

TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".csv": "text/csv; charset=utf-8"}
"""What may be shown; any other file is not there."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HEADERS = {
    # Evidently's page compiles some of its own templates, and carries its fonts and pictures within itself
    "Content-Security-Policy": (
        "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; connect-src 'none'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def reports_router(folder: Path) -> APIRouter:
    """Return the route that shows the files below a folder."""
    router = APIRouter()

    @router.get("/reports/{path:path}", response_class=Response)
    def report(path: str, request: Request) -> Response:
        """Show one report, such as /reports/drift/<model>/<time>.html."""
        if request.url.hostname not in LOOPBACK:
            raise Refused("this call", f"reports are not shown under the name '{request.url.hostname}'", "Ask 127.0.0.1 instead.")
        return Response(read_report(folder, path), media_type=TYPES[Path(path).suffix], headers=HEADERS)

    return router


def read_report(folder: Path, path: str) -> bytes:
    """Return a report's bytes; raises UnknownName unless the path leads, without any link, to a plain file of a known type."""
    parts = path.split("/")
    missing = UnknownName(f"report '{path[:200]}'", "there is none by that name", "Follow the link in the newest run's artifact.")
    if len(parts) < 2 or not all(_PART.fullmatch(part) for part in parts) or Path(path).suffix not in TYPES:
        raise missing
    try:
        return _read(folder, parts)
    except OSError as problem:
        raise missing from problem


def _read(folder: Path, parts: list[str]) -> bytes:
    """Open each part within the one before and follow no link, so that nothing can be swapped in on the way."""
    with ExitStack() as opened:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, here)
        for part in parts[:-1]:
            here = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            opened.callback(os.close, here)
        # a pipe would block the opening itself
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
        with os.fdopen(file, "rb") as reader:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise FileNotFoundError(parts[-1])
            return reader.read()
