"""A model whose signature comes from its type hints."""

import mlflow


class Texts(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str], params=None) -> list[int]:
        return [len(text) for text in model_input]


mlflow.models.set_model(Texts())
