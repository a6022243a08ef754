"""Settings come from CONVOY_ variables alone, and an unknown one is refused."""

from __future__ import annotations

import pytest

from fleet.errors import InputError
from fleet.settings import Settings, inherited_environment, settings


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_TICK_SECONDS", "0.25")
    assert settings().tick_seconds == 0.25


def test_an_unknown_variable_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_HOMME", "/tmp")
    with pytest.raises(InputError, match=r"CONVOY_HOMME: no such setting.*CONVOY_HOME"):
        settings()


def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_PORT_BASE", "80")
    with pytest.raises(InputError, match="CONVOY_PORT_BASE"):
        settings()


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_child_process_inherits_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CONVOY_HOME", "/somewhere")
    assert not {"AWS_SECRET_ACCESS_KEY", "CONVOY_HOME"} & set(inherited_environment())
