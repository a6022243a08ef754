"""Where training rows came from: a file in a Git and DVC repository, named so that it can be fetched again and checked."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, BinaryIO

from fleet.addresses import Reach, shown, unfit_path
from fleet.canonical import CHUNK, digest_of_file
from fleet.errors import ConvoyError, InputError, IntegrityError, NotSupported, OperationFailed, Refused, UnknownName, Unreachable
from fleet.versions import DataLineage

PREFIX = "convoy.{rows}."
TRAINING = "data"
"""What the rows are called in tags that a version learned from; others are called what they are for."""
_REMOTE = "recorded"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./~^@{}-]{0,200}")
ANYWHERE_PUBLIC = Reach()


def record_tags(lineage: DataLineage, rows: str = TRAINING) -> dict[str, str]:
    """Return the MLflow tags that record a lineage, one per field; `rows` says of which rows, such as evaluation."""
    return {PREFIX.format(rows=rows) + name: value for name, value in asdict(lineage).items()}


def read_tags(tags: Mapping[str, str], rows: str = TRAINING) -> DataLineage | None:
    """Return the lineage that tags record, or None when they record none; raises InputError when one is missing."""
    prefix = PREFIX.format(rows=rows)
    names = [field.name for field in fields(DataLineage)]
    missing = [prefix + name for name in names if prefix + name not in tags]
    if len(missing) == len(names):
        return None
    if missing:
        raise InputError("data lineage", f"lacks the tags {', '.join(missing)}", "Record it as registry.lineage.record_tags writes it.")
    return DataLineage(**{name: tags[prefix + name] for name in names})


def commit_of(repository: str, revision: str) -> str | None:
    """Return a revision's full commit where that takes no clone: it is one, or the repository is on this disk; else None."""
    from scmrepo.exceptions import SCMError
    from scmrepo.git import Git

    if _COMMIT.fullmatch(revision):
        return revision
    if not Path(repository).is_dir():
        return None
    try:
        with closing(Git(repository)) as opened:
            return str(opened.resolve_rev(revision))
    except SCMError:
        return None


def describe(repository: str, commit: str, path: str, reach: Reach = ANYWHERE_PUBLIC) -> DataLineage:
    """Return the lineage of a DVC-tracked file at any Git revision, read once to take its SHA-256.

    `repository` is a Git URL or a path; the result has the full commit and, for a path, the absolute one. Raises
    UnknownName for a revision or file that is not there, InputError when DVC does not track the file or has no remote,
    and Refused where repository or remote lie where `reach` does not go, before anything is asked there.
    """
    from dvc.repo import Repo

    repository = str(Path(repository).absolute()) if Path(repository).exists() else repository
    subject = f"{path} at {commit} in {shown(repository)}"
    _check_names(repository, commit, path, reach)
    with _translated(subject), Repo.open(repository, rev=commit, uninitialized=True) as opened:
        _check_opened(opened, path, subject, reach)
        tracked = opened.dvcfs.info(path).get("dvc_info") or {}
        if not tracked.get("isout") or not tracked.get("md5"):
            raise InputError(subject, "is not tracked by DVC", f"Run `dvc add {path}`, push it and commit.")
        if tracked["type"] != "file":
            raise NotSupported(subject, "is a folder; lineage names one file")
        remote = _remote_url(opened.config, subject)
        full = opened.get_rev()
        with opened.dvcfs.open(path, "rb") as file:
            sha256 = _digest(file)
    return DataLineage(repository, full, path, remote, f"md5:{tracked['md5']}", sha256)


def fetch(lineage: DataLineage, to: Path, reach: Reach = ANYWHERE_PUBLIC) -> Path:
    """Write the recorded rows to a file and return it; a file that has them already is kept.

    They come from the recorded commit and remote. Raises IntegrityError when they are not what was recorded, and then
    leaves `to` as it was; Refused where they lie where `reach` does not go.
    """
    if to.is_file() and digest_of_file(to) == lineage.sha256:
        return to
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as aside:
        arrived = Path(aside) / "rows"
        found = _fetch(lineage, arrived, reach)
        if found != lineage.sha256:
            raise IntegrityError(
                f"{lineage.path} at {lineage.commit[:12]} in {shown(lineage.repository)}",
                f"hashes to {found}, and {lineage.sha256} was recorded",
                f"Look at the DVC remote {shown(lineage.remote)}: the rows were changed behind DVC's back.",
            )
        arrived.replace(to)
    return to


