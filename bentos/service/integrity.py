"""Checks that the files on disk are the revision that was asked for, before anything of the model is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .cutting import by_content
from .errors import FilesDiffer

CHUNK = 1 << 20
MEDIA_TYPE = "application/vnd.convoy.revision.v1+json"
NAMED = 5


@dataclass(frozen=True, slots=True)
class File:
    """One measured file."""

    path: str
    mode: str
    size: int
    digest: str


def verify(root: Path, manifest_file: Path, revision: str) -> None:
    """Raise FilesDiffer unless the folder holds exactly the files of the manifest that `revision` names."""
    try:
        raw = manifest_file.read_bytes()
    except OSError as problem:
        raise FilesDiffer(f"the manifest {manifest_file} cannot be read ({problem.strerror})") from problem
    if _digest(raw) != revision:
        raise FilesDiffer(f"the manifest {manifest_file} has the digest {_digest(raw)}, not {revision}")
    wanted = _parse(raw)
    found = {file.path: file for file in measure(root)}
    differences = [f"{path} is missing" for path in sorted(wanted.keys() - found.keys())]
    belong = {folder for path in wanted for folder in PurePosixPath(path).parents}
    strange = [folder for folder in _folders(root) if folder not in belong]
    differences += [f"{path} does not belong" for path in sorted((*(found.keys() - wanted.keys()), *map(str, strange)))]
    for path in sorted(wanted.keys() & found.keys()):
        differences += _difference(wanted[path], found[path])
    if differences:
        more = f" and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
        raise FilesDiffer(f"{root} is not {revision}: {'; '.join(differences[:NAMED])}{more}")


def digest_of_folder(root: Path) -> str:
    """Return the revision's digest of a folder as it lies, bytecode left aside; the manifest's form is the registry's."""
    files = [
        {
            "path": file.path,
            "mode": file.mode,
            "size": file.size,
            "digest": file.digest,
            "parts": _parts(root / file.path, file.size),
        }
        for file in measure(root)
        if "__pycache__" not in Path(file.path).parts
    ]
    document = {"mediaType": MEDIA_TYPE, "files": files}
    return _digest(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def measure(root: Path) -> tuple[File, ...]:
    """Return every file below a folder, sorted by path; raises FilesDiffer for a link or a special file."""
    if not root.is_dir():
        raise FilesDiffer(f"{root} is not a folder")
    files = []
    for path in sorted(root.rglob("*"), key=lambda found: found.relative_to(root).as_posix()):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise FilesDiffer(f"{path.relative_to(root).as_posix()} is a link or a special file")
        if path.is_file():
            files.append(_measured(root, path))
    return tuple(files)


def _folders(root: Path) -> tuple[PurePosixPath, ...]:
    return tuple(PurePosixPath(path.relative_to(root).as_posix()) for path in root.rglob("*") if path.is_dir())


def _measured(root: Path, path: Path) -> File:
    whole, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            whole.update(chunk)
            size += len(chunk)
    return File(
        path=path.relative_to(root).as_posix(),
        mode="755" if path.stat().st_mode & 0o100 else "644",
        size=size,
        digest="sha256:" + whole.hexdigest(),
    )


def _parts(path: Path, size: int) -> list[dict[str, str | int]]:
    with path.open("rb") as file:
        return [{"digest": _digest(part), "size": len(part)} for part in by_content(file, size)]


def _difference(wanted: File, found: File) -> list[str]:
    if wanted.size != found.size:
        return [f"{found.path} has {found.size} bytes, not {wanted.size}"]
    if wanted.digest != found.digest:
        return [f"{found.path} has other bytes (digest {found.digest}, not {wanted.digest})"]
    if wanted.mode != found.mode:
        return [f"{found.path} has the mode {found.mode}, not {wanted.mode}"]
    return []


def _parse(raw: bytes) -> dict[str, File]:
    try:
        document = json.loads(raw)
        return {
            file["path"]: File(file["path"], file["mode"], file["size"], file["digest"])
            for file in document["files"]
            if document["mediaType"] == MEDIA_TYPE
        }
    except (ValueError, KeyError, TypeError) as problem:
        raise FilesDiffer(f"the manifest is not one of Convoy ({problem})") from problem


def _digest(raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(raw).hexdigest()
