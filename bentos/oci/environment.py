"""The environment of an image: the locked packages for one architecture, found by uv or given as a folder, then normalised.

What uv writes of the machine it runs on is left out: programs (they name this machine's Python), locks, notes of builds
and bytecode. So the same lock gives the same files.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from bentos.oci.kinds import Platform, elf_architecture
from fleet.errors import InputError, NotSupported, OperationFailed
from fleet.pins import of_text
from fleet.settings import installer_environment

INSTALL_SECONDS = 3600
WHEELS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
"""What uv calls the platforms; from Debian 10, Ubuntu 18.10 and RHEL 8 on."""
LEFT_OUT = frozenset({"uv_build.json", "uv_cache.json", "direct_url.json", "REQUESTED", "INSTALLER"})
MOST_TOLD = 5


def environment_of(requirements: Path, platform: Platform, given: Path | None, to: Path) -> Path:
    """Return the folder of the packages that a Bento's requirements name, for one platform.

    Without a folder that is `given`, uv installs them into `to`, each file held against its hash. Raises InputError for
    requirements without hashes and for a folder that has other packages; NotSupported where no wheels for the platform are
    at hand.
    """
    if given is None:
        _install(requirements, platform, to)
    else:
        if not given.is_dir():
            raise InputError(f"environment {given}", "is no folder", "Give one as `uv pip install --target` makes it.")
        shutil.copytree(given, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    _normalise(to)
    _check_packages(to, requirements, platform)
    _check_architecture(to, platform)
    return to


def python_version() -> str:
    """Return the version of Python that environments are made for, such as 3.11: what runs here, and ran the gates."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _install(requirements: Path, platform: Platform, to: Path) -> None:
    text = requirements.read_text(encoding="utf-8")
    if "--hash=" not in text:
        raise InputError(
            "the Bento's requirements",
            "carry no hashes, so that nobody could say what is installed",
            "Pin all of it in a lock (gates.dependencies.lock), or give --environment.",
        )
    command = [sys.executable, "-m", "uv", "pip", "install", "--target", str(to), "--no-deps", "--require-hashes", "--link-mode", "copy"]
    command += ["--python", sys.executable, "--python-version", python_version(), "--python-platform", WHEELS[platform.architecture]]
    for name in sorted(of_text(text, str(requirements))):
        if not _is_pure(name):
            command += ["--only-binary", name]
    try:
        done = subprocess.run(
            [*command, "-r", str(requirements)],
            capture_output=True,
            text=True,
            env=installer_environment(),
            timeout=INSTALL_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as problem:
        raise OperationFailed("uv pip install", f"did not end within {INSTALL_SECONDS} s", "Give --environment.") from problem
    if done.returncode:
        told = " ".join(done.stderr.split())[-1500:]
        raise NotSupported(
            f"the environment of {platform}",
            f"could not be put together from wheels that are at hand here: {told}",
            f"Make the wheels reachable for uv, or give the folder: --environment {platform.architecture}=FOLDER.",
        )


def _is_pure(name: str) -> bool:
    """Say whether a package is of Python alone, as installed here: then it may also come as source, whatever the machine."""
    try:
        told = metadata.distribution(name).read_text("WHEEL") or ""
    except metadata.PackageNotFoundError:
        return False
    return re.search(r"^Tag: \S+-none-any$", told, re.MULTILINE) is not None


def _normalise(folder: Path) -> None:
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
    for cache in [path for path in folder.rglob("__pycache__") if path.is_dir()]:
        shutil.rmtree(cache)
    for wheel in folder.glob("*.dist-info/WHEEL"):
        # Who packed it, where it was built here from source: another setuptools writes another line
        wheel.write_text(re.sub(r"^Generator: .*\n", "", wheel.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    for record in folder.glob("*.dist-info/RECORD"):
        for name in LEFT_OUT:
            (record.parent / name).unlink(missing_ok=True)
        rows = sorted(_row(row) for row in csv.reader(io.StringIO(record.read_text(encoding="utf-8"))) if row and _stays(row[0]))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        record.write_text(text.getvalue(), encoding="utf-8")


def _row(row: list[str]) -> list[str]:
    """Return a line of a RECORD; of the file that was changed neither digest nor size, which it need not have."""
    return [row[0], "", ""] if row[0].endswith(".dist-info/WHEEL") else row


def _stays(path: str) -> bool:
    parts = path.split("/")
    return not (parts[0] == "bin" or ".." in parts or "__pycache__" in parts or parts[-1] in LEFT_OUT)


def _check_packages(folder: Path, requirements: Path, platform: Platform) -> None:
    """Raise InputError unless the folder has every package of the requirements in its version."""
    had = dict(_installed(folder))
    wanted = dict(_wanted(requirements.read_text(encoding="utf-8")))
    wrong = [f"{name}=={version} ({had.get(name) or 'absent'})" for name, version in sorted(wanted.items()) if had.get(name) != version]
    if wrong:
        more = f" and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise InputError(
            f"environment for {platform}",
            f"is not what the Bento needs: {', '.join(wrong[:MOST_TOLD])}{more}",
            "Install the Bento's requirements into it: `uv pip install --target FOLDER --no-deps -r env/python/requirements.txt`.",
        )


def _installed(folder: Path) -> Iterator[tuple[str, str]]:
    for found in metadata.distributions(path=[str(folder)]):
        yield str(canonicalize_name(found.metadata["Name"])), found.version


def _wanted(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, version = line.split(" ")[0].partition("==")
        if version and not line.startswith((" ", "#")):
            yield str(canonicalize_name(name)), version


def _check_architecture(folder: Path, platform: Platform) -> None:
    """Raise InputError for compiled files of another machine."""
    wrong = []
    for path in _libraries(folder):
        with path.open("rb") as file:
            found = elf_architecture(file.read(20))
        if found not in (None, platform.architecture):
            wrong.append(f"{path.relative_to(folder).as_posix()} is of {found}")
    if wrong:
        raise InputError(f"environment for {platform}", "; ".join(wrong[:MOST_TOLD]), "Install the packages for that architecture.")


def _libraries(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here) / name for name in sorted(names) if ".so" in name)
