"""The scheduled flow: one model that cannot be asked keeps no other from it, and a difference is an error in the log."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.errors import IntegrityError
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import Revision
from flows import check_golden as module
from flows.golden_checks import Checked

SAME = GateResult("golden answers in us", GateOutcome.PASSED, ("all golden answers are reproduced",))
OTHER = GateResult("golden answers in eu", GateOutcome.FAILED, ("1 of 2 requests differ from the golden answers", "request 1: …"))
GONE = IntegrityError("blob sha256:1 in store origin", "is missing")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = list[str]()

    def check(_: object, model: str, actor: str) -> Checked:
        assert actor == "check_golden flow"
        if model == "bad":
            raise GONE
        return Checked(model, Revision(model, "1", "sha256:1"), None, {"us": SAME, "eu": OTHER}, {"asia": "is starting"})

    stand_ins: dict[str, Any] = {
        "drop_late_runs": lambda: None,
        "watched": lambda _: ["bad", "good"],
        "check": check,
        "asked_again": module.asked_again.fn,
        "markdown": lambda text, **_: found.append(text),
        "get_run_logger": lambda: logging.getLogger("tests"),
    }
    monkeypatch.setattr(module.House, "open", lambda: SimpleNamespace(ledger=SimpleNamespace(verify=lambda: 0)))
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(module, name, stand_in)
    return found


def test_the_others_are_asked_then_the_error_is_raised(shown: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(IntegrityError) as raised:
        module.check_golden.fn()
    assert raised.value is GONE
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors[1] == "good in eu: 1 of 2 requests differ from the golden answers; request 1: …"
    assert "good in asia was not asked: is starting" in caplog.text
    (page,) = shown
    assert "## golden answers in eu: failed" in page


def test_it_returns_one_line_for_each_model(shown: list[str]) -> None:
    assert module.check_golden.fn("good") == ["good: reproduced in us; different in eu; not asked in asia"]
