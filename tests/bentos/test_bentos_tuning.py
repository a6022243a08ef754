"""What the service takes from the tuning beside its files: what such a machine was measured with, where nothing else is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bentos.service.errors import SettingsWrong
from bentos.service.settings import read_settings
from bentos.service.tuning import machine, tuned

CHOSEN = {"batch_rows": 32, "workers": 2}


def beside(root: Path, **machine_: Any) -> Path:
    file = root.with_name(f"{root.name}.tuning")
    file.write_text(json.dumps({"chosen": CHOSEN, "machine": {**machine(), **machine_}, "measured": []}))
    return file


def read(root: Path, **more: str) -> tuple[int, int]:
    found = read_settings({"CONVOY_SERVICE_ROOT": str(root), **{f"CONVOY_SERVICE_{name}": value for name, value in more.items()}})
    return found.batch_rows, found.workers


def test_a_service_starts_as_it_was_tuned_on_such_a_machine(tmp_path: Path) -> None:
    plain = read(tmp_path / "revision")
    beside(tmp_path / "revision")
    assert read(tmp_path / "revision") == (32, 2) != plain


def test_what_the_environment_says_goes_first(tmp_path: Path) -> None:
    beside(tmp_path / "revision")
    assert read(tmp_path / "revision", WORKERS="1") == (32, 1)


@pytest.mark.parametrize("other", [{"cpu": "another"}, {"cores": 4096}])
def test_a_tuning_of_another_machine_changes_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    plain = read(tmp_path / "revision")
    beside(tmp_path / "revision", **other)
    assert read(tmp_path / "revision") == plain


@pytest.mark.parametrize("text", ["no json", "{}", '{"chosen": {"batch_rows": "many", "workers": 1}, "machine": {"cpu": "", "cores": 1}}'])
def test_a_file_that_is_no_tuning_ends_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "revision.tuning"
    file.write_text(text)
    with pytest.raises(SettingsWrong, match=r"tuning revision\.tuning cannot be read"):
        tuned(file)


def test_a_tuned_number_out_of_bounds_ends_the_start(tmp_path: Path) -> None:
    file = beside(tmp_path / "revision")
    file.write_text(json.dumps({"chosen": {"batch_rows": 32, "workers": 10_000}, "machine": machine()}))
    with pytest.raises(SettingsWrong, match="WORKERS: must be a whole number from 1 to 64"):
        read(tmp_path / "revision")
