"""The scan of a model's folder: each file by its content, each archive's members, and what the MLmodel file says of them."""

from __future__ import annotations

import importlib.util
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fleet.yaml_text import MOST_BYTES
from policies.files.contents import Content, look
from policies.files.mlmodel import describe
from policies.files.seen import Described, FileSeen, Kind, ScanReport, ScanRequest
from policies.files.texts import read_yaml

MLMODEL = "MLmodel"


def scan(request: ScanRequest) -> ScanReport:
    """Return what lies in the folder; nothing of it is loaded, nothing is written."""
    files: list[FileSeen] = []
    _ready(request.folder)
    for number, path in enumerate(_entries(request.folder)):
        if number >= request.bounds.files:
            files.append(FileSeen(".", Kind.UNKNOWN, 0, problems=(f"the model has more than {request.bounds.files} files",)))
            break
        began = time.perf_counter()
        seen = _entry(request, path)
        files.append(replace(seen, milliseconds=round((time.perf_counter() - began) * 1000, 3)))
    described = _described(request.folder / MLMODEL)
    modules = tuple(_modules(described.code, [each.path for each in files]))
    shadowing = [name for name in modules if _installed(name)]
    problems = [f"brings a module '{name}' that takes the place of an installed one" for name in shadowing]
    return ScanReport(tuple(files), replace(described, problems=(*described.problems, *problems)), modules)


def _ready(folder: Path) -> None:
    """Load the readers that a folder needs, so that what a file takes is not what its reader's libraries take."""
    import picklescan.scanner  # noqa: F401

    if any(path.suffix == ".skops" for path in _entries(folder)):
        import skops.io  # noqa: F401


def _entries(folder: Path) -> Iterator[Path]:
    """Give everything below a folder that is no folder itself, without following links."""
    for where, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        yield from (Path(where) / name for name in sorted(files))
        yield from (Path(where) / name for name in folders if (Path(where) / name).is_symlink())


def _entry(request: ScanRequest, path: Path) -> FileSeen:
    name = path.relative_to(request.folder).as_posix()
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return FileSeen(_printable(name), Kind.UNKNOWN, 0, "link", problems=("is a link, and what it leads to may change",))
    if not stat.S_ISREG(status.st_mode):
        return FileSeen(_printable(name), Kind.UNKNOWN, 0, "special file", problems=("is neither a file nor a folder",))
    if _printable(name) != name:
        return FileSeen(_printable(name), Kind.UNKNOWN, status.st_size, problems=("has a name with control characters",))
    if status.st_size > request.bounds.file_bytes:
        told = f"has {status.st_size} bytes, more than the {request.bounds.file_bytes} that are allowed"
        return FileSeen(name, Kind.UNKNOWN, status.st_size, problems=(told,))
    content = Content(name, status.st_size, request.bounds)
    try:
        with path.open("rb") as file:
            return look(file, content)
    except (OSError, MemoryError, RecursionError) as problem:
        return FileSeen(name, Kind.UNKNOWN, status.st_size, problems=(f"cannot be scanned ({type(problem).__name__})",))


def _printable(name: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)


def _described(file: Path) -> Described:
    if not file.is_file() or file.is_symlink():
        return Described(problems=("is not there",))
    with file.open("rb") as opened:
        document, problem = read_yaml(opened.read(MOST_BYTES + 1))
    return Described(problems=(problem,)) if problem else describe(document)


def _modules(code: tuple[str, ...], paths: list[str]) -> Iterator[str]:
    """Give the names under which the model's own code is imported: MLflow puts its folders before everything else."""
    inside = [path.removeprefix(f"{folder}/") for folder in code for path in paths if path.startswith(f"{folder}/")]
    names = [path.partition("/")[0] for path in inside if path.endswith(".py")]
    yield from sorted({name.removesuffix(".py") for name in names})


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return True