def _fetch(lineage: DataLineage, to: Path, reach: Reach) -> str:
    from dvc.repo import Repo

    # The remote's name may have come to mean another place since: the recorded URL counts.
    config = {"remote": {_REMOTE: {"url": lineage.remote}}, "core": {"remote": _REMOTE}}
    running = hashlib.sha256()
    subject = f"{lineage.path} at {lineage.commit} in {shown(lineage.repository)}"
    _check_names(lineage.repository, lineage.commit, lineage.path, reach)
    reach.check(lineage.remote, f"the DVC remote of {subject}")
    with (
        _translated(subject),
        Repo.open(lineage.repository, rev=lineage.commit, subrepos=True, uninitialized=True, config=config) as opened,
    ):
        _check_opened(opened, lineage.path, subject, reach)
        with opened.dvcfs.open(lineage.path, "rb") as rows, to.open("xb") as file:
            while chunk := rows.read(CHUNK):
                running.update(chunk)
                file.write(chunk)
    return "sha256:" + running.hexdigest()


def _check_names(repository: str, commit: str, path: str, reach: Reach) -> None:
    """Raise Refused for what Git or DVC would take for something else, or that lies where `reach` does not go."""
    if not _REVISION.fullmatch(commit):
        raise Refused("Git revision", f"{shown(commit)} is no name of a commit, branch or tag", "Correct it.")
    if why := ("is not below its repository" if path.startswith(("/", "-", "\\")) else unfit_path(path)):
        raise Refused("DVC-tracked file", f"{shown(path)} {why}", "Name it by its path in the repository.")
    reach.check(repository, "Git repository")


def _check_opened(opened: Any, path: str, subject: str, reach: Reach) -> None:
    """Raise Refused where a repository has DVC fetch from elsewhere: each remote may be named by a tracked file."""
    for name, remote in opened.config["remote"].items():
        for key in ("url", "endpointurl"):
            if place := remote.get(key):
                reach.check(str(place), f"the DVC remote '{name}' of {subject}")
    for out in opened.index.outs:
        if out.stage.is_import and path in (out.def_path, opened.dvcfs.from_os_path(str(out.fs_path))):
            raise NotSupported(subject, "was imported by DVC from another place", "Name the repository that it comes from.")


def _digest(file: BinaryIO) -> str:
    running = hashlib.sha256()
    while chunk := file.read(CHUNK):
        running.update(chunk)
    return "sha256:" + running.hexdigest()


def _remote_url(config: Mapping[str, Mapping[str, Mapping[str, str]]], subject: str) -> str:
    name = str(config["core"].get("remote", ""))
    if name not in config["remote"]:
        raise InputError(subject, "has no default DVC remote, so nobody else could fetch it", "Run `dvc remote add --default`, then push.")
    return config["remote"][name]["url"]


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    from dvc.exceptions import DvcException

    try:
        yield
    except (DvcException, OSError) as problem:
        raise _in_our_terms(problem, subject) from problem


def _in_our_terms(problem: Exception, subject: str) -> ConvoyError:
    from dvc.exceptions import FileMissingError, NotDvcRepoError, PathMissingError
    from dvc.scm import CloneError, RevError, SCMError

    match problem:
        case CloneError():
            return Unreachable(subject, "the repository could not be cloned", "Check its URL or path.")
        case RevError():
            return UnknownName(subject, "there is no such Git revision", "Commit it, or correct the revision.")
        case NotDvcRepoError() | SCMError():
            return InputError(subject, f"is not in a Git and DVC repository ({problem})", "Check the repository's URL or path.")
        case PathMissingError() | FileMissingError() | FileNotFoundError():
            return UnknownName(subject, "there is no such file, or the DVC remote does not have it", "Run `dvc push` in its repository.")
        case _:
            return OperationFailed(subject, f"could not be read ({type(problem).__name__}: {problem})", "Look at the DVC remote.")
