"""The files of a model version, read through MLflow's own artifact service."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from fleet.addresses import shown, unfit_path
from fleet.errors import NotSupported, OperationFailed, Refused
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

    Raises NotSupported for a URI that the MLflow server does not serve itself, OperationFailed when nothing is there, and
    Refused for a path, of the URI or of a file, that leaves its folder (CVE-2023-1177, CVE-2024-1560 of MLflow).
    """
    parts = urlsplit(uri)
    if parts.scheme != _SCHEME or parts.netloc:
        raise NotSupported(
            uri, "is not served by the MLflow server itself", "Start it with --artifacts-destination, then log the model again."
        )
    if parts.query or parts.fragment:
        raise Refused(shown(uri), "has a query or a fragment, which no artifact has", "Log the model again.")
    if not _download(rest, _plain(parts.path.strip("/")), to):
        raise OperationFailed(uri, "holds no files", "Log the model again.")


def _download(rest: Rest, folder: str, to: Path) -> int:
    count = 0
    for found in rest.get("/mlflow-artifacts/artifacts", _Listing, {"path": folder}).files:
        name = _plain(safe_path(found.path))
        here, there = f"{folder}/{name}", to / name
        if found.is_dir:
            there.mkdir()
            count += _download(rest, here, there)
        else:
            rest.download(f"/mlflow-artifacts/artifacts/{quote(here)}", there)
            count += 1
    return count


def _plain(path: str) -> str:
    """Return a path unchanged; raises Refused for one that leaves its folder once a server decodes it, or decodes it again."""
    if why := unfit_path(path):
        raise Refused(shown(path), why, "Log the model again.")
    return path
