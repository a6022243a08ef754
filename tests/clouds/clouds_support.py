from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet.manifest import manifest_of

STACK = "test-stack"


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


STAND_IN = '''
"""A stand-in for the scoring service: the same environment, the same health, a behaviour told by a file."""
import http.server, os, pathlib, signal, sys

env = {name.removeprefix("CONVOY_SERVICE_").lower(): value for name, value in os.environ.items()}
behaviour = pathlib.Path("behaviour").read_text()
print("started with", behaviour, flush=True)


def leave(*_):
    print("was asked to stop", flush=True)
    sys.exit()


signal.signal(signal.SIGTERM, leave)
if behaviour == "dies":
    sys.exit("this model cannot be loaded")
if behaviour == "unfit":
    print("file src/model differs from the manifest", flush=True)
    sys.exit(3)
digest = "sha256:" + "0" * 64 if behaviour == "impostor" else env["revision"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if behaviour == "warming" else 200)
        self.send_header("x-convoy-revision", digest)
        self.send_header("x-convoy-region", env["region"])
        self.end_headers()
        self.wfile.write(b"warming up" if behaviour == "warming" else b"ready")


http.server.ThreadingHTTPServer((env["host"], int(env["port"])), Handler).serve_forever()
'''


@dataclass(frozen=True)
class Made:
    """A revision made for a test, with what unpacks it."""

    digest: str
    folder: Path

    def fetch(self, digest: str, to: Path) -> None:
        assert digest == self.digest
        shutil.copytree(self.folder, to, dirs_exist_ok=True)


def make_revision(folder: Path, behaviour: str = "serves", note: str = "") -> Made:
    root = folder / f"{behaviour}-{note}"
    package = root / "src" / "convoy_service"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    (root / "src" / "behaviour").write_text(behaviour)
    (root / "src" / "note").write_text(note)
    return Made(manifest_of(root).digest, root)
