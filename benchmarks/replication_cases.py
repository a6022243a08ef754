"""Updates of real models: what was there before, and what comes after; and which part of that has to be sent."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from typing import Any

from fleet.cutting import by_content

Update = tuple[bytes, bytes]
SMALL = 16 << 10


def sent_again(before: bytes, after: bytes) -> tuple[float, float]:
    """Return which part of a file has to be sent where the one before is, cut by content and in fixed blocks of 16 KiB."""
    cuts: tuple[Callable[[bytes], Iterable[bytes]], ...] = (lambda data: by_content(io.BytesIO(data), len(data)), _blocks)
    return tuple(_missing(cut(before), cut(after)) / len(after) for cut in cuts)  # type: ignore[return-value]


def _missing(before: Iterable[bytes], after: Iterable[bytes]) -> int:
    there = {sha256(part).digest() for part in before}
    wanted = {sha256(part).digest(): len(part) for part in after}
    return sum(size for digest, size in wanted.items() if digest not in there)


def _blocks(data: bytes) -> Iterable[bytes]:
    return (data[start : start + SMALL] for start in range(0, len(data), SMALL))


@cache
def _rows() -> tuple[Any, Any]:
    import numpy as np

    chance = np.random.default_rng(0)
    rows = chance.normal(size=(4000, 20))
    return rows, (rows[:, 0] * rows[:, 1] + rows[:, 2] + chance.normal(size=4000) > 0).astype(int)


@cache
def trees(count: int, more: int = 0, without: int = 0) -> bytes:
    """Return a LightGBM model of so many trees, as text: with some more behind them, or trained without the first rows."""
    import lightgbm

    rows, labels = _rows()
    how = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True}
    model = lightgbm.train(how, lightgbm.Dataset(rows[without:], labels[without:]), count)
    if more:
        model = lightgbm.train(how, lightgbm.Dataset(rows, labels), more, init_model=model)
    return model.model_to_string().encode()


def _forest(more: int, without: int = 0) -> Update:
    from sklearn.ensemble import RandomForestClassifier

    rows, labels = _rows()
    forest = RandomForestClassifier(100, random_state=1, warm_start=True).fit(rows, labels)
    before = pickle.dumps(forest)
    if more:
        forest.n_estimators += more
        forest.fit(rows, labels)
        return before, pickle.dumps(forest)
    return before, pickle.dumps(RandomForestClassifier(100, random_state=1).fit(rows[without:], labels[without:]))


def _tensors(change: Callable[[Any], Any]) -> Update:
    import numpy as np

    weights = np.random.default_rng(0).normal(size=12 << 20).astype("f4")
    before = weights.tobytes()
    return before, change(weights).tobytes()


def _last_twelfth(weights: Any) -> Any:
    weights[11 * len(weights) // 12 :] += type(weights[0])(0.01)
    return weights


def _in_front() -> Update:
    before, _ = _tensors(lambda weights: weights)
    return before, b"x" * 1024 + before


APPENDED = 15.0
UPDATES: dict[str, tuple[float | None, Callable[[], Update]]] = {
    "LightGBM, 20 trees behind 400": (APPENDED, lambda: (trees(400), trees(400, 20))),
    "LightGBM, 80 trees behind 1600": (APPENDED, lambda: (trees(1600), trees(1600, 80))),
    "LightGBM, retrained without 1 % of the rows": (None, lambda: (trees(400), trees(400, 0, 40))),
    "random forest, 10 trees behind 100": (APPENDED, lambda: _forest(10)),
    "random forest, retrained without 1 % of the rows": (None, lambda: _forest(0, 40)),
    "float32 tensors, the last twelfth tuned": (None, lambda: _tensors(_last_twelfth)),
    "float32 tensors, all of them tuned": (None, lambda: _tensors(lambda weights: weights + type(weights[0])(0.01))),
    "float32 tensors, 1 KiB put in front": (None, _in_front),
}
