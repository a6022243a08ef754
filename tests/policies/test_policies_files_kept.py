"""What stays in what a file loads: allowed names and objects only where nothing calls them but what is meant to."""

from __future__ import annotations

import importlib
import io
import pickle
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import hostile_files
import hostile_instances
import numpy
import ordinary_models
import pytest
from hostile_instances import LOGISTIC, Name, Object
from policies_world import declared
from ruamel.yaml import YAML

from fleet.declared_gates import Gates
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.files import allowlist as lists
from policies.files.contents import Content, look
from policies.files.gate import ModelFiles, Scanned
from policies.files.kept import places
from policies.files.machine import walk
from policies.files.seen import Bounds, Described, ScanReport, Use

BOUNDS = Bounds(64 << 20, 1000, 100)
PICKLES, TREES = hostile_instances.pickles(), hostile_instances.trees()


def judged(data: bytes, name: str = "model.pkl", **files: object) -> GateResult:
    model = declared().model_copy(update={"gates": Gates.model_validate({"files": files})})
    seen = look(io.BytesIO(data), Content(name, len(data), BOUNDS))
    return ModelFiles().judge(model, Scanned(ScanReport((seen,), Described())))


def pickled(value: Any) -> bytes:
    return b"\x80\x04" + hostile_instances.piece(value) + b"."


def as_skops(tree: dict[str, object]) -> bytes:
    return hostile_files.zipped({"schema.json": hostile_files.schema(tree)})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("load", "adds items to something that is no list"),
        ("load", "keeps pandas.core.frame.DataFrame in sklearn.preprocessing._function_transformer.FunctionTransformer.func"),
        ("load", "_Scorer._response_method 'transform'"),
        ("write", "_Scorer._response_method 'save_model'"),
        ("add", "adds items to something that is no set"),
        ("append of a function", "keeps numpy.log1p in sklearn.linear_model._logistic.LogisticRegression.append"),
        ("set state", "the attribute __setstate__, which Python itself acts on"),
        ("set state of Bunch", "an object of sklearn.metrics._scorer._Scorer in sklearn.gaussian_process.kernels.CompoundKernel.kernels"),
        ("keys of an argument", "CompoundKernel in sklearn.linear_model._logistic.LogisticRegression.keys"),
        ("factory", "calls collections.defaultdict with an object of sklearn.gaussian_process.kernels.CompoundKernel among the arguments"),
        ("factory of an alias", "calls collections.defaultdict with an object of types.GenericAlias among the arguments"),
        ("constructor", "calls numpy.random._pickle.__generator_ctor with an object of"),
        ("constructor in a list", "calls collections.Counter with xgboost.core.Booster among the arguments"),
        ("address of an array", "the attribute __array_interface__"),
        ("class of an object", "a state that is no dict of attributes"),
        ("written twice", "writes attributes twice"),
        ("alias written", "gives types.GenericAlias a state"),
        ("name of another kind", "an attribute whose name is no plain text"),
        ("a distribution", "_parse_arg_template, which is run as code while it is loaded"),
        ("a lookup in kw_args", "keeps cloudpickle.cloudpickle._builtin_type"),
        ("a Bunch as step", "_builtin_type in sklearn.pipeline.Pipeline.steps"),
        ("a table as step", "an object of pandas.core.frame.DataFrame in sklearn.pipeline.Pipeline.steps"),
        ("a sum that gives a text", "keeps numpy.sum in"),
        ("a method by name in disguise", "stack_method_ no plain text"),
        ("files by request", "CountVectorizer.input 'filename'"),
        ("an array", "rebuilds objects from bytes"),
        ("a field", "rebuilds objects from bytes"),
        ("a scalar", "rebuilds objects from bytes"),
        ("a buffer", "rebuilds objects from bytes"),
    ],
)
def test_an_attack_by_allowed_types_alone_is_refused_for_its_own_reason(name: str, reason: str) -> None:
    result = judged(PICKLES[name])
    assert result.outcome is GateOutcome.FAILED
    assert any(reason in found for found in result.reasons), result.reasons


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("exec", "keeps cloudpickle.cloudpickle._builtin_type in"),
        ("write", "'save_model'"),
        ("key type", "makes a dict's keys by something else than a plain type"),
        ("key by kernel", "makes a dict's keys by something else than a plain type"),
        ("factory", "makes a defaultdict's factory by something else"),
        ("one id for two", "two nodes of one __id__ that differ"),
        ("one id for two functions", "two nodes of one __id__ that differ"),
        ("dunder", "__array_interface__"),
        ("predict", "LogisticRegression.predict"),
    ],
)
def test_the_same_through_skops(name: str, reason: str) -> None:
    result = judged(as_skops(TREES[name]), "model.skops")
    assert any(reason in found for found in result.reasons), result.reasons


