"""A model that answers with what it was given, misbehaves on request, and says which types arrived."""

import sys
import time
from pathlib import Path

import mlflow
import pandas as pd


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        command = model_input["city"].iloc[0]
        if command == "raise":
            raise ValueError("a legal pair that no gate had seen " + "x" * 5000)
        if command == "exit":
            sys.exit(7)
        if command == "ragged":
            return [[1], [1, 2]]
        if command == "object":
            return pd.DataFrame({"thing": [object()]})
        if command.startswith("wait:"):
            folder = Path(command.removeprefix("wait:"))
            (folder / "begun").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        answer = model_input.copy()
        answer["types"] = ",".join(f"{name}={dtype}" for name, dtype in model_input.dtypes.items())
        return answer


mlflow.models.set_model(Echo())
