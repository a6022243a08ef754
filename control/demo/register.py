"""Data into Git and DVC, models into MLflow: what a data scientist does before Convoy hears of a version."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.demo.rows import FEATURES, LABEL
from control.demo.versions import HOLDOUT, Version, shipped_file
from fleet.errors import OperationFailed
from fleet.settings import inherited_environment
from registry.lineage import describe, record_tags

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("-c", "user.name=Convoy demo", "-c", "user.email=demo@convoy.invalid", "-c", "commit.gpgsign=false")
REQUIREMENTS = ("mlflow", "scikit-learn", "pandas", "numpy", "cloudpickle")


@dataclass(frozen=True, slots=True)
class DataRepository:
    """A Git repository whose data DVC tracks, with its remote beside it."""

    folder: Path
    remote: Path

    def commit(self, frames: dict[str, pd.DataFrame]) -> str:
        """Write the frames as Parquet, track and push them; returns the commit."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self.remote.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ".git").exists():
            self._run("git", "init", "--quiet", "--initial-branch=main")
            self._dvc("init", "--quiet")
            self._dvc("remote", "add", "--quiet", "--default", "store", str(self.remote))
        files = []
        for name, frame in frames.items():
            frame.to_parquet(self.folder / data_path(name), index=False)
            files.append(data_path(name))
        self._dvc("add", "--quiet", *files)
        self._run("git", "add", "--all")
        self._run("git", *IDENTITY, "commit", "--quiet", "--message", "Census rows of the demo")
        self._dvc("push", "--quiet")
        return self._run("git", "rev-parse", "HEAD").strip()

    def _dvc(self, *arguments: str) -> str:
        return self._run(sys.executable, "-m", "dvc", *arguments)

    def _run(self, *command: str) -> str:
        environment = inherited_environment() | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OperationFailed(" ".join(command[:4]), f"failed in {self.folder}: {done.stderr.strip()[-500:]}", "Is git installed?")
        return done.stdout


def data_path(name: str) -> str:
    """Return where a frame lies in the repository."""
    return f"data/{name}.parquet"


@dataclass(frozen=True, slots=True)
class Registrar:
    """Registers versions of one model in one MLflow server, with the lineage of their data."""

    mlflow_url: str
    model: str
    repository: DataRepository
    commit: str

    def register(self, version: Version, rows: pd.DataFrame, holdout: pd.DataFrame) -> str:
        """Train a version, log it with schema, example and metrics, tag its data's lineage; returns MLflow's number."""
        with quiet():
            return self._register(version, rows, holdout)

    def _register(self, version: Version, rows: pd.DataFrame, holdout: pd.DataFrame) -> str:
        import mlflow
        from mlflow import MlflowClient
        from sklearn.metrics import roc_auc_score

        mlflow.set_tracking_uri(self.mlflow_url)
        mlflow.set_experiment(self.model)
        trained = version.train(rows)
        probabilities = _probabilities(trained, holdout[list(FEATURES)])
        with mlflow.start_run(run_name=f"{self.model} v{version.number}: {version.says}"):
            mlflow.log_metric("holdout_roc_auc", float(roc_auc_score(holdout[LABEL], probabilities[:, 1])))
            mlflow.log_param("rows", len(rows))
            info = self._log(trained, rows, probabilities)
        number = str(info.registered_model_version)
        client = MlflowClient(self.mlflow_url)
        lineage = describe(str(self.repository.folder), self.commit, data_path(f"v{version.number}"))
        for key, value in record_tags(lineage).items():
            client.set_model_version_tag(self.model, number, key, value)
        return number

    def _log(self, trained: Any, rows: pd.DataFrame, probabilities: Any) -> Any:
        import mlflow

        example = rows[list(FEATURES)].head(1)
        shared = {
            "name": self.model,
            "registered_model_name": self.model,
            "signature": mlflow.models.infer_signature(example, probabilities[:1]),
            "input_example": example,
            "pip_requirements": [f"{name}=={installed(name)}" for name in REQUIREMENTS],
        }
        if isinstance(trained, mlflow.pyfunc.PythonModel):
            return mlflow.pyfunc.log_model(python_model=trained, code_paths=[str(shipped_file())], **shared)
        return mlflow.sklearn.log_model(trained, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle", **shared)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's chatter off the terminal: it prints to stdout, which belongs to our JSON."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def promote(mlflow_url: str, model: str, version: str) -> None:
    """Set the alias `candidate` with the plain MLflow client: all that a person does to start a release."""
    from mlflow import MlflowClient

    MlflowClient(mlflow_url).set_registered_model_alias(model, "candidate", version)


def _probabilities(trained: Any, rows: pd.DataFrame) -> Any:
    return trained.predict_proba(rows) if hasattr(trained, "predict_proba") else trained.predict(None, rows)


__all__ = ["HOLDOUT", "DataRepository", "Registrar", "data_path", "promote"]
