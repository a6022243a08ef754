"""A revision's digest depends on its files' paths, modes and bytes, and on nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cutting import PART_BYTES, in_blocks
from fleet.errors import IntegrityError
from fleet.manifest import Manifest, manifest_named, manifest_of, safe_path


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def test_two_copies_made_at_different_times_agree(tmp_path: Path) -> None:
    files = {"src/a.py": b"a", "model/weights": b"\x00" * 10}
    first, second = tree(tmp_path / "one", files), tree(tmp_path / "two", dict(reversed(files.items())))
    os.utime(second / "src/a.py", (0, 0))
    assert manifest_of(first).digest == manifest_of(second).digest


@pytest.mark.parametrize("change", ["flip", "rename", "add", "remove", "mode"])
def test_any_change_changes_the_digest(tmp_path: Path, change: str) -> None:
    root = tree(tmp_path / "tree", {"a": b"first", "b": b"second"})
    before = manifest_of(root).digest
    match change:
        case "flip":
            (root / "a").write_bytes(b"fIrst")
        case "rename":
            (root / "a").rename(root / "c")
        case "add":
            (root / ".hidden").write_bytes(b"")
        case "remove":
            (root / "b").unlink()
        case "mode":
            (root / "a").chmod(0o755)
    assert manifest_of(root).digest != before


def test_a_link_cannot_be_packaged(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", {"a": b"first"})
    (root / "b").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match="only plain files"):
        manifest_of(root)


def test_a_folder_is_known_by_the_cut_of_an_earlier_convoy_too(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", {"model.txt": b"".join(b"%d " % number for number in range(40_000))})
    (earlier,) = manifest_of(root, in_blocks).entries
    assert [part.size for part in earlier.parts] == [earlier.size]
    now, then = manifest_of(root), manifest_of(root, in_blocks)
    assert now.digest != then.digest
    assert manifest_named(root, then.digest) == then
    assert manifest_named(root, now.digest) == now
    (root / "model.txt").write_bytes(b"other")
    assert manifest_named(root, then.digest).digest not in (now.digest, then.digest)
    assert Manifest.from_bytes(then.to_bytes()) == then


def test_a_large_file_comes_in_blocks_of_32_mib_as_it_did_before_it_was_cut_by_content(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    with (root / "large").open("wb") as file:
        file.truncate(PART_BYTES * 2 + 5)
    (entry,) = manifest_of(root, in_blocks).entries
    assert [part.size for part in entry.parts] == [PART_BYTES, PART_BYTES, 5]
    # As the first Convoy named it
    assert manifest_of(root, in_blocks).digest == "sha256:9eb1edbeb72a5dcf301f0a03474d545cc8af5be9cbc7a0df1d7b82cc385c04e9"


PATHS = st.lists(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.integers(0, 9)))
def test_a_manifest_reads_back_as_it_was(paths: dict[str, int]) -> None:
    from fleet.canonical import digest_of
    from fleet.manifest import Entry, Part

    entries = tuple(Entry(path, 0o644, size, digest_of(b"x"), (Part(digest_of(b"x"), size),)) for path, size in sorted(paths.items()))
    assert Manifest.from_bytes(Manifest(entries).to_bytes()) == Manifest(entries)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", "a\\b", "a\0b"])
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(IntegrityError):
        safe_path(path)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"mediaType": "x", "files": []}'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        Manifest.from_bytes(data)
