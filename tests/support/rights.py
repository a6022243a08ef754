"""A declared model whose gates and image a test chooses."""

from __future__ import annotations

from typing import Any

from fleet.declared import Model


def a_model(**changed: Any) -> Model:
    """Return a model in one region with nothing declared beyond what must be, and what is given."""
    plain = Model.model_validate(
        {
            "owner": "people",
            "on_call": "people-on-call",
            "runbook": "docs/runbook.md",
            "regions": ["here"],
            "slo": {"here": {"latency_ms": 100, "error_rate": 0.01}},
            "rto_seconds": 60,
            "rpo_releases": 0,
            "rollback": {"margin": 0.01},
        }
    )
    return plain.model_copy(update=changed)
