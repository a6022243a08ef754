"""A container of a model's owner in fleet.yaml, and the digest of an unpacked root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import fleet.contained
from fleet.canonical import digest_of_file
from fleet.contained import Contained, contained_in, is_contained, root_digest
from fleet.declared import Model
from fleet.declared_image import Image
from fleet.errors import IntegrityError

DIGEST = "sha256:" + "a" * 64
CONTAINER = {"layout": "containers/scorer", "digest": DIGEST}
MODEL: dict[str, Any] = {
    "owner": "a",
    "on_call": "b",
    "runbook": "c",
    "regions": ["us"],
    "slo": {"us": {"latency_ms": 100, "error_rate": 0.01}},
    "rto_seconds": 60,
    "rpo_releases": 0,
    "rollback": {"margin": 0.05},
    "image": {"container": CONTAINER},
}


def test_a_container_is_a_layout_and_a_digest_and_may_say_how_much_memory_it_takes() -> None:
    found = Model.model_validate(MODEL | {"image": {"container": CONTAINER, "resources": {"memory": "512Mi"}}}).image
    assert found.container is not None
    assert (str(found.container.layout), found.container.digest) == ("containers/scorer", DIGEST)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"container": {"layout": "x"}}, "digest"),
        ({"container": {"layout": "x", "digest": "sha256:abc"}}, "digest"),
        ({"container": {"layout": "x", "digest": "latest"}}, "digest"),
        ({"container": CONTAINER | {"tag": "latest"}}, "tag"),
        ({"container": CONTAINER, "base_image": f"python@{DIGEST}"}, "base_image would change what is built"),
        ({"container": CONTAINER, "system_packages": ["libgomp1"]}, "system_packages would change"),
        ({"container": CONTAINER, "resources": {"gpu": 1}}, "resources.gpu would change"),
        ({"container": CONTAINER, "resources": {"cpu": "2"}}, "resources.cpu would change"),
    ],
)
def test_what_is_no_container_or_would_change_it_is_refused(image: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Image.model_validate(image)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"optimise": {}}, "optimise makes variants"),
        ({"drift": {"reference": {"repository": "r", "path": "x.parquet"}}}, "drift compares rows"),
        ({"gates": {"dependencies": {}}}, "gates.dependencies looks at packages"),
        ({"gates": {"licences": {"allow": ["MIT"]}}}, "gates.licences looks at packages"),
    ],
)
def test_what_looks_into_convoys_own_service_is_refused_beside_a_container(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Model.model_validate(MODEL | more)
    Model.model_validate({**MODEL, **more, "image": {}})


def rooted(folder: Path) -> Path:
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/motd").write_text("hello")
    (folder / "bin").symlink_to("usr/bin")
    for path in (folder, folder / "etc"):
        path.chmod(0o755)
    (folder / "etc/motd").chmod(0o644)
    return folder


def test_a_root_has_one_digest_wherever_it_lies_and_another_for_each_change(tmp_path: Path) -> None:
    first, second = rooted(tmp_path / "one"), rooted(tmp_path / "deeper/two")
    os.utime(second / "etc/motd", (0, 0))
    before = root_digest(first)
    assert root_digest(second) == before
    seen = {before}
    (first / "etc/motd").write_text("hellO")
    seen.add(root_digest(first))
    (first / "etc/motd").chmod(0o755)
    seen.add(root_digest(first))
    (first / "bin").unlink()
    (first / "bin").symlink_to("/usr/bin")
    seen.add(root_digest(first))
    (first / "etc/new").mkdir(mode=0o755)
    seen.add(root_digest(first))
    assert len(seen) == 5


def test_a_root_with_a_pipe_or_a_name_that_is_no_text_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(rooted(tmp_path / "one") / "pipe")
    with pytest.raises(IntegrityError, match="a device, a socket or a pipe"):
        root_digest(tmp_path / "one")
    rooted(tmp_path / "two")
    os.close(os.open(os.fsencode(tmp_path / "two") + b"/\xff", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(IntegrityError, match="no UTF-8"):
        root_digest(tmp_path / "two")


def test_a_file_of_many_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a large file and many links to it would be read for days."""
    root = rooted(tmp_path / "one")
    (root / "large").write_bytes(b"x")
    for number in range(20):
        (root / f"link{number}").hardlink_to(root / "large")
    before, read = root_digest(root), list[Path]()
    monkeypatch.setattr(fleet.contained, "digest_of_file", lambda path: read.append(path) or digest_of_file(path))
    assert root_digest(root) == before
    assert len([path for path in read if path.name.startswith(("large", "link"))]) == 1


def test_what_a_revision_says_of_its_container_is_read_back_and_rubbish_refused(tmp_path: Path) -> None:
    told = Contained(DIGEST, "amd64", ("/bin/serve",), ("A=b",), "/", "sha256:" + "b" * 64, 1 << 30)
    (tmp_path / "src").mkdir()
    assert not is_contained(tmp_path)
    (tmp_path / "src/container.json").write_bytes(told.to_bytes())
    assert is_contained(tmp_path)
    assert contained_in(tmp_path) == told
    for text in ("", "[]", "{}", '{"image": 1}', told.to_bytes().decode().replace('"/bin/serve"', ""), "[" * 100_000):
        (tmp_path / "src/container.json").write_text(text)
        with pytest.raises(IntegrityError, match="does not say how"):
            contained_in(tmp_path)
