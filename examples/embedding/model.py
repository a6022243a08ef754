"""The model that MLflow serves: a column of texts in, 384 numbers for each out. It is logged with its code, from this file.

It imports neither PyTorch nor transformers: the weights are an ONNX graph, the words are cut by `tokenizers`.
"""

from __future__ import annotations

from typing import Any

import mlflow.pyfunc
from mlflow.models import set_model

LONGEST = 256
"""Tokens of a text that count, as the model's sentence_bert_config.json says."""


class Embedding(mlflow.pyfunc.PythonModel):
    """Encodes texts; those of one call are padded to the longest of them, which changes nothing of the others."""

    def load_context(self, context: Any) -> None:
        """Load the graph on one thread, and the tokenizer."""
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(context.artifacts["graph"], options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(context.artifacts["tokenizer"])
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.enable_padding()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Return an array of shape (texts, 384)."""
        import numpy as np

        cut = self.tokenizer.encode_batch(list(model_input["text"]))
        ids, mask = (np.array([getattr(each, name) for each in cut], dtype=np.int64) for name in ("ids", "attention_mask"))
        return self.session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]


set_model(Embedding())
