"""LitServe as its documentation has it, with its batching: python litserve_app.py PORT."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import litserve
from asked import load


class Api(litserve.LitAPI):
    """One model, batches of up to 64 that wait one millisecond at most."""

    def setup(self, device: str) -> None:
        self.ask = load(os.environ["KIND"], Path(os.environ["MODEL"]))

    # LitServe takes the annotation for what FastAPI is to read the request as
    def decode_request(self, request, **_):  # type: ignore[no-untyped-def]
        return request["features"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: Any, **_: Any) -> Any:
        return self.ask(x)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any, **_: Any) -> Any:
        return {"prediction": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="error", num_api_servers=1)
