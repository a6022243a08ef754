"""A model version as the registry knows it, a revision as everybody else does."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model; `tags` are MLflow's, `run_id` the run that logged it."""

    model: str
    version: str
    source: str
    run_id: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """What is served: a model version packaged, named by the digest of its manifest."""

    model: str
    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class DataLineage:
    """Where training rows came from, enough to fetch them again.

    `repository` is a Git URL or path, `commit` its revision, `path` the DVC-tracked file, `remote` the DVC remote's
    URL, `dvc_hash` DVC's own hash (`md5:<hex>`), `sha256` ours (`sha256:<hex>`).
    """

    repository: str
    commit: str
    path: str
    remote: str
    dvc_hash: str
    sha256: str
