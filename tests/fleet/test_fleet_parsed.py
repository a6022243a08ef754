"""A large fleet file is parsed once; what was kept of it says exactly what the file says, or is not believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import FleetFileError
from fleet.parsed import SMALLEST, keep_parsed, parsed_before
from fleet.reading import fleet_of
from support.stack import toy_fleet

MODELS = tuple(f"m{number}" for number in range(100))


def large(**more: Any) -> bytes:
    text = json.dumps(toy_fleet(MODELS) | more, indent=1).encode()
    assert len(text) > SMALLEST
    return text


def test_a_large_text_is_read_again_from_what_was_kept_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = large()
    first = fleet_of(text, "fleet.yaml", tmp_path)
    monkeypatch.setattr("ruamel.yaml.YAML.load", lambda *_: pytest.fail("it was parsed again"))
    again = fleet_of(text, "fleet.yaml", tmp_path)
    assert again == first
    assert again.models["m0"].canary.model_fields_set == first.models["m0"].canary.model_fields_set


def test_another_text_is_another_file_and_a_spoilt_one_is_parsed_again(tmp_path: Path) -> None:
    first, second = fleet_of(large(), "fleet.yaml", tmp_path), fleet_of(large(name="other"), "fleet.yaml", tmp_path)
    assert (first.name, second.name) == ("tests", "other")
    for file in tmp_path.glob("*.json"):
        file.write_bytes(b"{")
    assert fleet_of(large(), "fleet.yaml", tmp_path) == first


def test_what_is_wrong_is_told_with_its_line_and_never_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(FleetFileError, match=r"surprise \(line \d+\)"):
            fleet_of(large(surprise=1), "fleet.yaml", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_json_cannot_say_is_not_kept_and_only_the_newest_few_are(tmp_path: Path) -> None:
    import datetime

    text = b"x" * SMALLEST
    keep_parsed(tmp_path, text, {"day": datetime.date(2026, 1, 1)})
    keep_parsed(tmp_path, text, {1: "a key that is no text"})
    assert parsed_before(tmp_path, text) is None
    for number in range(8):
        keep_parsed(tmp_path, text + str(number).encode(), {"number": number})
    assert len(list(tmp_path.iterdir())) == 4
    assert parsed_before(tmp_path, text + b"7") == {"number": 7}


def test_a_home_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert fleet_of(large(), "fleet.yaml", tmp_path / "file").name == "tests"
