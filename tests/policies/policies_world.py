"""What several of the gates' tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fleet.declared import Evaluation, Model


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition; return whether it came true in time."""
    until = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < until:
        time.sleep(0.02)
    return held


def declared(**evaluation: Any) -> Model:
    """The declared model; keyword arguments change its evaluation."""
    measured = {"repository": "data", "path": "rows.parquet", "label": "employed", "metric": "roc_auc", **evaluation}
    return Model.model_validate(
        {
            "owner": "people",
            "on_call": "people-on-call",
            "runbook": "docs/runbook.md",
            "regions": ["here"],
            "slo": {"here": {"latency_ms": 100, "error_rate": 0.01}},
            "rto_seconds": 60,
            "rpo_releases": 0,
            "rollback": {"margin": 0.01},
            "evaluation": Evaluation.model_validate(measured),
        }
    )
