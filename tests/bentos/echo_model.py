"""A pyfunc with a column of every type, which answers with what it was given."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).parent / "models"


def save_echo(folder: Path) -> None:
    """Save it as MLflow does into a new folder; some of its columns are optional."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    types = {"age": "long", "children": "integer", "hours": "double", "rate": "float", "member": "boolean", "city": "string"}
    columns = [ColSpec(kind, name) for name, kind in types.items()] + [
        ColSpec("datetime", "since", required=False),
        ColSpec("string", "note", required=False),
    ]
    mlflow.pyfunc.save_model(folder, python_model=MODELS / "echo.py", signature=ModelSignature(inputs=Schema(columns)), pip_requirements=[])
