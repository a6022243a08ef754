"""Packaging without releasing: the same digest as a release, and what is kept beside the revision."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from bentos.oci.kinds import this_platform
from fleet.errors import InputError, OperationFailed, UnknownName
from fleet.home import Home
from fleet.manifest import manifest_of
from fleet.settings import Settings
from flows.gating import Source
from flows.house import House
from flows.images import ImageOrder, Order, package_version
from flows.shipping import _build
from registry.referrers import BOM, IMAGE, IMAGE_INDEX, documents, referrers
from support.images import AMD64, base_layout, only_image, root_folder, stub_environment
from support.stack import toy_fleet, write_fleet

GPU = {"gpu": 1, "gpu_type": "nvidia-l4"}


class Registered:
    """A registry with one version of one model, whose files lie in a folder."""

    def __init__(self, folder: Path, version: str = "3") -> None:
        self.folder, self.only = folder, version

    def version(self, model: str, version: str) -> Any:
        if version != self.only:
            raise UnknownName(f"model '{model}' version {version}", f"is not registered in MLflow (known: {self.only})")
        return SimpleNamespace(model=model, version=version, tags={})

    def download(self, found: Any, to: Path) -> Any:
        shutil.copytree(self.folder, to)
        return manifest_of(to)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n")
    (folder / "requirements.txt").write_text("scikit-learn\n")
    return folder


@pytest.fixture
def house(tmp_path: Path, model: Path) -> House:
    home = Home(tmp_path / "home")
    write_fleet(home, toy_fleet(("toy",)))
    found = House(Settings(home=home.root), home)
    found.__dict__["models"] = Registered(model)
    return found


def said(_: str) -> None:
    """Nobody listens."""


def release_digest(house: House, model: Path, folder: Path) -> str:
    """What a release of the version stores."""
    work: Any = SimpleNamespace(folder=folder, model="toy", desire=SimpleNamespace(version="3"), house=house, declared=house.model("toy"))
    return str(_build(work, Source(SimpleNamespace(version="3"), model, "sha256:unread", None))["digest"])  # type: ignore[arg-type]


def test_a_package_is_what_a_release_would_make_and_releases_nothing(house: House, model: Path, tmp_path: Path) -> None:
    packed = package_version(house, Order("toy", "3", tmp_path / "bento"), said)

    assert not packed.stored
    assert packed.unhashed == ()
    assert packed.revision.digest == manifest_of(tmp_path / "bento").digest
    assert [path for path in (tmp_path / "home" / "store").rglob("*") if path.is_file()] == []
    assert packed.revision.digest == release_digest(house, model, tmp_path / "work")
    assert package_version(house, Order("toy", "3"), said).stored


def test_a_package_of_what_is_not_declared_or_not_registered_is_refused(house: House, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"not in fleet\.yaml"):
        package_version(house, Order("other", "3"), said)
    with pytest.raises(UnknownName, match="known: 3"):
        package_version(house, Order("toy", "4"), said)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InputError, match="is not empty"):
        package_version(house, Order("toy", "3", tmp_path / "taken"), said)


def test_what_cannot_be_written_is_refused_before_anything_is_fetched(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.bento").mkdir()
    house.__dict__["models"] = None
    for out, why in ((tmp_path / "file" / "bento", "cannot be made"), (tmp_path / "folder.bento", "is there already")):
        with pytest.raises(InputError, match=why):
            package_version(house, Order("toy", "3", out), said)
    order = Order("toy", "3", tmp_path / "image" / "bento", ImageOrder(tmp_path / "image", {AMD64: tmp_path}))
    with pytest.raises(InputError, match="lie in one another"):
        package_version(house, order, said)


def test_a_full_disk_leaves_no_half_bento(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    copytree = shutil.copytree

    def no_room(source: Path, to: Path, *given: Any, **more: Any) -> Any:
        done = copytree(source, to, *given, **more)
        if Path(to).is_relative_to(place) and Path(to).name == "bento":
            shutil.rmtree(Path(to) / "src" / "model")
            raise OSError(errno.ENOSPC, "no space left on device")
        return done

    monkeypatch.setattr(shutil, "copytree", no_room)
    with pytest.raises(OperationFailed, match=r"toy version 3: could not be written \(.*no space left"):
        package_version(house, Order("toy", "3", place / "bento"), said)
    assert list(place.iterdir()) == []


def test_an_images_manifests_and_bill_are_referrers_of_the_revision_also_where_it_was_copied_to(
    house: House, model: Path, tmp_path: Path
) -> None:
    bento = tmp_path / "bento"
    revision = package_version(house, Order("toy", "3", bento), said).revision
    environment = stub_environment(tmp_path / "environment", bento)
    (near, *_, far) = house.model("toy").regions
    house.region_store(near).put_tree(bento)
    house.region_store(far)
    order = ImageOrder(tmp_path / "image", {AMD64: root_folder(tmp_path / "root")}, {AMD64: environment})
    packed = package_version(house, Order("toy", "3", image=order), said)

    assert packed.image is not None
    assert packed.revision == revision
    for store in (house.origin, house.region_store(near)):
        kept = {found.media_type: found.digest for found in referrers(store, revision.digest)}
        assert kept[IMAGE_INDEX] == packed.image.digest
        assert kept[IMAGE] == only_image(order.to)["manifests"][0]["digest"]
        assert set(kept) == {IMAGE_INDEX, IMAGE, BOM}
    assert referrers(house.region_store(far), revision.digest) == ()
    (image,) = documents(house.origin, revision.digest, IMAGE_INDEX)
    assert json.loads(image)["subject"]["digest"] == revision.digest
    (bill,) = documents(house.origin, revision.digest, BOM)
    assert any(component["name"] == "scikit-learn" and component["version"] for component in json.loads(bill)["components"])

    again = ImageOrder(tmp_path / "again", {AMD64: root_folder(tmp_path / "same")}, {AMD64: environment})
    assert package_version(house, Order("toy", "3", image=again), said).image == packed.image
    assert len(referrers(house.origin, revision.digest)) == 3


def test_a_model_without_the_variant_that_is_to_be_served_is_not_packaged(house: House, tmp_path: Path) -> None:
    document = YAML(typ="safe").load(house.fleet_file.read_text())
    document["models"]["toy"]["optimise"] = {"serve": "onnx"}
    house.fleet_file.write_text(json.dumps(document))
    house.__dict__.pop("fleet", None)

    with pytest.raises(OperationFailed, match=r"the variant onnx of toy version 3: .*optimise\.serve"):
        package_version(house, Order("toy", "3", tmp_path / "bento"), said)
    assert not (tmp_path / "bento").exists()


def test_a_gpu_of_fleet_yaml_is_in_the_bento_and_in_the_images_configuration(house: House, tmp_path: Path) -> None:
    base, pinned = base_layout(tmp_path / "base", AMD64)
    declared(house, {"base_image": f"cuda@{pinned}", "resources": GPU})
    bento = tmp_path / "bento"
    packed = package_version(house, Order("toy", "3", bento), said)
    environment = stub_environment(tmp_path / "environment", bento)
    order = ImageOrder(tmp_path / "image", {AMD64: base}, {AMD64: environment})
    image = package_version(house, Order("toy", "3", image=order), said)

    assert image.revision == packed.revision
    document = YAML(typ="safe").load((bento / "bento.yaml").read_text())
    assert document["services"][0]["config"]["resources"] == GPU
    assert only_image(order.to)["annotations"]["convoy.resources.gpu_type"] == "nvidia-l4"


def declared(house: House, image: dict[str, Any]) -> None:
    document = YAML(typ="safe").load(house.fleet_file.read_text())
    document["models"]["toy"]["image"] = image
    house.fleet_file.write_text(json.dumps(document))
    house.__dict__.pop("fleet", None)


def test_loading_needs_an_image_for_this_machine(house: House, tmp_path: Path) -> None:
    other = next(platform for platform in (AMD64, type(AMD64)("arm64")) if platform != this_platform())
    order = ImageOrder(tmp_path / "image", {other: tmp_path}, load=True)

    with pytest.raises(InputError, match=f"needs an image for {this_platform()}"):
        package_version(house, Order("toy", "3", image=order), said)
