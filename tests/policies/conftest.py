"""Real models, real rows and a real suite for the gates."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from policies_world import declared

from fleet.declared_region import Region
from policies.candidate import Candidate

HOSTILE = """
import os, sys
import mlflow.pyfunc
from mlflow.models import set_model

class Hostile(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
{body}
        return [float(value > 50) for value in model_input["age"]]

set_model(Hostile())
"""


@pytest.fixture(scope="session")
def rows() -> pandas.DataFrame:
    """People whose employment depends on age alone; hours is noise."""
    random = numpy.random.default_rng(7)
    age = random.integers(18, 80, 400).astype(float)
    hours = random.integers(0, 60, 400)
    employed = (age + random.normal(0, 5, 400) > 50).astype(int)
    return pandas.DataFrame({"age": age, "hours": hours, "employed": employed})


def _signature(frame: pandas.DataFrame, output: Any) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(frame, output)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, rows: pandas.DataFrame) -> dict[str, Path]:
    """A good classifier with probabilities, the same giving classes, a bad one, and one without a signature."""
    import mlflow.sklearn
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("models")
    frame = rows[["age", "hours"]]
    good = LogisticRegression(max_iter=1000).fit(frame, rows["employed"])
    bad = LogisticRegression(max_iter=1000).fit(frame.assign(age=0.0), rows["employed"])
    signature = _signature(frame, good.predict_proba(frame))
    given = {"signature": signature, "pip_requirements": []}
    mlflow.sklearn.save_model(good, folder / "good", pyfunc_predict_fn="predict_proba", **given)
    mlflow.sklearn.save_model(bad, folder / "bad", pyfunc_predict_fn="predict_proba", **given)
    mlflow.sklearn.save_model(good, folder / "classes", signature=_signature(frame, good.predict(frame)), pip_requirements=[])
    mlflow.sklearn.save_model(good, folder / "unsigned", pip_requirements=[])
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def hostile(tmp_path: Path, rows: pandas.DataFrame) -> Callable[[str], Path]:
    """Make a model whose predict() does what the given lines say before it answers well."""

    def make(body: str) -> Path:
        import mlflow.pyfunc

        code = tmp_path / "hostile_model.py"
        code.write_text(HOSTILE.format(body="\n".join(" " * 8 + line for line in body.strip().splitlines())))
        signature = _signature(rows[["age", "hours"]], numpy.array([0.0, 1.0]))
        mlflow.pyfunc.save_model(tmp_path / "hostile", python_model=str(code), signature=signature, pip_requirements=[])
        return tmp_path / "hostile"

    return make


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite file; without arguments, one that the rows meet."""

    def make(*expectations: dict[str, Any], **more: Any) -> Path:
        path = tmp_path / "contract.json"
        met = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "age", "min_value": 16, "max_value": 99}}
        path.write_text(json.dumps({"name": "people", "expectations": expectations or [met], **more}))
        return path

    return make


@pytest.fixture
def candidate(tmp_path: Path, rows: pandas.DataFrame, models: dict[str, Path]) -> Candidate:
    """A good candidate without champion or contract, evaluated by roc_auc."""
    training, evaluation = tmp_path / "training.parquet", tmp_path / "evaluation.parquet"
    rows[:200].to_parquet(training)
    rows[200:].to_parquet(evaluation)
    return Candidate(
        model="employment",
        declared=declared(),
        folder=models["good"],
        champion=None,
        training=training,
        evaluation=evaluation,
        contract=None,
        work=tmp_path / "work",
        seconds=60,
        version="3",
        actor="release-team",
        regions={"here": Region(target="local", provider="aws", place="Dublin", jurisdiction="IE")},
    )


@pytest.fixture
def evaluated_by(candidate: Candidate) -> Callable[..., Candidate]:
    """Return the candidate with another evaluation."""
    return lambda **evaluation: replace(candidate, declared=declared(**evaluation))
