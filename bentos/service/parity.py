"""Holds a model's direct answers against those that it gives through MLflow, before it answers anybody.

The answers through MLflow are made in another process while this one loads the model, or read from the file of the setting
`parity`, where a process of the same revision with the same libraries has left them. Where the two differed the file says
how instead, and the next process asks MLflow from the beginning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .answers import tensors
from .errors import told
from .expected import outcome
from .flavors import NotDirect
from .log import say
from .prediction import parts
from .probes import Probe
from .scorer import Scorer, parsed

EXPECTED_SECONDS = 120.0
RELATIVE = {"FP64": 1e-12, "FP32": 1e-5, "FP16": 1e-2}
"""How far numbers may be apart: BLAS sums in another order where an array lies otherwise in memory."""
ABSOLUTE = {"FP64": 1e-12, "FP32": 1e-6, "FP16": 1e-3}
SAME_AS = ("mlflow", "numpy", "pandas", "scikit-learn", "lightgbm", "xgboost", "onnxruntime", "torch")


@dataclass(frozen=True, slots=True)
class Found:
    """What holding both against each other has shown."""

    refuses: tuple[str, ...]
    compared: int
    on: str


class Expected:
    """The answers through MLflow: being made from the moment of construction on.

    `because` says why MLflow is to be asked, where an earlier process found that out; then there are no answers.
    """

    def __init__(self, folder: Path, probes: tuple[Probe, ...], revision: str, kept: Path | None) -> None:
        self._kept = kept
        self._told = {"revision": revision, "probes": [probe.body.decode() for probe in probes], "versions": _versions()}
        known = _read(kept, self._told)
        self.because = known if isinstance(known, str) else ""
        self._answers = known if isinstance(known, list) else None
        self._process: subprocess.Popen[bytes] | None = None
        if known is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="convoy-parity-")
            asked = Path(self._scratch.name) / "probes"
            asked.write_text(json.dumps(self._told["probes"]))
            package = __package__ or "convoy_service"
            command = [sys.executable, "-B", "-m", f"{package}.expected", str(folder), str(asked), str(asked.with_name("answers"))]
            root = Path(__file__).resolve().parents[len(package.split("."))]
            self._process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=2)

    def answers(self) -> list[Any]:
        """Return what MLflow's way answers to each probe; raises NotDirect where it does not answer."""
        if self._process is None:
            assert self._answers is not None
            return self._answers
        try:
            status = self._process.wait(EXPECTED_SECONDS)
            answers: list[Any] = json.loads((Path(self._scratch.name) / "answers").read_bytes())
        except subprocess.TimeoutExpired as problem:
            raise NotDirect(f"MLflow did not answer within {EXPECTED_SECONDS:.0f} s") from problem
        except (OSError, ValueError) as problem:
            raise NotDirect(f"MLflow's answers are not there, its process ended with {status}") from problem
        finally:
            self.close()
        _write(self._kept, {**self._told, "answers": answers})
        return answers

    def differ(self, how: str) -> None:
        """Keep why this revision is to be asked through MLflow, for the next process."""
        _write(self._kept, {**self._told, "because": how})

    def close(self) -> None:
        """End the process that answers, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._scratch.cleanup()


def compare(scorer: Scorer, probes: tuple[Probe, ...], expected: list[Any]) -> Found:
    """Return what a direct scorer has in common with MLflow's answers; raises NotDirect at the first difference."""
    refuses, compared = [], 0
    for probe, wanted in zip(probes, expected, strict=True):
        found = outcome(scorer, probe.body)
        raised = isinstance(found, dict), isinstance(wanted, dict)
        if raised[0] != raised[1]:
            raise NotDirect(f"{probe.what}: MLflow {_said(wanted)}, {scorer.predictor.path} {_said(found)}")
        if all(raised):
            refuses += [probe.gap] if probe.gap else []
        elif difference := _difference(found, wanted):
            raise NotDirect(f"{probe.what}: {difference}")
        else:
            compared += 1
    if not compared:
        raise NotDirect("there is no row that it answers to compare with MLflow's answer")
    return Found(tuple(refuses), compared, probes[0].what)


def stands_alone(scorer: Scorer, bodies: list[bytes]) -> bool:
    """Say whether rows are answered the same together as each by itself, as the first request with several rows tells."""
    for body in bodies:
        rows = scorer.asked(parsed(body).get("inputs")).rows
        if rows.count < 2:
            continue
        try:
            whole = parts(scorer.predictor.predict(rows, {}), [1] * rows.count)
            each = [scorer.predictor.predict(rows.one(at), {}) for at in range(rows.count)]
            return whole is not None and not any(map(_unlike(scorer), each, whole))
        except Exception:  # noqa: BLE001, S112  it refuses this request; the next may tell
            continue
    return False


def _unlike(scorer: Scorer) -> Callable[[Any, Any], str]:
    """Return what tells how two predictions differ."""
    return lambda one, another: _difference(tensors(scorer.signature, one), tensors(scorer.signature, another))


def _difference(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> str:
    """Return how two answers differ, nothing where they do not."""
    for one, another in zip(found, wanted, strict=False):
        for key in ("name", "datatype", "shape"):
            if one[key] != another[key]:
                return f"the {key} of an output is {one[key]} here and {another[key]} through MLflow"
        if not _equal(one, another):
            return f"output '{one['name']}' has other values than through MLflow"
    return "" if len(found) == len(wanted) else f"{len(found)} outputs here, {len(wanted)} through MLflow"


def _equal(one: dict[str, Any], another: dict[str, Any]) -> bool:
    kind = one["datatype"]
    if kind not in RELATIVE:
        return list(one["data"]) == list(another["data"])
    here, there = (np.asarray(each["data"], dtype=np.float64) for each in (one, another))
    return bool(np.allclose(here, there, rtol=RELATIVE[kind], atol=ABSOLUTE[kind], equal_nan=True))


def _said(outcome: Any) -> str:
    return f"raises {outcome['error']}" if isinstance(outcome, dict) else "answers"


def _versions() -> dict[str, str]:
    versions = {"python": sys.version}
    for name in SAME_AS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read(kept: Path | None, told_: dict[str, Any]) -> list[Any] | str | None:
    """Return kept answers to the same probes of the same revision by the same libraries, or why MLflow is to be asked."""
    try:
        document = json.loads(kept.read_bytes()) if kept is not None else None
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or {key: document.get(key) for key in told_} != told_:
        return None
    because, answers = document.get("because"), document.get("answers")
    if isinstance(because, str) and because:
        return because
    return answers if isinstance(answers, list) and len(answers) == len(told_["probes"]) else None


def _write(kept: Path | None, document: dict[str, Any]) -> None:
    """Keep answers for the next process; one that cannot be written is made again."""
    if kept is None:
        return
    aside = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(document))
        aside.replace(kept)
    except OSError as problem:
        say(f"MLflow's answers are not kept: {told(problem)}")
