"""A container of a model's owner for the tests: a plain Python HTTP server with nothing but what it needs of this machine's Python."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from bentos.oci.kinds import CONFIG, LAYER, MANIFEST, this_platform
from bentos.oci.layout import Layout
from support.images import layer_of

PROGRAM = "/app/serve.py"
HERE = Path(__file__).parents[2] / "examples" / "own_container" / "serve.py"
LISTED = """
import json, sys
import traceback, encodings.idna, http.server, http.client, json, os, pathlib, signal, socketserver, urllib.parse, email.parser
names = [module.__spec__.origin for module in sys.modules.values() if getattr(module, "__spec__", None)]
print(json.dumps([name for name in names if name and name.startswith("/")]))
"""


@cache
def python_files() -> dict[str, bytes]:
    """This machine's Python and the part of its library that a small server imports, by their places in an image."""
    python = Path(sys.executable).resolve()
    told = subprocess.run([python, "-I", "-S", "-c", LISTED], capture_output=True, text=True, check=True)
    modules = [Path(name) for name in json.loads(told.stdout)]
    linked = [python, *(path for path in modules if path.suffix == ".so")]
    libraries = {found for path in linked for found in _libraries(path)}
    home = Path(sys.base_prefix)
    files = {f"usr/local/bin/{python.name}": python}
    files |= {f"usr/local/{path.relative_to(home)}": path for path in modules if path.is_relative_to(home)}
    files |= {str(path).lstrip("/"): path for path in libraries}
    # Where Python looks for its prefix
    landmark = home / "lib" / f"python3.{sys.version_info.minor}" / "os.py"
    return {f"usr/local/{landmark.relative_to(home)}": landmark.read_bytes()} | {name: path.read_bytes() for name, path in files.items()}


def _libraries(path: Path) -> list[Path]:
    """What the linker loads with a file, by the paths that it names."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    return [Path(name) for name in re.findall(r"(?:=> )?(/\S+) \(0x", said)]


def program(text: str | None = None) -> bytes:
    return HERE.read_bytes() if text is None else text.encode()


def own_layout(folder: Path, server: bytes, *layers: bytes, **config: Any) -> str:
    """Write a layout with Python, a server and further layers, and give the digest of its image's manifest."""
    layout = Layout(folder)
    python = layer_of(python_files(), packed=False)
    told = [python, layer_of({PROGRAM.lstrip("/"): server}, packed=True), *((data, None) for data in layers)]
    blobs = [layout.put(data, LAYER if index != 1 else f"{LAYER}+gzip") for index, (data, _) in enumerate(told)]
    diff_ids = [diff_id or blob.digest for (_, diff_id), blob in zip(told, blobs, strict=True)]
    settings = {"Entrypoint": [f"/usr/local/bin/{Path(sys.executable).resolve().name}", PROGRAM], "User": "65532:65532"}
    settings |= {"Env": ["PYTHONHOME=/usr/local", "GREETING=hello"], "WorkingDir": "/app"} | config
    document = {**this_platform().as_json(), "config": settings, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    made = layout.put_json(document, CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": made.as_json(), "layers": [blob.as_json() for blob in blobs]}
    found = layout.put_json(manifest, MANIFEST)
    layout.finish([found])
    return found.digest
