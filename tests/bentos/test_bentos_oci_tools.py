"""Other people's tools read and take our images; each test says which tool it lacks where it is skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from bentos.oci.image import Image, Ingredients, write_image
from bentos.oci.kinds import this_platform
from bentos.oci.loading import TOOLS, Loading, load, write_archive
from bentos.oci.loading import _unwell as unwell
from fleet.errors import NotSupported
from fleet.manifest import manifest_of
from support.images import AMD64, ARM64, base_layout, elf, image_for, revision_of, root_folder, stub_environment


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: sudo apt-get install {tool}")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def image(logistic_bento: Path, tmp_path: Path) -> Image:
    here = this_platform()
    environment = stub_environment(tmp_path / "environment", logistic_bento, fast=elf(here.architecture))
    ingredients = Ingredients({here: root_folder(tmp_path / "root", here.architecture)}, {here: environment})
    return write_image(logistic_bento, revision_of(logistic_bento), ingredients, tmp_path / "image")


def test_skopeo_reads_an_image_and_copies_both_platforms_with_their_digests(logistic_bento, tmp_path):
    needs("skopeo")
    base, _ = base_layout(tmp_path / "base", AMD64, ARM64)
    environments = {each: stub_environment(tmp_path / str(each), logistic_bento, fast=elf(each.architecture)) for each in (AMD64, ARM64)}
    ingredients = Ingredients({AMD64: base, ARM64: base}, environments)
    image = write_image(logistic_bento, revision_of(logistic_bento), ingredients, tmp_path / "image")
    name = f"oci:{tmp_path / 'image'}:{image.name}"

    told = json.loads(run("skopeo", "inspect", "--override-arch", "arm64", name))
    assert (told["Architecture"], told["Labels"]["convoy.revision"]) == ("arm64", revision_of(logistic_bento).digest)
    run("skopeo", "copy", "--all", "--preserve-digests", name, f"oci:{tmp_path / 'copy'}:taken")
    assert json.loads((tmp_path / "copy" / "index.json").read_text())["manifests"][0]["digest"] == image.digest


def test_umoci_unpacks_an_image_into_the_files_of_its_layers(logistic_bento, image, tmp_path):
    needs("umoci")
    # umoci follows no index within an index, so it gets one platform's image
    (manifest,) = image.manifests.values()
    needs("skopeo")
    run("skopeo", "copy", "--preserve-digests", f"oci:{tmp_path / 'image'}:{image.name}", f"oci:{tmp_path / 'one'}:one")
    run("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'one'}:one", str(tmp_path / "unpacked"))
    root = tmp_path / "unpacked" / "rootfs"

    assert manifest_of(root / "opt/convoy/revision") == manifest_of(logistic_bento)
    assert (root / "bin").readlink() == Path("usr/bin")
    assert json.loads(manifest)["layers"]
    config = json.loads((tmp_path / "unpacked" / "config.json").read_text())
    assert config["process"]["args"] == image_for(tmp_path / "image", this_platform())[1]["config"]["Entrypoint"]


def test_buildah_loads_an_image(logistic_bento, image, tmp_path, monkeypatch):
    needs("buildah")
    if why := unwell("buildah"):
        pytest.skip(f"buildah cannot run here: {why}")
    monkeypatch.setattr("bentos.oci.loading.TOOLS", {"buildah": TOOLS["buildah"]})
    reference = f"convoy/test-of-convoy:{image.name}"
    (manifest,) = image.manifests.values()
    try:
        assert load(Loading(tmp_path / "image", image.name, manifest, reference)) == "buildah"
        told = json.loads(run("buildah", "inspect", "--type", "image", f"localhost/{reference}"))
        assert told["OCIv1"]["config"]["Labels"]["convoy.revision"] == revision_of(logistic_bento).digest
    finally:
        subprocess.run(["buildah", "rmi", f"localhost/{reference}"], capture_output=True, timeout=60, check=False)


def test_skopeo_reads_the_archive_that_docker_gets(logistic_bento, image, tmp_path):
    needs("skopeo")
    (manifest,) = image.manifests.values()
    with (tmp_path / "archive.tar").open("wb") as file:
        write_archive(Loading(tmp_path / "image", image.name, manifest, f"convoy/employment:{image.name}"), file)

    told = json.loads(run("skopeo", "inspect", f"docker-archive:{tmp_path / 'archive.tar'}"))
    assert told["Labels"]["convoy.revision"] == revision_of(logistic_bento).digest
    assert len(told["Layers"]) == 4


def test_without_a_tool_that_is_well_loading_is_not_supported_and_says_of_each_why(image, tmp_path, monkeypatch):
    (manifest,) = image.manifests.values()
    for name, script in (("docker", "echo 'no daemon' >&2; exit 1"), ("podman", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "podman").unlink()
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("bentos.oci.loading.TOOLS", {tool: TOOLS[tool] for tool in ("podman", "docker")})

    with pytest.raises(NotSupported, match="podman is not installed; docker: no daemon"):
        load(Loading(tmp_path / "image", image.name, manifest, "convoy/x:1"))


def test_docker_is_given_the_archive_on_its_input(logistic_bento, image, tmp_path, monkeypatch):
    """A program in docker's place, which keeps what it is given."""
    (manifest,) = image.manifests.values()
    (tmp_path / "docker").write_text(f'#!/bin/sh\n[ "$1" = info ] || cat > "{tmp_path}/given.tar"\n')
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("bentos.oci.loading.TOOLS", {"docker": TOOLS["docker"]})
    wanted = Loading(tmp_path / "image", image.name, manifest, "convoy/x:1")

    assert load(wanted) == "docker"
    with (tmp_path / "expected.tar").open("wb") as file:
        write_archive(wanted, file)
    assert (tmp_path / "given.tar").read_bytes() == (tmp_path / "expected.tar").read_bytes()
