"""A Git and DVC repository of rows, as a data scientist has one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd

from fleet.settings import inherited_environment


def pinned_rows(folder: Path, file: str, rows: pd.DataFrame) -> Path:
    """Return a new repository in which DVC tracks one Parquet file, pushed to a remote beside it and committed."""
    from dvc.repo import Repo

    root = folder / "rows"
    (root / file).parent.mkdir(parents=True)
    _git(root, "init", "-q", "-b", "main")
    with Repo.init(str(root)) as made, made.config.edit() as config:
        config["remote"]["store"] = {"url": str(folder / "remote")}
        config["core"] |= {"remote": "store", "analytics": False}
    rows.to_parquet(root / file, index=False)
    with Repo(str(root)) as opened:
        opened.add([str(root / file)])
        opened.push()
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", "rows")
    return root


def _git(repository: Path, *arguments: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=Tests", "-c", "user.email=tests@example.org", *arguments]
    subprocess.run(command, cwd=repository, env=inherited_environment() | identity, check=True, capture_output=True)
