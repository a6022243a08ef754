import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from bentos.build import bento_name, build
from bentos.normal import normalise
from fleet.canonical import short
from fleet.errors import InputError, IntegrityError, OperationFailed
from fleet.manifest import manifest_of


def test_two_builds_elsewhere_later_and_under_another_umask_have_one_digest(logistic_model, logistic_bento, tmp_path):
    elsewhere = tmp_path / "another" / "place" / "model"
    shutil.copytree(logistic_model, elsewhere)
    (elsewhere / "empty").mkdir()
    for file in elsewhere.rglob("*"):
        os.utime(file, (0, 0))
    old_mask = os.umask(0o077)
    try:
        second = build(elsewhere, "employment", "3", tmp_path / "second")
    finally:
        os.umask(old_mask)

    assert second == manifest_of(tmp_path / "second") == manifest_of(logistic_bento)
    assert second.digest == manifest_of(logistic_bento).digest


def test_a_bento_holds_the_model_its_label_and_locked_requirements_without_an_index(logistic_model, logistic_bento):
    document = yaml.safe_load((logistic_bento / "bento.yaml").read_text())
    text = (logistic_bento / "env" / "python" / "requirements.txt").read_text()
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line]

    assert manifest_of(logistic_bento / "src" / "model") == manifest_of(logistic_model)
    assert (document["name"], document["version"]) == ("employment", short(manifest_of(logistic_model).digest))
    assert document["creation_time"] == "1970-01-01T00:00:00+00:00"
    assert json.loads((logistic_bento / "src" / "revision.json").read_text()) == {"model": "employment", "version": "3"}
    assert all("==" in line and "--hash=sha256:" in line and not line.startswith("-") for line in requirements)
    assert {"bentoml", "mlflow", "scikit-learn", "uvicorn"} <= {line.split("==")[0] for line in requirements}


def test_one_other_byte_of_the_model_is_another_digest_and_another_bento_version(logistic_model, logistic_bento, tmp_path):
    shutil.copytree(logistic_model, tmp_path / "model")
    (tmp_path / "model" / "conda.yaml").open("a").write("#")

    other = build(tmp_path / "model", "employment", "3", tmp_path / "bento")

    assert other.digest != manifest_of(logistic_bento).digest
    assert yaml.safe_load((tmp_path / "bento" / "bento.yaml").read_text())["version"] == short(manifest_of(tmp_path / "model").digest)


def test_building_never_runs_the_model(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / "model.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")

    build(model, "evil", "1", tmp_path / "bento")

    assert not (tmp_path / "ran").exists()


def test_a_folder_without_mlmodel_is_refused(tmp_path):
    (tmp_path / "model").mkdir()

    with pytest.raises(InputError, match="no file MLmodel"):
        build(tmp_path / "model", "m", "1", tmp_path / "bento")
    assert not (tmp_path / "bento").exists()


def test_a_folder_that_is_not_empty_is_not_built_into(logistic_model, tmp_path):
    (tmp_path / "mine").touch()

    with pytest.raises(InputError, match="not empty"):
        build(logistic_model, "m", "1", tmp_path)


def test_a_link_in_the_model_is_refused(logistic_model, tmp_path):
    shutil.copytree(logistic_model, tmp_path / "model")
    (tmp_path / "model" / "passwords").symlink_to("/etc/passwd")

    with pytest.raises(IntegrityError, match="only plain files"):
        build(tmp_path / "model", "m", "1", tmp_path / "bento")


def test_a_requirement_that_is_not_installed_here_is_refused_by_name(logistic_model, tmp_path):
    shutil.copytree(logistic_model, tmp_path / "model")
    (tmp_path / "model" / "requirements.txt").write_text("scikit-learn==0.1\n")

    with pytest.raises(InputError, match=r"scikit-learn==0\.1.*is installed"):
        build(tmp_path / "model", "m", "1", tmp_path / "bento")


@pytest.mark.parametrize(("model", "name"), [("Employment_1", "employment-1"), ("a--b", "a-b"), ("9", "9")])
def test_a_bento_is_named_as_bentoml_allows(model, name):
    assert bento_name(model) == name


def test_a_bento_that_names_the_folder_it_was_built_in_is_refused(tmp_path):
    bento = tmp_path / "bento"
    bento.mkdir()
    (bento / "bento.yaml").write_text(f"creation_time: '2026-11-22'\npath: {tmp_path}\n")

    with pytest.raises(OperationFailed, match="names the folder in which it was built"):
        normalise(bento, tmp_path)


def test_a_bento_without_a_creation_time_is_refused(tmp_path: Path):
    (tmp_path / "bento.yaml").write_text("name: x\n")

    with pytest.raises(OperationFailed, match="0 lines with a creation time"):
        normalise(tmp_path, tmp_path / "scratch")
