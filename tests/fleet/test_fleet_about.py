"""What Convoy says of itself is what it was built as."""

from __future__ import annotations

import tomllib
from pathlib import Path

from fleet.about import VERSION


def test_the_version_is_the_packages_own() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
