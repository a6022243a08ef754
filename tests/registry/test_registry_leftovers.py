"""What a kill leaves beside a folder that was being built goes at the next use, and nothing else does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from registry.trees import LEFT_SECONDS, built_aside, left_aside


def old(folder: Path) -> Path:
    """A folder of that name with something in it, untouched for longer than an hour."""
    folder.mkdir()
    (folder / "half").write_text("of a file")
    then = time.time() - LEFT_SECONDS - 60
    os.utime(folder, (then, then))
    return folder


def test_what_a_killed_build_left_is_deleted_by_the_next_build_of_the_same_folder(tmp_path: Path) -> None:
    left = old(tmp_path / ".tree-a1b2c3d_")
    with built_aside(tmp_path / "tree") as aside:
        assert not left.exists()
        aside.rename(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize("name", [".other-a1b2c3d4", ".tree-short", ".tree-a1b2c3d4e", "tree-a1b2c3d4"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    kept = old(tmp_path / name)
    with built_aside(tmp_path / "tree"):
        pass
    assert kept.exists()


def test_a_young_leftover_stays_for_its_builder_may_have_just_begun(tmp_path: Path) -> None:
    (tmp_path / ".tree-a1b2c3d4").mkdir()
    assert left_aside(tmp_path, "tree") == ()


def test_a_build_that_takes_longer_than_an_hour_is_not_disturbed(tmp_path: Path) -> None:
    with built_aside(tmp_path / "tree") as aside:
        then = time.time() - LEFT_SECONDS - 60
        os.utime(aside, (then, then))
        assert left_aside(tmp_path, "tree") == ()
        with built_aside(tmp_path / "tree"):
            assert aside.exists()
    assert left_aside(tmp_path) == ()


def test_leftovers_of_every_name_are_found_for_whoever_looks(tmp_path: Path) -> None:
    left = {old(tmp_path / ".one-a1b2c3d4"), old(tmp_path / ".two-a1b2c3d4")}
    assert set(left_aside(tmp_path)) == left
