"""Layers laid over one another, as an engine would."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from bentos.oci.kinds import LAYER
from bentos.oci.layout import Layout
from bentos.oci.unpack import unpack_image
from fleet.errors import IntegrityError
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


def test_a_hard_link_out_of_the_image_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("shadow")
        info.type, info.linkname = tarfile.LNKTYPE, "../outside"
        tar.addfile(info)

    with pytest.raises(IntegrityError, match="link out of the image"):
        unpacked(tmp_path, buffer.getvalue())
