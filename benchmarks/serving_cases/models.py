"""The models that are served: trained here, saved as MLflow models, and beside them as a hand-written application takes them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.form import ROOT
from bentos.optimise.convert import converted
from bentos.optimise.messages import ConvertRequest
from fleet.declared_optimise import Variant

NAME = "served"
TEXT = "The committee will decide on the new timetable for the regional trains before the end of the month."


@dataclass(frozen=True, slots=True)
class Served:
    """A model: `mlflow` is its MLflow folder, `plain` what an application loads, `rows` a Parquet file, `row` one of them."""

    kind: str
    says: str
    mlflow: Path
    plain: Path
    row: Any
    rows: Path
    variants: dict[str, Path] = field(default_factory=dict)
    request: bytes = b""

    def body(self, form: str) -> bytes:
        """Return a request for one row, in the form that a server takes; `request`, where it is given."""
        if self.request:
            return self.request
        text = isinstance(self.row, str)
        name = "text" if text else "input"
        tensor = {"name": name, "shape": [1] if text else [1, len(self.row)], "datatype": "BYTES" if text else "FP64"}
        tensor["data"] = [self.row] if text else self.row
        documents: dict[str, Any] = {
            "plain": {"features": self.row},
            "v2": {"inputs": [tensor]},
            "mlflow": {"dataframe_records": [{"text": self.row}]} if text else {"inputs": [self.row]},
        }
        return json.dumps(documents[form]).encode()


def logistic(folder: Path, quick: bool) -> Served:
    """Return a scaler and a logistic regression of thirty numbers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _sklearn(folder, "logistic", "logistic regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)))


def forest(folder: Path, quick: bool) -> Served:
    """Return a random forest of 500 trees (50 in the quick run)."""
    from sklearn.ensemble import RandomForestClassifier

    trees = 50 if quick else 500
    return _sklearn(folder, "forest", f"random forest of {trees} trees", RandomForestClassifier(trees, random_state=1))


def boosted(folder: Path, quick: bool) -> Served:
    """Return a LightGBM booster of 300 trees (30 in the quick run)."""
    import lightgbm
    import mlflow.lightgbm

    trees = 30 if quick else 300
    rows, labels = _cancer()
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(rows, labels), trees)
    found = _places(folder, "lightgbm", f"LightGBM of {trees} trees", rows)
    options = {"signature": _signature(rows, booster.predict(rows)), "pip_requirements": ["lightgbm", "scikit-learn"]}
    mlflow.lightgbm.save_model(booster, found.mlflow, input_example=rows[:1], **options)
    booster.save_model(found.plain / "model.txt")
    return found


def embedding(folder: Path, quick: bool) -> Served:
    """Return the second example, a sentence of eighteen words."""
    import register_embedding

    place = folder / "embedding"
    (place / "plain").mkdir(parents=True)
    register_embedding.save(place / "mlflow")
    shutil.copyfile(place / "mlflow/artifacts/model.onnx", place / "plain/model.onnx")
    shutil.copyfile(place / "mlflow/artifacts/tokenizer.json", place / "plain/tokenizer.json")
    return Served("embedding", "sentence embedding", place / "mlflow", place / "plain", TEXT, place / "none")


MODELS: dict[str, Callable[[Path, bool], Served]] = {
    "logistic": logistic,
    "lightgbm": boosted,
    "forest": forest,
    "embedding": embedding,
}


def demo(folder: Path) -> Served:
    """Return the demo's second version, logged as the demo logs it, from its own rows."""
    import mlflow.sklearn

    from control.demo.rows import FEATURES, Pair, census
    from control.demo.versions import slices, versions

    pair = Pair.parse("MAR=3,SEX=2")
    rows = slices(census(), pair, 7)["v2"]
    trained = versions(pair, False, 7)[1].train(rows)
    example = rows[list(FEATURES)].head(1)
    options = {"signature": mlflow.models.infer_signature(example, trained.predict_proba(example)), "input_example": example}
    requirements = ["mlflow", "pandas", "scikit-learn"]
    mlflow.sklearn.save_model(
        trained,
        folder,
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=requirements,
        **options,
    )
    types = {"int64": "INT64", "float64": "FP64"}
    tensors = [
        {"name": name, "datatype": types[str(example[name].dtype)], "shape": [1], "data": example[name].tolist()} for name in FEATURES
    ]
    request = json.dumps({"inputs": tensors}).encode()
    return Served("demo", "the demo's model", folder, folder, None, folder, request=request)


def variant(model: Served, folder: Path) -> Path | str:
    """Make a model's ONNX variant and return its folder, or why there is none."""
    found = converted(ConvertRequest(model.mlflow, model.rows, Variant.ONNX))
    if found.problem:
        return found.problem
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(base64.b64decode(found.graph))
    (folder / "variant.json").write_text(found.document, encoding="utf-8")
    return folder


def _sklearn(folder: Path, kind: str, says: str, estimator: Any) -> Served:
    import joblib
    import mlflow.sklearn

    rows, labels = _cancer()
    trained = estimator.fit(rows, labels)
    found = _places(folder, kind, says, rows)
    options = {"signature": _signature(rows, trained.predict_proba(rows)), "pip_requirements": ["scikit-learn"]}
    mlflow.sklearn.save_model(
        trained, found.mlflow, input_example=rows[:1], pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle", **options
    )
    joblib.dump(trained, found.plain / "model.joblib")
    return found


def _places(folder: Path, kind: str, says: str, rows: Any) -> Served:
    import pandas

    place = folder / kind
    (place / "plain").mkdir(parents=True)
    file = place / "rows.parquet"
    pandas.DataFrame({"input": rows[:50].tolist()}).to_parquet(file)
    return Served(kind, says, place / "mlflow", place / "plain", rows[0].tolist(), file)


def _signature(rows: Any, answers: Any) -> Any:
    from mlflow.models import infer_signature

    return infer_signature(rows, answers)


def _cancer() -> tuple[Any, Any]:
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


APPS = ROOT / "benchmarks" / "serving_cases" / "apps"
