"""The names that belong on the allowlist of scikit-learn, asked of the library that is installed.

    python -m policies.files.estimators        prints policies/files/allowed/sklearn.toml for it

A name goes on the list by what it is: a class that keeps what it is given and computes over arrays (estimators, their
parts), or a function over arrays that estimators keep by name. Nothing that reads or writes files is such a class.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator

HEADER = """\
# scikit-learn {version}: its estimators and their parts. Printed by `python -m policies.files.estimators`; kept when a newer
# version no longer has a name, so that models logged with an older one still pass."""
ESTIMATORS = "estimators, which keep what they are given"
PARTS = "parts of fitted estimators"
COMPILED = "compiled parts of fitted estimators, rebuilt from numbers and arrays"
KEPT = "functions over arrays that estimators keep by name"
NOT_PUBLIC = {
    "sklearn.cluster._birch": ("_CFNode", "_CFSubcluster"),
    "sklearn.cluster._bisect_k_means": ("_BisectingTree",),
    "sklearn.compose._column_transformer": ("make_column_selector",),
    "sklearn.gaussian_process._gpc": ("_BinaryGaussianProcessClassifierLaplace",),
    "sklearn.multiclass": ("_ConstantPredictor",),
    "sklearn.calibration": ("_CalibratedClassifier", "_SigmoidCalibration"),
    "sklearn.ensemble._hist_gradient_boosting.binning": ("_BinMapper",),
    "sklearn.ensemble._hist_gradient_boosting.predictor": ("TreePredictor",),
    "sklearn.neural_network._stochastic_optimizers": ("AdamOptimizer", "SGDOptimizer"),
    "sklearn.utils._bunch": ("Bunch",),
    "sklearn.metrics._scorer": ("_PassthroughScorer", "_Scorer", "_MultimetricScorer"),
    "sklearn._loss.link": ("HalfLogitLink", "IdentityLink", "Interval", "LogLink", "LogitLink", "MultinomialLogit"),
    "sklearn._loss.loss": (
        "AbsoluteError",
        "ExponentialLoss",
        "HalfBinomialLoss",
        "HalfGammaLoss",
        "HalfMultinomialLoss",
        "HalfPoissonLoss",
        "HalfSquaredError",
        "HalfTweedieLoss",
        "HalfTweedieLossIdentity",
        "HuberLoss",
        "PinballLoss",
    ),
}
# What BisectingKMeans keeps of how it was fitted
FITTING = {"sklearn.cluster._kmeans": ("_kmeans_single_elkan", "_kmeans_single_lloyd")}
CALLED = {"sklearn._loss._loss": "Cy", "sklearn.linear_model._sgd_fast": "", "sklearn.tree._tree": "Tree"}
TREES = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")
DISTANCES = "sklearn.metrics._dist_metrics"
# A distance that calls a function of the file's choice
NOT_DISTANCES = ("PyFuncDistance", "PyFuncDistance32", "PyFuncDistance64")


class Listed:
    """Names by module, each for one reason."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.made: dict[str, set[str]] = defaultdict(set)
        self.named: dict[str, set[str]] = defaultdict(set)
        self.called: dict[str, dict[str, list[str]]] = defaultdict(dict)

    def add(self, kind: dict[str, set[str]], module: str, names: Iterable[str], reason: str) -> None:
        """Put names on the list."""
        kind[module] |= set(names)
        self.reasons.setdefault(module, reason)


def listed() -> Listed:
    """Return what the installed scikit-learn has."""
    found = Listed()
    for kind in _estimators():
        found.add(found.made, kind.__module__, [kind.__qualname__], ESTIMATORS)
    for module, names in NOT_PUBLIC.items():
        found.add(found.made, module, names, PARTS)
    for module, names in FITTING.items():
        found.add(found.named, module, names, KEPT)
    for module, parts in _subclasses():
        found.add(found.made, module, parts, PARTS)
    for module, prefix in CALLED.items():
        compiled = [name for name in _classes(module) if name.startswith(prefix) and not name.endswith("Builder")]
        found.called[module] |= {name: [] for name in compiled}
        rebuilding = [name for name in compiled if hasattr(importlib.import_module(module), f"__pyx_unpickle_{name}")]
        found.called[module] |= {f"__pyx_unpickle_{name}": [f"{module}:{name}"] for name in rebuilding}
        found.add(found.named, module, compiled, COMPILED)
    _neighbours(found)
    for function in _functions():
        found.add(found.named, function.__module__, [function.__name__], KEPT)
    return found


def _estimators() -> Iterator[type]:
    from sklearn.utils import all_estimators

    for _, kind in all_estimators():
        yield kind


def _subclasses() -> Iterator[tuple[str, list[str]]]:
    """Give kernels, splitters and the like: what estimators hold that is no estimator itself."""
    from sklearn.gaussian_process.kernels import Kernel

    splits = importlib.import_module("sklearn.model_selection._split")
    splitters = [name for name in _classes(splits.__name__) if hasattr(getattr(splits, name), "split") and not name.startswith("_")]
    kernels = importlib.import_module(Kernel.__module__)
    yield kernels.__name__, [name for name in _classes(kernels.__name__) if issubclass(getattr(kernels, name), Kernel)]
    yield splits.__name__, splitters


def _neighbours(found: Listed) -> None:
    endings = ("Distance", "Distance32", "Distance64")
    distances = [name for name in _classes(DISTANCES) if name.endswith(endings) and name not in NOT_DISTANCES]
    found.add(found.named, DISTANCES, distances, COMPILED)
    found.add(found.made, DISTANCES, distances, COMPILED)
    found.called[DISTANCES]["newObj"] = [f"{DISTANCES}:{name}" for name in sorted(distances)]
    for module in TREES:
        trees = [name for name in _classes(module) if name.rstrip("0123456789") in ("KDTree", "BallTree")]
        found.add(found.made, module, trees, COMPILED)
        found.called[module]["newObj"] = [f"{module}:{name}" for name in sorted(trees)]


def _classes(module: str) -> list[str]:
    # Compiled modules name themselves without their package
    own = (module, module.rpartition(".")[2])
    loaded = importlib.import_module(module)
    return sorted(name for name, kind in vars(loaded).items() if isinstance(kind, type) and kind.__module__ in own)


def _functions() -> Iterator[type]:
    """Give the public metrics and the scores of feature selection."""
    for module in ("sklearn.metrics", "sklearn.feature_selection"):
        loaded = importlib.import_module(module)
        for name in loaded.__all__:
            function = getattr(loaded, name)
            if inspect.isfunction(function) and not name.startswith(("check_", "get_", "make_")):
                yield function  # type: ignore[misc]


def as_toml(found: Listed, version: str) -> str:
    """Return the list as the file has it."""
    lines = [HEADER.format(version=version)]
    for module in sorted(found.reasons):
        lines += ["", "[[modules]]", f'module = "{module}"', f'reason = "{found.reasons[module]}"']
        for kind, names in (("named", found.named.get(module)), ("made", found.made.get(module))):
            if names:
                lines.append(f"{kind} = [{', '.join(_quoted(name) for name in sorted(names))}]")
        if called := found.called.get(module):
            lines.append("[modules.called]")
            lines += [f"{name} = [{', '.join(_quoted(given) for given in called[name])}]" for name in sorted(called)]
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    return f'"{name}"'


if __name__ == "__main__":
    import sklearn

    sys.stdout.write(as_toml(listed(), sklearn.__version__))
