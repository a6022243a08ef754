"""Layers laid over one another, as an engine would."""

from __future__ import annotations

import gzip
import io
import resource
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bentos.oci.kinds import LAYER
from bentos.oci.layout import Layout
from bentos.oci.unpack import unpack_image
from fleet.errors import ConvoyError, IntegrityError, NotSupported, OperationFailed
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


def test_a_whiteout_hides_what_lower_layers_have_and_not_what_its_own_layer_has(tmp_path: Path) -> None:
    """As the specification has it, in whatever order they stand: https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md."""
    below = plain({"a/old": b"1", "a/deep/old": b"2", "gone": b"3"})
    above = plain({"a/+new": b"n", "a/deep/new": b"n", "a/.wh..wh..opq": b"", "gone": b"again", ".wh.gone": b""})
    root = unpacked(tmp_path, below, above)
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found == {"a/+new": b"n", "a/deep/new": b"n", "gone": b"again"}


def test_a_hard_link_to_itself_is_the_file_that_is_there(tmp_path: Path) -> None:
    root = unpacked(tmp_path, plain({"file": b"old"}), tar_of(entry("file", tarfile.LNKTYPE, "/file")))
    assert (root / "file").read_bytes() == b"old"


def headers(count: int, size: int = 10) -> bytes:
    """Headers about an entry that never comes, each of its own key."""
    made = [tarfile.TarInfo._create_pax_generic_header({f"key{number}": "x" * size}, tarfile.XGLTYPE, "utf-8") for number in range(count)]
    return b"".join(made) + tar_of(entry("file", tarfile.REGTYPE))


def sparse(name: str) -> bytes:
    """A file of holes, whose map stands in its data."""
    info = entry(name, tarfile.REGTYPE)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": "512"}
    data = b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512
    info.size = len(data)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(1024)


def negative() -> bytes:
    info = entry("file", tarfile.REGTYPE)
    info.size = -512
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    "layer",
    [
        plain({"/".join("d" * 500) + "/file": b"x"}),
        plain({"n" * 300: b"x"}),
        plain({"link": "t" * 5000}),
        tar_of(entry("link", tarfile.SYMTYPE, "")),
        headers(2000),
        headers(20, 1_000_000),
        sparse("holes"),
        tar_of(entry("holes", tarfile.GNUTYPE_SPARSE)),
        negative(),
    ],
    ids=["deep", "long name", "long link", "empty link", "chained headers", "large headers", "holes", "old holes", "negative"],
)
def test_what_would_take_all_memory_or_no_file_system_holds_is_the_images_fault(layer: bytes, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        unpacked(tmp_path, layer)


def test_many_entries_with_long_headers_take_little_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(500):
            info = tarfile.TarInfo(f"file{number}")
            info.pax_headers = {"comment": "x" * 20_000}
            tar.addfile(info)
    layer = buffer.getvalue()
    tracemalloc.start()
    try:
        unpacked(tmp_path, layer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_takes_no_more_is_not_the_images_fault(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layer = layout.put(plain({"file": b"x" * 100_000}), LAYER)
    with no_file_larger_than(1000), pytest.raises(OperationFailed, match="could not be unpacked"):
        unpack_image(layout, {"layers": [layer.as_json()]}, tmp_path / "root")
