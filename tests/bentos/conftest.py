"""Real models, saved by MLflow; their Bentos, built by BentoML; their services, started as processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bentos_serving import Service, digest_of, packaged, serving
from echo_model import save_echo


@pytest.fixture(scope="session")
def logistic_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scikit-learn pipeline that answers with probabilities, with an input example."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(7)
    rows = pd.DataFrame({"age": random.integers(16, 90, 400), "hours": random.normal(38, 9, 400), "children": random.integers(0, 5, 400)})
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows["hours"] + rows["age"] / 9 > 43)
    folder = tmp_path_factory.mktemp("logistic") / "model"
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        signature=infer_signature(rows, pipeline.predict_proba(rows)),
        input_example=rows.head(3),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn", "skops"],
    )
    return folder


@pytest.fixture(scope="session")
def echo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyfunc with a column of every type, one of them optional."""
    folder = tmp_path_factory.mktemp("echo") / "model"
    save_echo(folder)
    return folder


@pytest.fixture(scope="session")
def logistic_bento(logistic_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(logistic_model, "employment", tmp_path_factory.mktemp("logistic-bento") / "revision")


@pytest.fixture(scope="session")
def echo_bento(echo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packaged(echo_model, "echo", tmp_path_factory.mktemp("echo-bento") / "revision")


@pytest.fixture(scope="session")
def logistic(logistic_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(logistic_bento, tmp_path_factory.mktemp("logs") / "log", region="eu-west", revision=digest_of(logistic_bento)) as service:
        yield service


@pytest.fixture(scope="session")
def echo(echo_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"region": "eu-west", "revision": digest_of(echo_bento), "body_bytes": "20000", "slots": "8"}
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log", **settings) as service:
        yield service


@pytest.fixture
def copy_of_logistic(logistic_bento: Path, tmp_path: Path) -> Path:
    """A revision of one's own to damage."""
    root = tmp_path / "revision"
    shutil.copytree(logistic_bento, root)
    shutil.copyfile(logistic_bento.with_name("revision.manifest"), tmp_path / "revision.manifest")
    return root
