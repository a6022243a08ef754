"""Images as OCI layouts: what is in them, that they are the same every time, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from bentos.oci.contents import Contents, in_layer
from bentos.oci.environment import python_version
from bentos.oci.image import Beside, Image, Ingredients, write_image
from bentos.oci.kinds import INDEX, LAYER, Descriptor
from bentos.oci.layers import Item, write_layer
from bentos.oci.layout import Layout
from fleet.canonical import digest_of, digest_of_file
from fleet.errors import InputError, IntegrityError, NotSupported
from fleet.manifest import manifest_of
from support.images import (
    AMD64,
    ARM64,
    PYTHON,
    base_layout,
    elf,
    entries,
    image_for,
    layer_of,
    only_image,
    refs,
    revision_of,
    root_folder,
    same,
    stub_environment,
)

BILL = Beside("application/vnd.cyclonedx+json", b'{"bomFormat":"CycloneDX"}')


@pytest.fixture
def environment(logistic_bento: Path, tmp_path: Path) -> Path:
    return stub_environment(tmp_path / "environment", logistic_bento, fast=elf("amd64"))


@pytest.fixture
def image(logistic_bento: Path, environment: Path, tmp_path: Path) -> Image:
    return written(logistic_bento, tmp_path / "image", root_folder(tmp_path / "root"), environment)


def written(bento: Path, to: Path, base: Path, environment: Path, **more: object) -> Image:
    ingredients = Ingredients({AMD64: base}, {AMD64: environment}, beside=(BILL,), **more)  # type: ignore[arg-type]
    return write_image(bento, revision_of(bento), ingredients, to)


def test_two_packings_elsewhere_later_and_under_another_umask_are_one_image(logistic_bento, image, environment, tmp_path):
    bento, elsewhere = tmp_path / "other" / "bento", tmp_path / "other" / "environment"
    shutil.copytree(logistic_bento, bento)
    shutil.copytree(environment, elsewhere)
    (elsewhere / "__pycache__").mkdir()
    (elsewhere / "__pycache__" / "x.pyc").write_bytes(b"bytecode")
    for path in (*bento.rglob("*"), *elsewhere.rglob("*")):
        os.utime(path, (1, 1))
    root = root_folder(tmp_path / "other" / "root")
    old_mask = os.umask(0o077)
    try:
        again = written(bento, tmp_path / "again", root, elsewhere)
    finally:
        os.umask(old_mask)

    assert again == image
    assert same(tmp_path / "again", tmp_path / "image")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [], "something was left beside the image"


def test_every_blob_of_an_image_has_the_bytes_of_its_name_and_every_descriptor_its_size(image, tmp_path):
    layout = Layout(tmp_path / "image")
    index = only_image(tmp_path / "image")
    manifest, config = image_for(tmp_path / "image", AMD64)
    named = [Descriptor.of_json(each, "x") for each in (*index["manifests"], index["subject"], manifest["config"], *manifest["layers"])]

    assert image.digest == layout.manifests()[0].digest == digest_of(image.index)
    for found in named:
        assert digest_of_file(layout.blob(found.digest)) == found.digest
        assert layout.blob(found.digest).stat().st_size == found.size
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]], "layers are not compressed"
    assert len([entry for entry in config["history"] if not entry.get("empty_layer")]) == len(manifest["layers"])


def test_the_layers_are_base_environment_service_and_model(image, logistic_bento, tmp_path):
    manifest, _ = image_for(tmp_path / "image", AMD64)
    base, environment, service, model = (entries(tmp_path / "image", layer) for layer in manifest["layers"])

    assert base["bin"].linkname == "usr/bin"
    assert (base[f"usr/bin/{PYTHON}"].mode, base["tmp"].mode) == (0o755, 0o1777), "set-user-ID is left out, sticky is kept"
    assert "opt/convoy/environment/fast.so" in environment
    files = {path for path, entry in {**service, **model}.items() if entry.isfile()}
    assert files == {"opt/convoy/revision.manifest"} | {
        f"opt/convoy/revision/{found.path}" for found in manifest_of(logistic_bento).entries
    }
    assert all(path.startswith("opt/convoy/revision/src/model/") for path, entry in model.items() if entry.isfile())
    for layer in (base, environment, service, model):
        assert list(layer) == sorted(layer, key=lambda path: path.split("/"))
        assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) for entry in layer.values()} == {(0, 0, 0, "", "")}


def test_the_configuration_is_for_nobody_in_particular_needs_no_shell_and_names_the_revision(image, logistic_bento, tmp_path):
    manifest, document = image_for(tmp_path / "image", AMD64)
    config = document["config"]
    variables = dict(text.split("=", 1) for text in config["Env"])

    assert (document["os"], document["architecture"], document["created"]) == ("linux", "amd64", "1970-01-01T00:00:00Z")
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == [f"/usr/bin/{PYTHON}", "-m", "convoy_service"]
    assert "Cmd" not in config, "SageMaker appends a word of its own"
    assert (config["WorkingDir"], config["StopSignal"]) == ("/opt/convoy/revision/src", "SIGTERM")
    assert config["Volumes"] == {"/tmp": {}}
    assert variables["CONVOY_SERVICE_REVISION"] == config["Labels"]["convoy.revision"] == revision_of(logistic_bento).digest
    assert manifest["annotations"]["convoy.revision"] == revision_of(logistic_bento).digest
    assert variables["HOME"] == "/tmp"


def test_the_revision_is_the_subject_and_the_image_is_the_subject_of_its_bill(image, logistic_bento, tmp_path):
    layout = Layout(tmp_path / "image")
    manifest, _ = image_for(tmp_path / "image", AMD64)
    subject = only_image(tmp_path / "image")["subject"]
    named, bill = refs(tmp_path / "image")

    assert manifest["subject"] == subject
    assert subject["digest"] == revision_of(logistic_bento).digest
    assert layout.blob(subject["digest"]).read_bytes() == manifest_of(logistic_bento).to_bytes()
    assert (named["mediaType"], named["annotations"]["org.opencontainers.image.ref.name"]) == (INDEX, image.name)
    artifact = layout.read(Descriptor.of_json(bill, "index"))
    assert (artifact["artifactType"], artifact["subject"]["digest"]) == (BILL.media_type, image.digest)
    assert layout.blob(artifact["layers"][0]["digest"]).read_bytes() == BILL.data


def test_an_image_for_two_platforms_is_one_index_with_a_base_and_an_environment_each(logistic_bento, environment, tmp_path):
    base, pinned = base_layout(tmp_path / "base", AMD64, ARM64)
    other = stub_environment(tmp_path / "arm", logistic_bento, fast=elf("arm64"))
    ingredients = Ingredients({AMD64: base, ARM64: base}, {AMD64: environment, ARM64: other}, base_image=f"cuda@{pinned}")
    made = write_image(logistic_bento, revision_of(logistic_bento), ingredients, tmp_path / "image")

    (first, amd), (second, arm) = (image_for(tmp_path / "image", platform) for platform in (AMD64, ARM64))
    assert [str(platform) for platform in made.manifests] == ["linux/amd64", "linux/arm64"]
    assert (amd["architecture"], arm["architecture"]) == ("amd64", "arm64")
    assert len(first["layers"]) == len(second["layers"]) == 5
    assert first["layers"][3:] == second["layers"][3:], "service and model are the same for both"
    assert not {layer["digest"] for layer in first["layers"][:3:2]} & {layer["digest"] for layer in second["layers"][:3:2]}
    assert first["layers"][0]["mediaType"] == f"{LAYER}+gzip"
    assert "CUDA_VERSION=12.4" in amd["config"]["Env"]
    assert "PATH=/opt/nothing:/usr/bin" in amd["config"]["Env"]
    assert amd["config"]["Labels"]["maintainer"] == "somebody"
    assert amd["config"]["User"] == "65532:65532"
    assert first["annotations"]["org.opencontainers.image.base.name"] == f"cuda@{pinned}"


def test_resources_with_a_gpu_are_labels_and_ask_for_its_devices(logistic_bento, environment, tmp_path):
    written(
        logistic_bento,
        tmp_path / "image",
        root_folder(tmp_path / "root"),
        environment,
        resources={"gpu": 1, "gpu_type": "nvidia-l4", "gpu_slice": "mig-1g.6gb"},
    )
    config = image_for(tmp_path / "image", AMD64)[1]["config"]

    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(config["Env"])
    assert (config["Labels"]["convoy.resources.gpu"], config["Labels"]["convoy.resources.gpu_type"]) == ("1", "nvidia-l4")
    assert config["Labels"]["convoy.resources.gpu_slice"] == "mig-1g.6gb"


def test_a_layer_of_a_large_file_is_written_with_little_memory(tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(96 << 20)
    layout = Layout(tmp_path / "layout")
    tracemalloc.start()
    try:
        layer = layout.stream(lambda sink: write_layer([Item("opt/large", 0o644, large)], sink), LAYER)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert layer.size > 96 << 20
    assert peak < 8 << 20
    assert digest_of_file(layout.blob(layer.digest)) == layer.digest


def test_a_file_that_shrinks_while_it_is_read_fails_the_layer_and_leaves_no_blob(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    layout = Layout(tmp_path / "layout")

    real = os.fstat

    def fstat(number):
        found = real(number)
        if found.st_size == 1 << 20:
            os.truncate(file, 10)
        return found

    monkeypatch.setattr("bentos.oci.layers.os.fstat", fstat)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        layout.stream(lambda sink: write_layer([Item("a", 0o644, file)], sink), LAYER)
    assert list((tmp_path / "layout" / "blobs" / "sha256").iterdir()) == []


def test_a_path_that_leaves_the_image_is_refused():
    with pytest.raises(IntegrityError, match="leaves the image"):
        write_layer([Item("../etc/passwd")], open(os.devnull, "wb"))  # noqa: PTH123, SIM115


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        (lambda root: (root / "usr/bin" / PYTHON).unlink(), InputError, f"has no {PYTHON} on its path"),
        (lambda root: (root / "usr/bin" / PYTHON).write_bytes(elf("arm64")), NotSupported, "is of arm64, not linux/amd64"),
        (lambda root: os.mkfifo(root / "pipe"), IntegrityError, "a device, a socket or a pipe"),
    ],
)
def test_a_base_folder_that_could_not_run_the_service_is_refused(spoil, kind, told, logistic_bento, environment, tmp_path):
    root = root_folder(tmp_path / "root")
    spoil(root)

    with pytest.raises(kind, match=told):
        written(logistic_bento, tmp_path / "image", root, environment)
    assert not (tmp_path / "image").exists()


def test_a_python_that_is_a_link_out_of_the_base_is_no_python_of_it(logistic_bento, environment, tmp_path):
    root = root_folder(tmp_path / "root")
    (root / "usr/bin" / PYTHON).unlink()
    (root / "usr/bin" / PYTHON).symlink_to("/usr/bin/env")

    with pytest.raises(InputError, match=f"has no {PYTHON}"):
        written(logistic_bento, tmp_path / "image", root, environment)


def test_a_base_without_the_platform_or_of_another_digest_is_refused(logistic_bento, environment, tmp_path):
    base, pinned = base_layout(tmp_path / "base", ARM64)

    with pytest.raises(NotSupported, match=r"has no image for linux/amd64 \(has: linux/arm64\)"):
        written(logistic_bento, tmp_path / "image", base, environment)
    with pytest.raises(InputError, match="holds no image sha256:0000"):
        written(logistic_bento, tmp_path / "image", base, environment, base_image="cuda@sha256:" + "0" * 64)
    with pytest.raises(InputError, match="is a plain folder, and fleet"):
        written(logistic_bento, tmp_path / "image", root_folder(tmp_path / "root"), environment, base_image=f"cuda@{pinned}")


@pytest.mark.parametrize("victim", ["layer", "config", "manifest"])
def test_a_base_with_one_changed_byte_is_refused(victim, logistic_bento, environment, tmp_path):
    base, _ = base_layout(tmp_path / "base", AMD64)
    manifest, config = only_manifest(base), None
    config = Descriptor.of_json(Layout(base).read(manifest)["config"], "x")
    layer = Descriptor.of_json(Layout(base).read(manifest)["layers"][0], "x")
    file = Layout(base).blob({"layer": layer, "config": config, "manifest": manifest}[victim].digest)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    with pytest.raises(IntegrityError, match="other bytes"):
        written(logistic_bento, tmp_path / "image", base, environment)
    assert not (tmp_path / "image").exists()


def test_a_base_whose_layer_unpacks_to_other_bytes_than_its_configuration_says_is_refused(logistic_bento, environment, tmp_path):
    base, _ = base_layout(tmp_path / "base", AMD64)
    layout = Layout(base)
    manifest = layout.read(only_manifest(base))
    config = layout.read(Descriptor.of_json(manifest["config"], "x"))
    config["rootfs"]["diff_ids"][0] = "sha256:" + "1" * 64
    manifest["config"] = layout.put_json(config, manifest["config"]["mediaType"]).as_json()
    layout.finish([layout.put_json(manifest, manifest["mediaType"])])

    with pytest.raises(IntegrityError, match="unpacks to other bytes"):
        written(logistic_bento, tmp_path / "image", base, environment)


def only_manifest(base: Path) -> Descriptor:
    return Descriptor.of_json(only_image(base)["manifests"][0], "x")


def test_a_base_without_a_declared_debian_package_is_refused_since_none_can_be_installed(logistic_bento, environment, tmp_path):
    root = root_folder(tmp_path / "root")

    with pytest.raises(NotSupported, match=r"no Debian package gone, libgomp1=13 \(image\.system_packages\)"):
        written(logistic_bento, tmp_path / "image", root, environment, system_packages=("libgomp1", "gone", "libgomp1=13"))
    assert written(logistic_bento, tmp_path / "image", root, environment, system_packages=("libgomp1=12.2.0-14",)).size


def test_an_environment_that_lacks_what_the_bento_needs_or_is_for_another_machine_is_refused(logistic_bento, environment, tmp_path):
    root = root_folder(tmp_path / "root")
    (environment / "fast.so").write_bytes(elf("arm64"))
    with pytest.raises(InputError, match=r"fast\.so is of arm64"):
        written(logistic_bento, tmp_path / "image", root, environment)
    shutil.rmtree(next(environment.glob("numpy-*")))
    with pytest.raises(InputError, match=r"numpy==.* \(absent\)"):
        written(logistic_bento, tmp_path / "image", root, environment)


def test_what_uv_writes_of_this_machine_is_no_part_of_the_environment(logistic_bento, environment, tmp_path):
    (environment / "bin").mkdir()
    (environment / "bin" / "uvicorn").write_text("#!/somewhere/python\n")
    (environment / ".lock").touch()
    info = next(environment.glob("numpy-*"))
    (info / "INSTALLER").write_text("uv")
    (info / "RECORD").write_text(f"{info.name}/INSTALLER,,\nbin/uvicorn,,\nnumpy/x.py,,\n")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: setuptools (80.1)\nTag: py3-none-any\n")
    written(logistic_bento, tmp_path / "image", root_folder(tmp_path / "root"), environment)
    manifest, _ = image_for(tmp_path / "image", AMD64)

    with tarfile.open(Layout(tmp_path / "image").blob(manifest["layers"][1]["digest"])) as tar:
        names = tar.getnames()
        assert [name for name in names if name.endswith(("uvicorn", ".lock", "INSTALLER"))] == []
        record, wheel = (tar.extractfile(f"opt/convoy/environment/{info.name}/{name}") for name in ("RECORD", "WHEEL"))
        assert record is not None
        assert wheel is not None
        assert (record.read(), wheel.read()) == (b"numpy/x.py,,\n", b"Wheel-Version: 1.0\nTag: py3-none-any\n")


def test_a_folder_that_is_taken_and_a_bento_that_is_not_the_revision_are_refused(logistic_bento, environment, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    root = root_folder(tmp_path / "root")
    with pytest.raises(InputError, match="is not empty"):
        written(logistic_bento, tmp_path / "taken", root, environment)
    shutil.copytree(logistic_bento, tmp_path / "changed")
    (tmp_path / "changed" / "src" / "service.py").write_text("")
    with pytest.raises(IntegrityError, match=r"is sha256:.*, not sha256:"):
        write_image(tmp_path / "changed", revision_of(logistic_bento), Ingredients({AMD64: root}), tmp_path / "image")


def test_links_and_what_lies_above_them_decide_where_a_bases_python_is(logistic_bento, environment, tmp_path):
    """A later layer that makes a link of it hides the program of an earlier one."""
    base, _ = base_layout(tmp_path / "base", AMD64)
    layout = Layout(base)
    manifest = layout.read(only_manifest(base))
    config = layout.read(Descriptor.of_json(manifest["config"], "x"))
    data, diff_id = layer_of({f"usr/bin/{PYTHON}": f"/opt/py/bin/{PYTHON}", f"opt/py/bin/{PYTHON}": elf("amd64")})
    manifest["layers"].append(layout.put(data, f"{LAYER}+gzip").as_json())
    config["rootfs"]["diff_ids"].append(diff_id)
    manifest["config"] = layout.put_json(config, manifest["config"]["mediaType"]).as_json()
    layout.finish([layout.put_json(manifest, manifest["mediaType"])])

    assert written(logistic_bento, tmp_path / "image", base, environment).manifests
    assert json.loads((tmp_path / "image" / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}


def test_who_packed_a_wheel_changes_no_digest(logistic_bento, tmp_path):
    """Neither by the line that names it nor by what the record says of that file."""
    images = []
    for packer, digest in (("80.1", "sha256=one"), ("81.20", "sha256=other")):
        environment = stub_environment(tmp_path / packer, logistic_bento)
        info = next(environment.glob("numpy-*.dist-info"))
        (info / "RECORD").write_text(f"{info.name}/METADATA,,\n{info.name}/WHEEL,{digest},{len(packer)}\n")
        (info / "WHEEL").write_text(f"Wheel-Version: 1.0\nGenerator: setuptools ({packer})\nTag: py3-none-any\n")
        root = root_folder(tmp_path / f"root-{packer}")
        images.append(written(logistic_bento, tmp_path / f"image-{packer}", root, environment).digest)
    assert images[0] == images[1]


@pytest.mark.parametrize("white", ["usr/bin/.wh." + PYTHON, "usr/bin/.wh..wh..opq", ".wh.usr"])
def test_a_python_that_a_later_layer_takes_away_is_none(white):
    below = in_layer(io.BytesIO(layer_of({"usr/bin/" + PYTHON: elf("amd64")}, packed=False)[0]), python_version(), len)
    above = in_layer(io.BytesIO(layer_of({white: b"", "usr/bin/sh": b""}, packed=False)[0]), python_version(), len)
    assert below.head_of("/usr/bin/" + PYTHON) is not None
    assert below.over(above).head_of("/usr/bin/" + PYTHON) is None
    assert below.over(above).over(below).head_of("/usr/bin/" + PYTHON) is not None


def test_a_debian_package_that_a_later_layer_removes_is_not_there_whatever_its_description_says():
    def layer(*packages: str) -> Contents:
        told = (f"Package: {name}\nStatus: install ok installed\nDescription: to deinstall things\nVersion: 1\n" for name in packages)
        data = layer_of({"var/lib/dpkg/status": "\n".join(told).encode()}, packed=False)[0]
        return in_layer(io.BytesIO(data), python_version(), len)

    below = layer("libgomp1", "gcc")
    assert below.has_package("gcc")
    found = below.over(layer("libgomp1"))
    assert (found.has_package("libgomp1=1"), found.has_package("gcc")) == (True, False)


def test_wheels_that_are_not_at_hand_are_not_supported_and_the_way_round_is_named(logistic_bento, tmp_path, monkeypatch):
    """uv itself, with an empty cache and no way out."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    root = root_folder(tmp_path / "root", "arm64")

    with pytest.raises(NotSupported) as caught:
        write_image(logistic_bento, revision_of(logistic_bento), Ingredients({ARM64: root}), tmp_path / "image")
    assert caught.value.subject == "the environment of linux/arm64"
    assert "could not be put together from wheels that are at hand here" in caught.value.reason
    assert "--environment arm64=FOLDER" in caught.value.remedy
    assert not (tmp_path / "image").exists()


def test_an_environment_that_is_locked_by_no_hash_is_not_installed(logistic_bento, tmp_path):
    bento = tmp_path / "bento"
    shutil.copytree(logistic_bento, bento)
    (bento / "env/python/requirements.txt").write_text("numpy==2.0.0\n")

    with pytest.raises(InputError, match="carry no hashes"):
        write_image(bento, revision_of(bento), Ingredients({AMD64: root_folder(tmp_path / "root")}), tmp_path / "image")
