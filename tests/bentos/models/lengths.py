"""A model that answers with the length of a list."""

import mlflow


class Lengths(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [len(value) for value in model_input["v"]]


mlflow.models.set_model(Lengths())