def test_a_whole_folder_whose_skops_file_would_run_a_command_when_asked_is_refused(tmp_path: Path) -> None:
    """As MLflow would have logged it: the types that it asks to trust are those that its file has."""
    folder = tmp_path / "model"
    folder.mkdir()
    data = as_skops(TREES["exec"])
    (folder / "model.skops").write_bytes(data)
    seen = look(io.BytesIO(data), Content("model.skops", len(data), BOUNDS))
    sklearn = {"pickled_model": "model.skops", "serialization_format": "skops", "code": None}
    sklearn["skops_trusted_types"] = sorted({each.dotted for each in seen.imports})
    function = {"loader_module": "mlflow.sklearn", "model_path": "model.skops", "predict_fn": "predict"}
    with (folder / "MLmodel").open("w") as file:
        YAML().dump({"flavors": {"python_function": function, "sklearn": sklearn}}, file)
    found = ModelFiles().gather(Candidate("employment", declared(), folder, None, None, None, None, tmp_path / "work", 60))
    assert found.report is not None, found.failure
    result = ModelFiles().judge(declared(), found)
    assert result.outcome is GateOutcome.FAILED
    assert any("lists cloudpickle.cloudpickle._builtin_type among its skops_trusted_types" in reason for reason in result.reasons)
    assert any("FunctionTransformer.func" in reason for reason in result.reasons)


def functions() -> list[str]:
    return sorted(path for path, at in places().names.items() if any(place.endswith("FunctionTransformer.func") for place in at))


@pytest.mark.parametrize("path", functions())
def test_a_transformer_keeps_every_listed_function_of_an_arrays_elements(path: str) -> None:
    module, _, name = path.partition(":")
    transformer = hostile_instances.pipeline(hostile_instances.step(Name((module, name))))
    for result in (judged(pickled(transformer)), judged(as_skops(hostile_instances.tree(transformer)), "model.skops")):
        assert result.outcome is GateOutcome.PASSED, result.reasons
    assert name in ("clip", "nan_to_num", "ravel", "round") or isinstance(getattr(importlib.import_module(module), name), numpy.ufunc)


def test_what_fleet_yaml_allows_may_be_kept_and_may_keep_what_may_be_kept_at_all() -> None:
    assert judged(PICKLES["a sum that gives a text"], allow=["numpy:sum"]).outcome is GateOutcome.PASSED
    own = pickled(Object(("shop.scalers", "Scaler"), function=Name(("numpy", "log1p")), lookup=Name(hostile_instances.BUILTIN_TYPE)))
    result = judged(own, allow=["shop.scalers:Scaler"])
    assert [reason for reason in result.reasons if "log1p" in reason] == []
    assert any("_builtin_type" in reason for reason in result.reasons)


def test_the_command_of_a_distribution_is_refused_whatever_is_allowed() -> None:
    result = judged(PICKLES["a distribution"], allow=["scipy.stats._continuous_distns:norm_gen"])
    assert [reason for reason in result.reasons if "run as code" in reason] != []


def test_every_place_names_what_is_on_the_allowlist() -> None:
    entries = lists.allowlist().entries
    kept = places()
    for name, at in (*kept.names.items(), *kept.instances.items()):
        assert name in entries, name
        for place in at:
            assert place.startswith(("*.", ".")) or place.rpartition(".")[0] in entries, place
    assert kept.values | kept.transparent <= set(entries)
    assert {place.rpartition(".")[0] for place in kept.texts} <= set(entries)


