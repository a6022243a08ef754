"""The application of every tutorial: FastAPI, a pydantic model, one row a request. `ROUTE` says whether it is async."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from asked import load
from fastapi import FastAPI
from pydantic import BaseModel


class Row(BaseModel):
    """One row of numbers, or a text."""

    features: list[float] | str


app = FastAPI()
ask = load(os.environ["KIND"], Path(os.environ["MODEL"]))

if os.environ["ROUTE"] == "async":

    @app.post("/predict")
    async def predict(row: Row) -> dict[str, Any]:
        return {"prediction": ask([row.features])[0]}

else:

    @app.post("/predict")
    def predict_in_a_thread(row: Row) -> dict[str, Any]:
        return {"prediction": ask([row.features])[0]}


@app.get("/health")
def health() -> dict[str, bool]:
    return {"ready": True}
