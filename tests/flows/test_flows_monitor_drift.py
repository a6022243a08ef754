"""One model that cannot be measured keeps no other from it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fleet.errors import InputError
from flows import monitor_drift as module
from monitoring.drift import DriftOutcome


@pytest.mark.parametrize("problem", [InputError("reference", "is away"), ValueError("caller's value 42")], ids=["ours", "unexpected"])
def test_the_other_models_are_measured_and_then_the_error_is_raised(problem, monkeypatch, caplog):
    def measured(_: object, name: str) -> SimpleNamespace:
        seen.append(name)
        if name == "bad":
            raise problem
        return SimpleNamespace(verdict=SimpleNamespace(outcome=DriftOutcome.STABLE))

    seen: list[str] = []
    monkeypatch.setattr(module.House, "open", lambda: SimpleNamespace(ledger=SimpleNamespace(verify=lambda: 0)))
    for name, stand_in in {
        "drop_late_runs": lambda: None,
        "watched": lambda _: ["bad", "good"],
        "measured": measured,
        "show": lambda *_: None,
        "get_run_logger": lambda: logging.getLogger("tests"),
    }.items():
        monkeypatch.setattr(module, name, stand_in)
    with pytest.raises(type(problem)) as raised:
        module.monitor_drift.fn()
    assert (raised.value, seen) == (problem, ["bad", "good"])
    assert "42" not in caplog.text
