"""A model with parameters."""

import mlflow


class Times(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        values = model_input.iloc[:, 0].to_numpy() if hasattr(model_input, "iloc") else model_input
        return values * (params or {}).get("times", 2.0)


mlflow.models.set_model(Times())
