"""Archives from elsewhere: symlink writes (CVE-2026-27905 of BentoML), names that leave the folder, devices, bombs."""

from __future__ import annotations

import stat
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import InputError, Refused
from policies.archives import Bounds, unpack
from support.hostile_archives import BOMBS, CLASHES, LINKS, NAMES, member, tar, zip_of

BOUNDS = Bounds(files=100, file=1 << 20, total=8 << 20, ratio=1000)


def kept_inside(folder: Path, archive: Path, bounds: Bounds = BOUNDS) -> None:
    """Assert that an archive is refused and that nothing of it is left, neither outside nor inside."""
    before = set(folder.rglob("*"))
    with pytest.raises(Refused):
        unpack(archive, folder / "to", bounds)
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "members",
    LINKS,
    ids=lambda members: members[0].name + str(members[0].type),
)
def test_tar_links_and_devices_are_refused_so_that_nothing_is_written_through_them(
    tmp_path: Path, members: tuple[tarfile.TarInfo, ...]
) -> None:
    kept_inside(tmp_path, tar(tmp_path, *members))


@pytest.mark.parametrize("name", NAMES)
def test_path_traversal_by_a_members_name_is_refused(tmp_path: Path, name: str) -> None:
    kept_inside(tmp_path, tar(tmp_path, member(name)))
    (tmp_path / "a.tar").unlink()
    kept_inside(tmp_path, zip_of(tmp_path, name))


@pytest.mark.parametrize(
    "names",
    CLASHES,
)
def test_two_members_that_a_file_system_may_take_for_one_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    kept_inside(tmp_path, tar(tmp_path, *(member(name) for name in names)))
    (tmp_path / "a.tar").unlink()
    kept_inside(tmp_path, zip_of(tmp_path, *names))


def test_a_zip_link_is_refused(tmp_path: Path) -> None:
    kept_inside(tmp_path, zip_of(tmp_path, "link", mode=stat.S_IFLNK | 0o777))


def test_a_name_that_zipfile_would_cut_at_a_zero_byte_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path, "name.jsonXexe")
    archive.write_bytes(archive.read_bytes().replace(b"jsonXexe", b"json\0exe"))
    kept_inside(tmp_path, archive)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path, "a")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 8
    data[at : at + 2] = struct.pack("<H", 1)
    archive.write_bytes(bytes(data))
    kept_inside(tmp_path, archive)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_a_thousand_to_one_is_refused_in_little_memory(tmp_path: Path, bomb: Callable[[Path, int], Path]) -> None:
    archive = bomb(tmp_path, 16 << 20)
    assert archive.stat().st_size < 32 << 10
    tracemalloc.start()
    kept_inside(tmp_path, archive, replace(BOUNDS, file=1 << 30, total=1 << 30, ratio=100))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("bounds", [{"files": 2}, {"file": 2}, {"total": 8}])
def test_more_than_the_bounds_allow_is_refused(tmp_path: Path, bounds: dict[str, int]) -> None:
    archive = tar(tmp_path, *(member(name) for name in "abc"))
    assert unpack(archive, tmp_path / "whole", BOUNDS) == 3
    kept_inside(tmp_path, archive, replace(BOUNDS, **bounds))


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b broken", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_wrong_or_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    try:
        assert unpack(tmp_path / "a", tmp_path / "to", BOUNDS) == 0
    except InputError:
        assert not (tmp_path / "to").exists()


def test_plain_files_arrive_in_their_folders_without_anybody_elses_rights(tmp_path: Path) -> None:
    given = [member("./a/b.json"), member("c.json")]
    given[0].mode = 0o6777
    unpack(tar(tmp_path, member("a", tarfile.DIRTYPE), *given, mode="w"), tmp_path / "to", BOUNDS)
    assert (tmp_path / "to/a/b.json").read_bytes() == b"xxx"
    assert (tmp_path / "to/a/b.json").stat().st_mode & 0o7111 == 0
    unpack(zip_of(tmp_path, "a/", "a/b.json"), tmp_path / "too", BOUNDS)
    assert (tmp_path / "too/a/b.json").read_bytes() == b"xyz"
