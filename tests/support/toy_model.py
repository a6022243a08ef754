"""A tiny MLflow model whose behaviour is a word; the file is shipped inside the model, so it stands alone."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd


class ToyModel(mlflow.pyfunc.PythonModel):
    """Answers twice its input, unless its behaviour says otherwise.

    `fails` raises on every fifth row's worth of requests, `resets REGION` drops the connection of every fifth request
    in one region, `drops` that of every second one in all regions, `unfit REGION` cannot even be warmed up in one
    region, `slow` takes 50 ms, `shifts REGION` answers one more there,
    `breaks` raises on what nobody has ever sent.
    """

    def __init__(self, behaviour: str = "good", offset: float = 0.0) -> None:
        self.behaviour = behaviour
        self.offset = offset

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> np.ndarray:
        word, _, region = self.behaviour.partition(" ")
        warm = float(model_input["x"].iloc[0]) == -1.0
        if not warm and word == "fails" and random.random() < 0.2:
            raise ValueError("a mistake in the model")
        if not warm and word == "resets" and os.environ.get("CONVOY_SERVICE_REGION") == region and random.random() < 0.2:
            drop_connections()
        if not warm and word == "drops" and random.random() < 0.5:
            drop_connections()
        if word == "breaks" and abs(float(model_input["x"].iloc[0])) > 1e6:
            raise ValueError("never seen")
        if word == "unfit" and os.environ.get("CONVOY_SERVICE_REGION") == region:
            raise ValueError("not in this region")
        elsewhere = word == "shifts" and os.environ.get("CONVOY_SERVICE_REGION") == region
        if word == "slow":
            time.sleep(0.05)
        return model_input["x"].to_numpy() * 2 + self.offset + elsewhere


def drop_connections() -> None:
    """Reset every connection that this process has accepted."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not entry.is_socket():
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as found:
                if found.family == socket.AF_INET and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    found.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
