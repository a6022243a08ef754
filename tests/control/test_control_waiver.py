"""`convoy waiver`: from a key to a waiver that holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from control.cli import app
from fleet.errors import ConvoyError
from support.rights import a_model


@pytest.fixture
def convoy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Give a command to `convoy waiver` in a home; gives its exit code and what it printed, also to stderr."""
    monkeypatch.setenv("CONVOY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        try:
            code = app(["waiver", *arguments], standalone_mode=False) or 0
        except ConvoyError as problem:
            code = problem.exit_code
        return int(code), capsys.readouterr().out

    return run


def declare(folder: Path, keys: dict[str, str]) -> None:
    model = a_model().model_dump(mode="json", exclude_unset=True)
    model["gates"] = {"waivers": {"folder": "waivers", "keys": keys}}
    region = {"target": "local", "provider": "aws", "place": "here", "jurisdiction": "US"}
    with (folder / "fleet.yaml").open("w") as file:
        YAML().dump({"version": 1, "name": "toy", "regions": {"here": region}, "models": {"toy": model}}, file)


def test_two_people_make_a_waiver_and_whoever_checks_it_hears_who_signed(convoy: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    keys = {}
    for name in ("anna", "ben"):
        code, keys[name] = convoy("key", f"{name}.pem")
        keys[name] = keys[name].strip()
        assert code == 0
        assert "PRIVATE" not in keys[name]
        assert (tmp_path / f"{name}.pem").stat().st_mode & 0o777 == 0o600
    declare(tmp_path, keys)
    (tmp_path / "waivers").mkdir()
    told = ["draft", "licences", "ghost 1.0", "--model", "toy", "--version", "3", "--reason", "bought", "--to", "waivers/ghost.json"]
    assert convoy(*told)[0] == 0
    assert convoy(*told)[0] == 2, "a waiver is never written over"
    assert convoy("sign", "waivers/ghost.json", "--key", "anna.pem")[0] == 0
    code, said = convoy("check", "waivers/ghost.json")
    assert code == 2
    assert "signed by anna of the declared people" in " ".join(said.split())
    said = convoy("sign", "waivers/ghost.json", "--key", "ben.pem")[1]
    assert "gate 'licences' lets 'ghost 1.0' go, in toy version 3" in " ".join(said.split()), "what is signed is shown"
    code, said = convoy("check", "waivers/ghost.json", "--json")
    answer = json.loads(said)
    assert (code, answer["holds"], answer["signed_by"], answer["thing"]) == (0, True, ["anna", "ben"], "ghost 1.0")
    assert convoy("check", "waivers/ghost.json", "--version", "4")[0] == 2
