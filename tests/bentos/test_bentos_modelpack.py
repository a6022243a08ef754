"""A revision as an OCI artifact of the ModelPack format, read by ourselves and by skopeo."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bentos.oci.kinds import MANIFEST, REF_NAME
from bentos.oci.layout import Layout
from bentos.oci.modelpack import ARTIFACT, CODE, CONFIG, DOC, FILE_PATH, WEIGHT, WEIGHT_CONFIG, read_modelpack, write_modelpack
from fleet.canonical import digest_of
from fleet.cutting import PART_BYTES, by_content, in_blocks
from fleet.errors import InputError, IntegrityError
from fleet.manifest import Cut, Manifest, manifest_of
from fleet.versions import Revision


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of each kind, one of two parts, an empty one, and one that may be run."""
    root = tmp_path / "bento"
    (root / "src" / "model").mkdir(parents=True)
    (root / "src" / "service.py").write_text("import numpy\n")
    (root / "src" / "model" / "MLmodel").write_text("flavors: {}\n")
    (root / "src" / "model" / "model.pkl").write_bytes(random.Random(1).randbytes(PART_BYTES + 1000))
    (root / "src" / "start.sh").write_text("#!/bin/sh\n")
    (root / "src" / "start.sh").chmod(0o755)
    (root / "src" / "__init__.py").touch()
    (root / "README.md").write_text("# Employment\n")
    return root


@pytest.fixture
def read(tree: Path) -> Callable[[str], bytes]:
    parts: dict[str, bytes] = {}
    for path in tree.rglob("*"):
        if path.is_file():
            for cut in (by_content, in_blocks):
                with path.open("rb") as file:
                    parts |= {digest_of(part): part for part in cut(file, path.stat().st_size)}
    return parts.__getitem__


def written(tree: Path, read: Callable[[str], bytes], to: Path, cut: Cut = by_content) -> tuple[Manifest, Revision, dict[str, object]]:
    manifest = manifest_of(tree, cut)
    revision = Revision("employment", "2", manifest.digest)
    found = write_modelpack(manifest, revision, read, to)
    return manifest, revision, json.loads(Layout(to).blob(found.digest).read_bytes())


def test_it_has_a_layer_for_each_file_with_the_files_own_digest(tree, read, tmp_path):
    manifest, revision, document = written(tree, read, tmp_path / "artifact")
    assert (document["mediaType"], document["artifactType"]) == (MANIFEST, ARTIFACT)
    layers = {layer["annotations"][FILE_PATH]: layer for layer in document["layers"]}
    assert {path: layer["digest"] for path, layer in layers.items()} == {entry.path: entry.digest for entry in manifest.entries}
    kinds = {path: layer["mediaType"] for path, layer in layers.items()}
    assert kinds["src/service.py"] == kinds["src/start.sh"] == CODE
    assert (kinds["src/model/MLmodel"], kinds["src/model/model.pkl"], kinds["README.md"]) == (WEIGHT_CONFIG, WEIGHT, DOC)
    assert document["config"]["mediaType"] == CONFIG
    config = json.loads(Layout(tmp_path / "artifact").blob(document["config"]["digest"]).read_bytes())
    assert config["descriptor"] == {"name": "employment", "version": "2", "revision": revision.digest}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in document["layers"]]}


def test_the_revision_can_be_made_from_it_again_and_two_of_them_agree(tree, read, tmp_path):
    manifest, _, _ = written(tree, read, tmp_path / "one")
    written(tree, read, tmp_path / "two")
    assert read_modelpack(tmp_path / "one") == manifest
    earlier, _, _ = written(tree, read, tmp_path / "earlier", in_blocks)
    assert read_modelpack(tmp_path / "earlier") == earlier != manifest
    assert (tmp_path / "one" / "index.json").read_bytes() == (tmp_path / "two" / "index.json").read_bytes()


@pytest.mark.parametrize("damage", ["byte", "gone", "other revision", "other artifact"])
def test_what_is_not_the_revision_is_told(tree, read, tmp_path, damage: str):
    manifest, _, document = written(tree, read, tmp_path / "artifact")
    layout = Layout(tmp_path / "artifact")
    layer = layout.blob(manifest.entries[-1].digest)
    if damage == "byte":
        data = bytearray(layer.read_bytes())
        data[-1] ^= 1
        layer.write_bytes(data)
    elif damage == "gone":
        layer.unlink()
    else:
        changed = (
            {**document, "layers": document["layers"][1:]} if damage == "other revision" else {**document, "artifactType": "text/plain"}
        )
        layout.finish([layout.put_json(changed, MANIFEST)])
    with pytest.raises(IntegrityError):
        read_modelpack(tmp_path / "artifact")


def test_a_folder_that_is_no_layout_is_refused(tmp_path):
    with pytest.raises(InputError, match="no OCI layout"):
        read_modelpack(tmp_path)


def test_a_part_that_is_not_the_files_leaves_an_error(tree, tmp_path):
    manifest = manifest_of(tree)
    with pytest.raises(IntegrityError, match="do not make"):
        write_modelpack(manifest, Revision("employment", "2", manifest.digest), lambda _: b"other", tmp_path / "artifact")


def test_skopeo_reads_and_copies_it_and_the_copy_is_the_revision(tree, read, tmp_path):
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: sudo apt-get install skopeo")
    manifest, _, document = written(tree, read, tmp_path / "artifact")
    (listed,) = Layout(tmp_path / "artifact").manifests()
    name = listed.more["annotations"][REF_NAME]
    source = f"oci:{tmp_path / 'artifact'}:{name}"
    told = subprocess.run(["skopeo", "inspect", "--raw", source], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == document
    copied = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--preserve-digests", source, f"oci:{tmp_path / 'copy'}:{name}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr
    assert read_modelpack(tmp_path / "copy") == manifest
