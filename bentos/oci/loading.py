"""Handing an image to what runs containers on this machine: Podman, Buildah or Docker, whichever is there and well."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from bentos.oci.kinds import Descriptor
from bentos.oci.layout import Layout
from fleet.canonical import canonical_json
from fleet.errors import NotSupported, OperationFailed
from fleet.settings import inherited_environment

LOAD_SECONDS = 1800
ASK_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Loading:
    """Which image of a layout is loaded: its name in the layout, this platform's manifest, and what it is called afterwards."""

    layout: Path
    name: str
    manifest: bytes
    reference: str


def load(wanted: Loading) -> str:
    """Load an image and return the name of the tool that took it.

    Raises NotSupported where no tool is there and well, with what each said; OperationFailed when the one that is fails.
    """
    said = []
    for tool, act in TOOLS.items():
        if shutil.which(tool) is None:
            said.append(f"{tool} is not installed")
        elif why := _unwell(tool):
            said.append(f"{tool}: {why}")
        else:
            act(wanted)
            return tool
    raise NotSupported("loading the image", "; ".join(said), f"The layout can be copied from {wanted.layout} by any OCI tool.")


def _pull(tool: str, wanted: Loading) -> None:
    pulled = _run(tool, "pull", "--quiet", f"oci:{wanted.layout.absolute()}:{wanted.name}").split()[-1]
    _run(tool, "tag", pulled, wanted.reference)


def _with_podman(wanted: Loading) -> None:
    _pull("podman", wanted)


def _with_buildah(wanted: Loading) -> None:
    _pull("buildah", wanted)


def _with_docker(wanted: Loading) -> None:
    """Stream the image to Docker as its own archive, which every version of it reads."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(["docker", "load"], stdin=subprocess.PIPE, stdout=said, stderr=said, env=inherited_environment())
        problem: Exception | None = None
        try:
            if process.stdin is not None:
                with process.stdin:
                    write_archive(wanted, process.stdin)
            process.wait(LOAD_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired) as found:
            process.kill()
            process.wait()
            problem = found
        if problem is not None or process.returncode:
            said.seek(0)
            told = " ".join(said.read().decode("utf-8", "replace").split())[-1000:]
            raise OperationFailed("docker load", told or str(problem), "Look at Docker's log.") from problem


TOOLS: Mapping[str, Callable[[Loading], None]] = {"podman": _with_podman, "buildah": _with_buildah, "docker": _with_docker}
"""Which are asked, in this order; each takes an image as it is."""


def write_archive(wanted: Loading, to: IO[bytes]) -> None:
    """Write one platform's image as Docker's archive (`docker save`): its blobs, and a manifest that names them."""
    layout = Layout(wanted.layout)
    manifest = json.loads(wanted.manifest)
    config, *layers = (Descriptor.of_json(found, str(wanted.layout)) for found in (manifest["config"], *manifest["layers"]))
    names = [f"blobs/sha256/{found.digest.removeprefix('sha256:')}" for found in (config, *layers)]
    listed = canonical_json([{"Config": names[0], "RepoTags": [wanted.reference], "Layers": names[1:]}])
    with tarfile.open(fileobj=to, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, found in zip(names, (config, *layers), strict=True):
            info = tarfile.TarInfo(name)
            info.size = found.size
            with layout.open(found) as file:
                tar.addfile(info, file)
        info = tarfile.TarInfo("manifest.json")
        info.size = len(listed)
        tar.addfile(info, BytesIO(listed))


def _unwell(tool: str) -> str:
    """Return why a tool cannot be asked, nothing when it can."""
    try:
        done = subprocess.run(
            [tool, "info"],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
            env=inherited_environment(),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())[-300:]


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS,
            check=False,
            env=inherited_environment(),
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as problem:
        raise OperationFailed(" ".join(command[:2]), f"did not end within {LOAD_SECONDS} s", "Look at its log.") from problem
    if done.returncode:
        raise OperationFailed(" ".join(command[:2]), " ".join(done.stderr.split())[-1000:], "Look at its log.")
    return done.stdout
