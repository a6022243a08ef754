"""Takes out of a built Bento what came from the clock, the machine or chance."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.errors import OperationFailed

CREATION_TIME = "creation_time: '1970-01-01T00:00:00+00:00'"
REMEDY = "BentoML has changed what it writes: teach bentos/normal.py the new form."


def normalise(bento: Path, scratch: Path) -> None:
    """Give a Bento the same bytes and modes whenever and wherever it was built.

    Raises OperationFailed when the Bento has no creation time to replace, or names the scratch folder it was built in.
    """
    label = bento / "bento.yaml"
    text, replaced = re.subn(r"^creation_time: .*$", CREATION_TIME, label.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if replaced != 1:
        raise OperationFailed("bento.yaml", f"has {replaced} lines with a creation time, not one", REMEDY)
    label.write_text(text, encoding="utf-8")
    for path in sorted(bento.rglob("*"), reverse=True):
        if path.is_dir():
            _plain_folder(path)
        else:
            path.chmod(0o644)
            _names_no_scratch(bento, path, scratch)


def drop_unhashed(bento: Path) -> None:
    """Drop the line that BentoML adds for itself, without a hash: the locked ones have it, and pip takes all hashes or none.

    Raises OperationFailed where a Bento has no requirements to look at.
    """
    for file in (bento / "env" / "python" / name for name in ("requirements.in", "requirements.txt")):
        if not file.is_file():
            raise OperationFailed(file.name, "is not in the Bento", REMEDY)
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not re.fullmatch(r"bentoml==\S+\n?", line)), encoding="utf-8")


def _plain_folder(folder: Path) -> None:
    """Remove an empty folder, which no manifest can name; open the others."""
    if any(folder.iterdir()):
        folder.chmod(0o755)
    else:
        folder.rmdir()


def _names_no_scratch(bento: Path, path: Path, scratch: Path) -> None:
    relative = path.relative_to(bento)
    if relative.parts[:2] != ("src", "model") and str(scratch).encode() in path.read_bytes():
        raise OperationFailed(relative.as_posix(), "names the folder in which it was built", REMEDY)