def test_whatever_is_made_and_can_be_called_is_guarded() -> None:
    """Or whatever reads and writes files by its own methods: such an object may be held only where kept.toml says."""
    writes = ("save_model", "to_pickle", "tofile", "to_csv")
    free = []
    for path, entry in lists.allowlist().entries.items():
        if Use.MADE not in entry.uses or path in places().instances:
            continue
        module, _, name = path.partition(":")
        made = getattr(importlib.import_module(module), name)
        if _own_call(made):
            free.append(path)
        if any(hasattr(made, write) for write in writes) and not path.startswith("xgboost.sklearn:"):
            free.append(path)
    assert free == []


def _own_call(made: type) -> bool:
    return any("__call__" in vars(base) for base in made.__mro__)


@cache
def often_used() -> dict[str, Any]:
    """Models with selectors of columns, splines, trees of clusters and several classes."""
    from sklearn import cluster, compose, gaussian_process, linear_model, model_selection, pipeline, preprocessing
    from threadpoolctl import threadpool_limits

    frame, classes, _ = ordinary_models.rows()
    numeric = frame[["a", "b"]]
    columns = compose.ColumnTransformer(
        [
            ("n", preprocessing.StandardScaler(), compose.make_column_selector(dtype_include="number")),
            ("c", preprocessing.OneHotEncoder(), compose.make_column_selector(dtype_include=object)),
        ]
    )
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        return {
            "selector": pipeline.make_pipeline(columns, linear_model.LogisticRegression()).fit(frame, classes),
            "splines": pipeline.make_pipeline(preprocessing.SplineTransformer(), linear_model.Ridge()).fit(numeric, classes),
            "birch": cluster.Birch().fit(numeric),
            "bisecting": cluster.BisectingKMeans(3).fit(numeric),
            "process": gaussian_process.GaussianProcessClassifier(gaussian_process.kernels.RBF()).fit(numeric, classes),
            "pooled": cluster.FeatureAgglomeration(2).fit(numeric),
            "kernels": model_selection.GridSearchCV(
                gaussian_process.GaussianProcessClassifier(), {"kernel": [gaussian_process.kernels.RBF()]}, cv=2
            ).fit(numeric, classes),
        }


@pytest.mark.parametrize("name", ["selector", "splines", "birch", "bisecting", "process", "pooled", "kernels"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_scikit_learns_users_often_use_passes(name: str, protocol: int) -> None:
    result = judged(pickle.dumps(often_used()[name], protocol))
    assert result.outcome is GateOutcome.PASSED, result.reasons


@pytest.mark.parametrize("name", ["selector", "bisecting", "process", "pooled", "kernels"])
def test_and_through_skops_where_skops_can_write_it(name: str) -> None:
    import skops.io

    result = judged(skops.io.dumps(often_used()[name]), "model.skops")
    assert result.outcome is GateOutcome.PASSED, result.reasons


def test_a_search_over_scipys_distributions_is_refused_and_what_it_found_passes() -> None:
    from scipy.stats import loguniform
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RandomizedSearchCV

    frame, classes, _ = ordinary_models.rows()
    search = RandomizedSearchCV(LogisticRegression(), {"C": loguniform(0.1, 10)}, n_iter=2, cv=2).fit(frame[["a"]], classes)
    assert judged(pickle.dumps(search)).outcome is GateOutcome.FAILED
    assert judged(pickle.dumps(search.best_estimator_)).outcome is GateOutcome.PASSED


def test_objects_that_hold_one_another_too_often_are_refused_in_time() -> None:
    """Each of many objects holds one great list: looking over all of them would take the product of both."""
    great = b"](" + hostile_instances.text("a") * 20_000 + b"eq\x00" + b"0"
    one = hostile_instances.piece(Object(LOGISTIC)) + b"}" + hostile_instances.text("a") + b"h\x00sb"
    data = b"\x80\x04" + great + b"(" + one * 20_000 + b"l."
    began = time.process_time()
    found = walk(io.BytesIO(data))
    assert "its objects hold one another too often to be looked over" in found.problems
    assert time.process_time() - began < 30
