"""A BentoML service as its documentation has it: one route, batched by BentoML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bentoml
from asked import load


@bentoml.service(workers=1, traffic={"timeout": 60})
class Stock:
    """One model."""

    def __init__(self) -> None:
        self.ask = load(os.environ["KIND"], Path(os.environ["MODEL"]))

    @bentoml.api
    def predict(self, features: Any) -> Any:
        return {"prediction": self.ask([features])[0]}
