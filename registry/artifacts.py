"""The files of a model version, read through MLflow's own artifact service."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from fleet.errors import NotSupported, OperationFailed
from fleet.manifest import safe_path
from registry.rest import Answer, Rest

_SCHEME = "mlflow-artifacts"


class _File(Answer):
    path: str
    is_dir: bool = False


class _Listing(Answer):
    files: tuple[_File, ...] = ()


def download_folder(rest: Rest, uri: str, to: Path) -> None:
    """Download every file below an artifact URI into an existing folder.

    Raises NotSupported for a URI that the MLflow server does not serve itself, OperationFailed when nothing is there.
    """
    parts = urlsplit(uri)
    if parts.scheme != _SCHEME or parts.netloc:
        raise NotSupported(
            uri, "is not served by the MLflow server itself", "Start it with --artifacts-destination, then log the model again."
        )
    if not _download(rest, parts.path.strip("/"), to):
        raise OperationFailed(uri, "holds no files", "Log the model again.")


def _download(rest: Rest, folder: str, to: Path) -> int:
    count = 0
    for found in rest.get("/mlflow-artifacts/artifacts", _Listing, {"path": folder}).files:
        name = safe_path(found.path)
        here, there = f"{folder}/{name}", to / name
        if found.is_dir:
            there.mkdir()
            count += _download(rest, here, there)
        else:
            rest.download(f"/mlflow-artifacts/artifacts/{quote(here)}", there)
            count += 1
    return count
