"""A container of a model's owner becomes a revision: its layout and the model, one digest; hostile layouts become nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bentos.container import image as images
from bentos.container.build import Asked, build_contained, lay_root
from bentos.oci.kinds import CONFIG, INDEX, LAYER, MANIFEST, Descriptor
from bentos.oci.layout import Layout
from bentos.oci.unpack import Bounds
from fleet.contained import contained_in, root_digest, root_of
from fleet.errors import ConvoyError, InputError, IntegrityError, NotSupported, OperationFailed
from fleet.manifest import Manifest, manifest_of
from support.images import layer_of

FILES: dict[str, bytes | str] = {"usr/bin/serve": b"#!", "bin": "usr/bin", "etc/motd": b"hello"}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, data: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def layout_of(folder: Path, *layers: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None, **config: Any) -> str:
    """Write a layout of plain layers and give the digest of its image; `change` spoils manifest and configuration."""
    layout = Layout(folder)
    blobs = [layout.put(data, LAYER) for data in layers or (layer_of(FILES, packed=False)[0],)]
    settings = {"Entrypoint": ["/bin/serve"], "Cmd": ["--quick"], "Env": ["A=b"], "User": "65532", "WorkingDir": "/etc"} | config
    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [blob.digest for blob in blobs]},
    }
    manifest: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [blob.as_json() for blob in blobs]}
    if change is not None:
        change(manifest, document)
    manifest["config"] = layout.put(json.dumps(document).encode(), CONFIG).as_json()
    found = layout.put_json(manifest, MANIFEST)
    layout.finish([found])
    return found.digest


def model_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "weights").write_bytes(b"w" * 100)
    return folder


def built(place: Path, *layers: bytes, name: str = "revision", **config: Any) -> Manifest:
    digest = layout_of(place / "layout", *layers, **config)
    model = place / "model"
    if not model.exists():
        model_in(model)
    return build_contained(model, "toy", "1", place / name, Asked(place / "layout", digest))


def test_a_revision_has_the_image_and_the_model_and_says_how_it_is_started(tmp_path: Path) -> None:
    manifest = built(tmp_path)
    told = contained_in(tmp_path / "revision")

    assert manifest == manifest_of(tmp_path / "revision")
    assert {"src/model/MLmodel", "src/model/weights", "src/container.json", "container/index.json", "container/oci-layout"} <= {
        entry.path for entry in manifest.entries
    }
    assert (told.words, told.variables, told.folder, told.architecture) == (("/bin/serve", "--quick"), ("A=b",), "/etc", "amd64")
    assert json.loads((tmp_path / "revision/src/revision.json").read_text()) == {"model": "toy", "version": "1"}
    taken = Layout(tmp_path / "revision/container")
    (only,) = taken.manifests()
    assert only.digest == told.image
    assert Descriptor.of_json(taken.read(only)["config"], "").digest in {
        f"sha256:{path.name}" for path in (taken.root / "blobs/sha256").iterdir()
    }


def test_two_builds_agree_whatever_the_umask_and_what_else_lies_in_the_layout(tmp_path: Path) -> None:
    first = built(tmp_path / "one")
    before = os.umask(0o077)
    try:
        digest = layout_of(tmp_path / "two/layout")
        Layout(tmp_path / "two/layout").put(b"something else", LAYER)
        model_in(tmp_path / "two/model")
        second = build_contained(tmp_path / "two/model", "toy", "1", tmp_path / "two/revision", Asked(tmp_path / "two/layout", digest))
    finally:
        os.umask(before)

    assert second.digest == first.digest
    (tmp_path / "one/model/weights").write_bytes(b"v" * 100)
    other_model = built(tmp_path / "one", name="again")
    other_image = built(tmp_path / "three", layer_of(FILES | {"etc/motd": b"bye"}, packed=False)[0])
    assert len({first.digest, other_model.digest, other_image.digest}) == 3


def test_the_root_is_laid_beside_the_revision_and_is_the_one_that_it_names(tmp_path: Path) -> None:
    built(tmp_path)
    revision = tmp_path / "revision"
    laid = lay_root(revision)

    assert laid == root_of(revision)
    assert root_digest(laid) == contained_in(revision).root
    assert (laid / "bin/serve").read_bytes() == b"#!"
    assert all((laid / place).is_dir() for place in ("tmp", "proc", "dev", "opt/convoy/revision"))
    assert lay_root(revision) == laid
    assert not list(tmp_path.glob(".*"))


def test_a_root_that_the_layers_do_not_give_is_not_laid(tmp_path: Path) -> None:
    built(tmp_path)
    file = tmp_path / "revision/src/container.json"
    file.write_bytes(file.read_bytes().replace(contained_in(tmp_path / "revision").root.encode(), b"sha256:" + b"0" * 64))
    with pytest.raises(IntegrityError, match="gives the root"):
        lay_root(tmp_path / "revision")
    assert not root_of(tmp_path / "revision").exists()


def devices() -> dict[str, bytes]:
    return {
        "a device": tar_of(member("dev/sda", type=tarfile.BLKTYPE, devmajor=8)),
        "a character device": tar_of(member("dev/mem", type=tarfile.CHRTYPE, devmajor=1)),
        "a pipe": tar_of(member("pipe", type=tarfile.FIFOTYPE)),
    }


HOSTILE = {
    "a path that climbs": (tar_of(member("../escaped", b"x")), "leaves the image"),
    "a link that climbs": (layer_of({"out": "../..", "out/escaped": b"x"}, packed=False)[0], "leaves the image"),
    "links in a circle": (layer_of({"a": "b", "b": "a", "a/escaped": b"x"}, packed=False)[0], "a circle of links"),
    "a hard link out": (tar_of(member("x", type=tarfile.LNKTYPE, linkname="../../etc/passwd")), "leaves the image"),
    "a hard link to a link": (
        tar_of(member("l", type=tarfile.SYMTYPE, linkname="/etc/passwd"), member("x", type=tarfile.LNKTYPE, linkname="l")),
        "no file of the image",
    ),
    "a whiteout of the root": (tar_of(member(".wh..", b"")), "leaves the image"),
    "a setuid file": (tar_of(member("usr/bin/su", b"x", mode=0o4755)), "give rights to whoever runs them: usr/bin/su"),
    "a setgid file behind a link": (
        tar_of(member("bin", type=tarfile.SYMTYPE, linkname="usr/bin"), member("bin/wall", b"x", mode=0o2755)),
        "give rights to whoever runs them: usr/bin/wall",
    ),
    "a file with capabilities": (
        tar_of(member("ping", b"x", pax_headers={"SCHILY.xattr.security.capability": "AQAAAg=="})),
        "give rights to whoever runs them: ping",
    ),
    "a link where things are shown": (layer_of({"opt": "/etc"}, packed=False)[0], "/opt/convoy/revision: is no folder"),
    "a file where /tmp is": (layer_of({"tmp": b"x"}, packed=False)[0], "/tmp: is no folder"),
    "a long header": (tar_of(member("x", b"x", pax_headers={"comment": "c" * (2 << 20)})), "cannot be unpacked"),
    "no tar": (b"x" * 4096, "cannot be unpacked"),
} | {name: (data, "is a device, a socket or a pipe") for name, data in devices().items()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_layer_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(IntegrityError) as told:
        built(tmp_path / "inner", data)

    assert reason in str(told.value), str(told.value)
    assert not [path for path in tmp_path.parent.rglob("escaped") if path.is_file()]
    assert {path.name for path in (tmp_path / "inner").iterdir()} == {"layout", "model"}


def test_bits_that_a_later_layer_takes_away_are_gone(tmp_path: Path) -> None:
    below = tar_of(member("usr/bin/su", b"x", mode=0o4755), member("usr/bin/wall", b"x", mode=0o2755), member("serve", b"x", mode=0o755))
    above = tar_of(member("usr/bin/su", b"x", mode=0o755), member("usr/bin/.wh.wall", b""))
    built(tmp_path, below, above)
    laid = lay_root(tmp_path / "revision")
    assert [path.name for path in (laid / "usr/bin").iterdir()] == ["su"]


def test_a_link_that_is_absolute_in_the_image_is_followed_within_it(tmp_path: Path) -> None:
    """As an engine does; and nothing lands in the folder of that name of this machine."""
    data = tar_of(
        member("usr/lib", type=tarfile.DIRTYPE, mode=0o755),
        member("lib", type=tarfile.SYMTYPE, linkname="/usr/lib"),
        member("lib/convoy-was-here", b"x", mode=0o644),
    )
    built(tmp_path, data)
    assert (lay_root(tmp_path / "revision") / "usr/lib/convoy-was-here").is_file()
    assert not Path("/usr/lib/convoy-was-here").exists()


def test_more_files_or_bytes_than_an_image_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.container.build.BOUNDS", Bounds(file_bytes=1000, entries=10))
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        built(tmp_path / "bytes", layer_of({"big": b"x" * 1001}, packed=False)[0])
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        built(tmp_path / "entries", layer_of({f"f{number}": b"" for number in range(11)}, packed=False)[0])


def test_a_layer_that_unpacks_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BOUNDS", Bounds(file_bytes=1 << 20))

    def packed(manifest: dict[str, Any], document: dict[str, Any]) -> None:
        blob = Layout(tmp_path / "layout").put(gzip.compress(bytes(8 << 20)), f"{LAYER}+gzip")
        manifest["layers"] = [blob.as_json()]

    with pytest.raises(IntegrityError, match="unpacks to more than"):
        built(tmp_path, change=packed)


def test_layers_that_unpack_without_end_together_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "BOUNDS", Bounds(file_bytes=1 << 20))
    layers = [layer_of({f"file{number}": bytes(1 << 20)}, packed=False)[0] for number in range(3)]

    def packed(manifest: dict[str, Any], document: dict[str, Any]) -> None:
        blobs = [Layout(tmp_path / "layout").put(gzip.compress(data), f"{LAYER}+gzip") for data in layers]
        manifest["layers"] = [blob.as_json() for blob in blobs]

    with pytest.raises(IntegrityError, match="unpacks to more than"):
        built(tmp_path, *layers, change=packed)


def flipped(folder: Path, which: int) -> None:
    blobs = sorted((folder / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(blobs[which].read_bytes())
    data[len(data) // 2] ^= 1
    blobs[which].write_bytes(data)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_changed_byte_in_any_blob_is_refused(which: int, tmp_path: Path) -> None:
    digest = layout_of(tmp_path / "layout")
    flipped(tmp_path / "layout", which)
    with pytest.raises(IntegrityError, match="other bytes than its name says"):
        build_contained(model_in(tmp_path / "model"), "toy", "1", tmp_path / "revision", Asked(tmp_path / "layout", digest))


@pytest.mark.parametrize("kind", ["a device", "a pipe"])
@pytest.mark.parametrize("which", ["config", "layers"])
def test_a_blob_without_an_end_is_not_read(kind: str, which: str, tmp_path: Path) -> None:
    digest, layout = layout_of(tmp_path / "layout"), Layout(tmp_path / "layout")
    named = json.loads(layout.blob(digest).read_bytes())[which]
    blob = layout.blob((named if which == "config" else named[0])["digest"])
    blob.unlink()
    if kind == "a pipe":
        os.mkfifo(blob)
    else:
        blob.symlink_to("/dev/zero")
    with pytest.raises(IntegrityError, match="is no file"):
        build_contained(model_in(tmp_path / "model"), "toy", "1", tmp_path / "revision", Asked(tmp_path / "layout", digest))


def test_a_root_that_cannot_be_laid_for_reasons_of_the_machine_is_an_error_of_ours(tmp_path: Path) -> None:
    built(tmp_path)
    revision = (tmp_path / "revision").rename(tmp_path / ("r" * 250))
    with pytest.raises(OperationFailed, match="could not be laid out"):
        lay_root(revision)


SPOILT: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], type[ConvoyError], str]] = {
    "another size": (lambda manifest, _: manifest["layers"][0].update(size=7), IntegrityError, "has not the 7 bytes"),
    "another uncompressed digest": (
        lambda _, config: config["rootfs"].update(diff_ids=["sha256:" + "0" * 64]),
        IntegrityError,
        "not to sha256:000",
    ),
    "fewer layers than named": (lambda _, config: config["rootfs"].update(diff_ids=[]), IntegrityError, "names others"),
    "a layer that is missing": (
        lambda manifest, _: manifest["layers"][0].update(digest="sha256:" + "1" * 64),
        IntegrityError,
        "cannot be read",
    ),
    "a digest that climbs": (
        lambda manifest, _: manifest["layers"][0].update(digest="sha256:../../../../etc/passwd"),
        IntegrityError,
        "a descriptor that is none",
    ),
    "a kind of layer that is not read": (
        lambda manifest, _: manifest["layers"][0].update(mediaType=f"{LAYER}+zstd"),
        NotSupported,
        "layer of type",
    ),
    "another system": (lambda _, config: config.update(os="windows"), InputError, "is for windows"),
    "another machine": (lambda _, config: config.update(architecture="s390x"), InputError, "is for linux/s390x"),
    "root": (lambda _, config: config["config"].update(User="0:0"), InputError, "runs as 0:0"),
    "nobody named": (lambda _, config: config["config"].pop("User"), InputError, "runs as root"),
    "a name": (lambda _, config: config["config"].update(User="app"), InputError, "runs as app"),
    "no command": (lambda _, config: config["config"].update(Entrypoint=None, Cmd=None), InputError, "has no command"),
    "a command that is a text": (lambda _, config: config["config"].update(Entrypoint="/bin/serve"), InputError, "no list of texts"),
    "a variable without a name": (
        lambda _, config: config["config"].update(Env=["=b"]),
        InputError,
        "a variable without a name or a value",
    ),
    "a command of half a sign": (lambda _, config: config["config"].update(Cmd=["\ud800"]), InputError, "no list of texts"),
    "a folder of half a sign": (lambda _, config: config["config"].update(WorkingDir="/\ud800"), InputError, "not absolute"),
    "more words than a revision may say": (
        lambda _, config: config["config"].update(Env=[f"A{number}={'x' * 30_000}" for number in range(100)]),
        InputError,
        "are longer than",
    ),
    "a variable that is none": (lambda _, config: config["config"].update(Env=["A"]), InputError, "a variable without a name or a value"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_an_image_that_is_not_what_it_says_or_cannot_be_served_is_refused(name: str, tmp_path: Path) -> None:
    change, kind, reason = SPOILT[name]
    with pytest.raises(kind) as told:
        built(tmp_path, change=change)
    assert reason in str(told.value), str(told.value)


def test_what_is_no_layout_or_another_image_is_said(tmp_path: Path) -> None:
    digest = layout_of(tmp_path / "layout")
    model = model_in(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is no OCI layout"):
        build_contained(model, "toy", "1", tmp_path / "to", Asked(tmp_path / "empty", digest))
    with pytest.raises(InputError, match="holds no image sha256:000"):
        build_contained(model, "toy", "1", tmp_path / "to", Asked(tmp_path / "layout", "sha256:" + "0" * 64))
    layout = Layout(tmp_path / "layout")
    listed = {"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
    index = layout.put_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}, INDEX)
    with pytest.raises(InputError, match=f"an index over several platforms: linux/amd64 {digest}"):
        build_contained(model, "toy", "1", tmp_path / "to", Asked(tmp_path / "layout", index.digest))
    shutil.rmtree(model)
    model.mkdir()
    with pytest.raises(InputError, match="is not an MLflow model"):
        build_contained(model, "toy", "1", tmp_path / "to", Asked(tmp_path / "layout", digest))
