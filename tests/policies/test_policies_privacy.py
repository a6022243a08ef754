"""The gate of privacy: what a model trained on sensitive data promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from rights_world import candidate, gated

from fleet.evidence import GateOutcome, GateResult
from policies.privacy import WAIVABLE, PrivacyPromised
from policies.waived import NotHeld, Waived, Waivers

GATE = PrivacyPromised()
PROMISED = {"epsilon": "2.5", "delta": "1e-6", "accuracy_loss": "0.01"}


def asked(tmp_path: Path, privacy: dict[str, Any] | None = None, waivers: Waivers | None = None, **promised: str | None) -> GateResult:
    tags = {f"convoy.privacy.{name}": text for name, text in (PROMISED | promised).items() if text is not None}
    given = candidate(tmp_path, declared=gated(privacy={"sensitive": True, **(privacy or {})}), tags=tags)
    return GATE.evaluate(replace(given, training=rows(tmp_path), waivers=waivers or Waivers()))


def rows(tmp_path: Path) -> Path:
    """Training rows, five hundred of them."""
    pandas.DataFrame({"age": range(500)}).to_parquet(tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def test_a_promise_within_the_limits_passes_and_is_shown(tmp_path: Path) -> None:
    result = asked(tmp_path)
    assert result.outcome is GateOutcome.PASSED
    assert dict(result.figures) == PROMISED | {"training rows": "500"}


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_what_is_not_promised_fails(tmp_path: Path, name: str) -> None:
    result = asked(tmp_path, **{name: None})
    assert result.outcome is GateOutcome.FAILED
    assert f"convoy.privacy.{name}" in result.reasons[0]


@pytest.mark.parametrize(("name", "text"), [("epsilon", "8.0001"), ("delta", "1.1e-5"), ("accuracy_loss", "0.051")])
def test_a_promise_above_its_limit_fails_and_one_at_it_passes(tmp_path: Path, name: str, text: str) -> None:
    result = asked(tmp_path, **{name: text})
    assert result.outcome is GateOutcome.FAILED
    assert f"{name} is {text}, above the limit" in result.reasons[0]
    assert asked(tmp_path, {name: text}, **{name: text}).outcome is GateOutcome.PASSED


@pytest.mark.parametrize("text", ["", "NaN", "inf", "-1", "+1", "1_0", "0x1", " 1", "1e999", "1e5", "1,5", "1" * 50, "٣"])
def test_what_is_no_plain_number_fails(tmp_path: Path, text: str) -> None:
    for name in PROMISED:
        result = asked(tmp_path, **{name: text})
        assert result.outcome is GateOutcome.FAILED
        assert "is no number" in result.reasons[0]


def test_epsilon_zero_is_no_training(tmp_path: Path) -> None:
    assert "nothing can be learned" in asked(tmp_path, epsilon="0.0").reasons[0]


def test_delta_must_be_below_one_part_in_the_rows(tmp_path: Path) -> None:
    result = asked(tmp_path, {"delta": "0.01"}, delta="0.002")
    assert result.outcome is GateOutcome.FAILED
    assert "delta is 0.002, not below one part in the 500 training rows" in result.reasons[0]
    assert asked(tmp_path, {"delta": "0.01"}, delta="0.0019").outcome is GateOutcome.PASSED


@pytest.mark.parametrize("known", ["no rows", "no Parquet"])
def test_where_the_rows_are_not_known_delta_cannot_be_told_and_only_a_waiver_passes(tmp_path: Path, known: str) -> None:
    (tmp_path / "rows").write_text("no Parquet")
    tags = {f"convoy.privacy.{name}": text for name, text in PROMISED.items()}
    given = candidate(tmp_path, declared=gated(privacy={"sensitive": True}), tags=tags)
    given = replace(given, training=tmp_path / "rows" if known == "no Parquet" else None)
    result = GATE.evaluate(given)
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert "the training rows are not known" in result.reasons[0]
    assert dict(result.figures)["training rows"] == "not known"
    held = Waivers((Waived("privacy", WAIVABLE, "w.json", ("anna", "ben"), "only for the pilot", "2026-12-01"),))
    waived = GATE.evaluate(replace(given, waivers=held))
    assert waived.outcome is GateOutcome.PASSED
    assert "is waived: the training rows are not known" in waived.reasons[0]


@pytest.mark.parametrize(
    ("declared", "tags", "outcome"),
    [
        (False, {}, GateOutcome.NOT_APPLICABLE),
        (False, {"convoy.data.sensitive": "false"}, GateOutcome.NOT_APPLICABLE),
        (False, {"convoy.data.sensitive": "true"}, GateOutcome.FAILED),
        (False, {"convoy.data.sensitive": "True"}, GateOutcome.INCONCLUSIVE),
        (True, {"convoy.data.sensitive": "false"}, GateOutcome.FAILED),
        (True, {}, GateOutcome.FAILED),
    ],
)
def test_data_is_sensitive_where_fleet_yaml_or_the_version_says_so(
    tmp_path: Path, declared: bool, tags: dict[str, str], outcome: GateOutcome
) -> None:
    given = candidate(tmp_path, declared=gated(privacy={"sensitive": declared}), tags=tags)
    assert GATE.evaluate(given).outcome is outcome


def test_a_waiver_takes_the_place_of_the_promise_while_it_holds(tmp_path: Path) -> None:
    held = Waivers((Waived("privacy", WAIVABLE, "w.json", ("anna", "ben"), "only for the pilot", "2026-12-01"),))
    result = asked(tmp_path, waivers=held, epsilon=None)
    assert result.outcome is GateOutcome.PASSED
    assert "the version has no tag convoy.privacy.epsilon" in result.reasons[0], "what was waived is said"
    lapsed = asked(tmp_path, waivers=Waivers(not_held=(NotHeld("privacy", WAIVABLE, "w.json", "expired"),)), epsilon=None)
    assert lapsed.outcome is GateOutcome.FAILED
    assert "w.json expired" in lapsed.reasons[0]
