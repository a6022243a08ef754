"""The page of the scoring service says what the service is."""

from __future__ import annotations

from pathlib import Path

from bentos.service.board import Board
from bentos.service.flavors import SKLEARN_ASKS
from bentos.service.settings import KNOWN, PREFIX

PAGE = (Path(__file__).parents[2] / "docs/scoring.md").read_text()


def test_every_setting_of_the_service_is_documented() -> None:
    missing = [name for name in KNOWN if f"`{PREFIX}{name.upper()}`" not in PAGE]

    assert missing == []


def test_every_figure_and_every_method_is_named() -> None:
    families = [line.split()[2] for line in Board().text({}).decode().splitlines() if line.startswith("# TYPE")]

    assert [name for name in families if f"`{name}`" not in PAGE and f"`{name.removeprefix('convoy_service')}`" not in PAGE] == []
    assert [name for name in SKLEARN_ASKS if f"`{name}`" not in PAGE] == []
