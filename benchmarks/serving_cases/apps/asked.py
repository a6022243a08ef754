"""The model as a hand-written application has it: loaded by its own library, asked with a list of rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def load(kind: str, folder: Path) -> Callable[[list[Any]], list[Any]]:
    """Return what answers rows: lists of numbers, or texts."""
    if kind == "embedding":
        return _embedding(folder)
    if kind == "lightgbm":
        import lightgbm
        import numpy

        booster = lightgbm.Booster(model_file=str(folder / "model.txt"))
        return lambda rows: booster.predict(numpy.array(rows)).tolist()
    import joblib
    import numpy

    model = joblib.load(folder / "model.joblib")
    return lambda rows: model.predict_proba(numpy.array(rows)).tolist()


def _embedding(folder: Path) -> Callable[[list[Any]], list[Any]]:
    import numpy
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()

    def answer(rows: list[Any]) -> list[Any]:
        cut = tokenizer.encode_batch(rows)
        ids, mask = (numpy.array([getattr(each, name) for each in cut], dtype=numpy.int64) for name in ("ids", "attention_mask"))
        return session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0].tolist()

    return answer
