"""What a model answers through MLflow, found out in a process of its own: `python -m convoy_service.expected FOLDER PROBES ANSWERS`.

The process that serves then never imports MLflow or pandas. PROBES holds requests' bodies (a JSON list of strings), ANSWERS
gets for each its output tensors, or `{"error": <class>}` where the model raised.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from pathlib import Path
from typing import Any

import orjson

from .answers import tensors
from .errors import ModelFailed, Problem
from .scorer import OPTIONS, Label, Scorer, load, parsed
from .settings import quiet_libraries

PR_SET_PDEATHSIG = 1


def outcome(scorer: Scorer, body: bytes) -> Any:
    """Return the output tensors for a request as they are written, or its error's class."""
    try:
        found = scorer.predictor.predict(scorer.asked(parsed(body).get("inputs")).rows, {})
        return orjson.loads(orjson.dumps(tensors(scorer.signature, found), option=OPTIONS))
    except ModelFailed as problem:
        return {"error": type(problem.__cause__ or problem).__name__}
    except Problem as problem:
        return {"error": f"{type(problem).__name__}: {problem}"}
    except BaseException as problem:  # noqa: BLE001  a model may raise anything
        return {"error": type(problem).__name__}


def main(folder: str, probes: str, answers: str) -> int:
    """Answer the probes and return the exit code."""
    if sys.platform == "linux":
        # whoever asks for this is the only one to want it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    quiet_libraries()
    scorer = load(Path(folder), Label("m", "0"), "m")
    bodies = json.loads(Path(probes).read_bytes())
    Path(answers).write_bytes(orjson.dumps([outcome(scorer, body.encode()) for body in bodies]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
