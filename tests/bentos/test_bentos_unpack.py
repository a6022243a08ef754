"""Layers laid over one another, as an engine would."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from bentos.oci.kinds import LAYER
from bentos.oci.layout import Layout
from bentos.oci.unpack import unpack_image
from fleet.errors import ConvoyError, IntegrityError, NotSupported
from support.images import layer_of


def unpacked(place: Path, *layers: bytes) -> Path:
    layout = Layout(place / "layout")
    manifest = {"layers": [layout.put(data, LAYER).as_json() for data in layers]}
    unpack_image(layout, manifest, place / "root")
    return place / "root"


def plain(files: dict[str, bytes | str]) -> bytes:
    return layer_of(files, packed=False)[0]


def test_a_later_layer_replaces_and_whites_out_what_an_earlier_one_has(tmp_path: Path) -> None:
    below = plain({"a/one": b"1", "a/two": b"2", "b/three": b"3", "c/four": b"4", "file": b"old", "link": "file"})
    above = plain({"a/.wh.one": b"", "b/.wh..wh..opq": b"", "b/new": b"n", ".wh.c": b"", "file": b"new", "link": b"no link any more"})
    root = unpacked(tmp_path, below, above)

    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found == {"a/two": b"2", "b/new": b"n", "file": b"new", "link": b"no link any more"}
    assert not (root / "link").is_symlink()


@pytest.mark.parametrize(
    "files",
    [
        {"../escaped": b"x"},
        {"out": "../..", "out/escaped": b"x"},
        {"away": "../outside", "away/.wh.kept": b""},
    ],
)
def test_an_entry_that_would_leave_the_folder_is_refused_and_nothing_is_written_outside(
    files: dict[str, bytes | str], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    before = set(tmp_path.parent.rglob("escaped"))
    with pytest.raises(IntegrityError):
        unpacked(tmp_path, plain(files))

    assert set(tmp_path.parent.rglob("escaped")) == before
    assert (tmp_path / "outside" / "kept").exists()


def entry(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, to, 0o777
    return info


def tar_of(*infos: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in infos:
            tar.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("by", ["above", "absolute", "through a link", "to a link"])
def test_a_hard_link_gives_nobody_a_file_outside_of_the_image(by: str, tmp_path: Path) -> None:
    secret = tmp_path / "outside" / "secret"
    secret.parent.mkdir()
    secret.touch(0o600)
    away, to_it = entry("away", tarfile.SYMTYPE, str(secret.parent)), entry("it", tarfile.SYMTYPE, str(secret))
    links = {
        "above": (entry("link", tarfile.LNKTYPE, "../outside/secret"),),
        "absolute": (entry("link", tarfile.LNKTYPE, str(secret)),),
        "through a link": (away, entry("link", tarfile.LNKTYPE, "away/secret")),
        "to a link": (to_it, entry("link", tarfile.LNKTYPE, "it")),
    }
    with pytest.raises(IntegrityError, match=r"leaves the image|no file of the image"):
        unpacked(tmp_path, tar_of(*links[by]))
    assert (secret.stat().st_nlink, secret.stat().st_mode & 0o777) == (1, 0o600)


def test_a_hard_link_within_the_image_is_one_file_under_two_names(tmp_path: Path) -> None:
    file = tarfile.TarInfo("usr/bin/one")
    file.mode = 0o755
    root = unpacked(tmp_path, plain({"link": b"old"}), tar_of(file, entry("link", tarfile.LNKTYPE, "/usr/bin/one")))
    assert (root / "link").samefile(root / "usr/bin/one")


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "a/.wh..."])
def test_a_whiteout_of_no_name_removes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "beside").touch()
    with pytest.raises(IntegrityError, match="leaves the image"):
        unpacked(tmp_path, plain({"a/one": b"1"}), plain({name: b""}))
    assert (tmp_path / "root/a/one").is_file()
    assert (tmp_path / "beside").is_file()


@pytest.mark.parametrize("kind", [tarfile.BLKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_of_a_layer_are_refused(kind: bytes, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is a device, a socket or a pipe"):
        unpacked(tmp_path, tar_of(entry("one", kind)))
    assert not (tmp_path / "root/one").exists()


def test_a_file_takes_the_place_of_a_folder_and_what_is_not_there_cannot_be_whited_out(tmp_path: Path) -> None:
    root = unpacked(tmp_path, plain({"a/one": b"1"}), plain({"a": b"file", "none/.wh..wh..opq": b"", "none/.wh.file": b""}))
    assert (root / "a").read_bytes() == b"file"


@pytest.mark.parametrize(
    ("data", "kind", "wrong"),
    [
        (b"no gzip at all", f"{LAYER}+gzip", IntegrityError),
        (gzip.compress(bytes(9999), mtime=0)[:30] + b"and then no more", f"{LAYER}+gzip", IntegrityError),
        (b"any", f"{LAYER}+zstd", NotSupported),
        (plain({"file": b"", "file/below": b""}), LAYER, IntegrityError),
    ],
)
def test_a_layer_that_cannot_be_unpacked_is_an_error_of_ours(data: bytes, kind: str, wrong: type[ConvoyError], tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    with pytest.raises(wrong):
        unpack_image(layout, {"layers": [layout.put(data, kind).as_json()]}, tmp_path / "root")
