"""Ordinary models of scikit-learn, LightGBM and XGBoost, saved by MLflow exactly as it saves them without being told how."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy
import pandas

SEED = 7
# MLflow itself refuses to write skops files of these types until its caller names them; our policy does not ask the caller
NAMED_TO_MLFLOW = [
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
]


def rows() -> tuple[pandas.DataFrame, Any, Any]:
    """Return features with one of texts, three classes, and a number."""
    random = numpy.random.default_rng(SEED)
    frame = pandas.DataFrame(random.normal(size=(90, 4)), columns=list("abcd")).assign(e=random.choice(["x", "y"], 90))
    return frame, pandas.cut(frame["a"], 3, labels=False), frame["a"] * 2 + frame["b"]


def fitted() -> dict[str, Any]:
    """Return the models by name; `lightgbm` and `xgboost` begin the names of those libraries'."""
    import lightgbm
    import xgboost
    from threadpoolctl import threadpool_limits

    frame, classes, number = rows()
    numeric = frame[list("abcd")]
    boosters = {
        "lightgbm classifier": lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(numeric, classes),
        "lightgbm regressor": lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1).fit(numeric, number),
        "lightgbm booster": lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(numeric, label=number), 5),
        "xgboost classifier": xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(numeric, classes),
        "xgboost regressor": xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(numeric, number),
        "xgboost booster": xgboost.train({"nthread": 1}, xgboost.DMatrix(numeric, label=number), 5),
    }
    # One thread: several would wait for one another on a busy machine for longer than they compute
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return {**_sklearn(frame, classes, number), **boosters}


def _sklearn(frame: pandas.DataFrame, classes: Any, number: Any) -> dict[str, Any]:
    from sklearn import (
        calibration,
        cluster,
        compose,
        decomposition,
        ensemble,
        feature_extraction,
        gaussian_process,
        linear_model,
        model_selection,
        naive_bayes,
        neighbors,
        neural_network,
        pipeline,
        preprocessing,
        svm,
        tree,
    )

    numeric = frame[list("abcd")]
    columns = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(handle_unknown="ignore"), ["e"]), (preprocessing.StandardScaler(), list("abcd"))
    )
    logistic = linear_model.LogisticRegression()
    texts = ["good day", "bad day", "good night", "bad night"] * 5
    vectors = feature_extraction.text.TfidfVectorizer()
    classifiers = {
        "logistic regression": logistic,
        "random forest": ensemble.RandomForestClassifier(5),
        "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=3),
        "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=3),
        "decision tree": tree.DecisionTreeClassifier(),
        "support vectors": svm.SVC(),
        "neighbours": neighbors.KNeighborsClassifier(),
        "naive bayes": naive_bayes.GaussianNB(),
        "neural network": neural_network.MLPClassifier((5,), max_iter=10),
        "gradient descent": linear_model.SGDClassifier(),
        "calibrated": calibration.CalibratedClassifierCV(linear_model.LogisticRegression()),
        "voting": ensemble.VotingClassifier([("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier())]),
        "grid search": model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1.0]}, cv=3),
        "components": pipeline.make_pipeline(decomposition.PCA(2), linear_model.LogisticRegression()),
    }
    regressors = {
        "ridge": linear_model.Ridge(),
        "histogram regression": ensemble.HistGradientBoostingRegressor(max_iter=3),
        "gaussian process": gaussian_process.GaussianProcessRegressor(),
        "logarithms": pipeline.make_pipeline(preprocessing.FunctionTransformer(numpy.arctan), linear_model.LinearRegression()),
    }
    return {
        **{name: model.fit(numeric, classes) for name, model in classifiers.items()},
        **{name: model.fit(numeric, number) for name, model in regressors.items()},
        "columns": pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, classes),
        "texts": pipeline.make_pipeline(vectors, linear_model.LogisticRegression()).fit(texts, [1, 0] * 10),
        "clusters": cluster.KMeans(3).fit(numeric),
    }


def save(folder: Path) -> dict[str, Path]:
    """Save every model as MLflow does by default, and those of scikit-learn's kind as skops, pickle and cloudpickle as well."""
    import mlflow.lightgbm
    import mlflow.sklearn
    import mlflow.xgboost

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    saved: dict[str, Path] = {}
    for name, model in fitted().items():
        library, _, kind = name.partition(" ")
        flavour = {"lightgbm": mlflow.lightgbm, "xgboost": mlflow.xgboost}.get(library, mlflow.sklearn)
        path = folder / f"{name.replace(' ', '-')}"
        types = {"skops_trusted_types": NAMED_TO_MLFLOW} if flavour is mlflow.sklearn else {}
        flavour.save_model(model, path, pip_requirements=["numpy"], **types)
        saved[f"{name}, default"] = path
        for chosen in ("skops", "pickle", "cloudpickle") if kind != "booster" else ():
            again = path.with_name(f"{path.name}-{chosen}")
            given = {"serialization_format": chosen, "skops_trusted_types": NAMED_TO_MLFLOW if chosen == "skops" else None}
            mlflow.sklearn.save_model(model, again, pip_requirements=["numpy"], **given)
            saved[f"{name}, {chosen}"] = again
    return saved
