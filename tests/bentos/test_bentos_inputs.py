"""What a Bento is built from: refused before anything is built; what the model needs, and whether two builds are one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bentos.build import build
from bentos.inputs import BuildOptions
from bentos.needs import needs_of
from bentos.requirements import locked
from bentos.twice import difference
from fleet.errors import InputError, Refused
from fleet.manifest import manifest_of
from fleet.pins import Pin, read_pins
from support.attacks import REQUIREMENTS

DIGEST = "@sha256:" + "a" * 64
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "requirements.txt").write_text("scikit-learn\n")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(base_image=f"python{DIGEST}\nRUN id"),
        BuildOptions(base_image="python:latest"),
        BuildOptions(system_packages=("curl; touch /tmp/x",)),
        BuildOptions(system_packages=("libgomp1", "-oDpkg::Pre-Invoke::=id")),
    ],
)
def test_dockerfile_injection_is_refused_before_any_build(model: Path, tmp_path: Path, options: BuildOptions) -> None:
    with pytest.raises(Refused, match="nothing was built"):
        build(model, "m", "1", tmp_path / "bento", options)
    assert not (tmp_path / "bento").exists()


def test_an_image_and_its_packages_stand_in_the_bento_and_hashes_beside_its_requirements(model: Path, tmp_path: Path) -> None:
    pins = {name: Pin(version, ("sha256:" + "b" * 64,)) for name, version in (line.split("==") for line in locked(["scikit-learn"]))}
    build(model, "m", "1", tmp_path / "bento", BuildOptions(f"python:3.11{DIGEST}", ("libgomp1",), pins))
    dockerfile = (tmp_path / "bento/env/docker/Dockerfile").read_text()
    assert f"FROM python:3.11{DIGEST} " in dockerfile
    assert " libgomp1\n" in dockerfile
    assert read_pins(tmp_path / "bento/env/python/requirements.txt") == pins


def test_what_a_lock_does_not_pin_is_not_packaged(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not pinned by the lock"):
        build(model, "m", "1", tmp_path / "bento", BuildOptions(pins={}))


@pytest.mark.parametrize(
    "line",
    REQUIREMENTS,
)
def test_a_requirement_that_is_an_option_a_url_or_a_command_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="plain requirement"):
        locked([line])


def test_what_a_model_needs_is_told_with_who_brings_it_in_and_its_licence(model: Path) -> None:
    found = {component.name: component for component in needs_of(model).components}
    assert found["scikit-learn"].through == ("the model",)
    assert found["scikit-learn"].expression == "BSD-3-Clause"
    assert found["threadpoolctl"].brought_by.startswith("the ")
    assert found["werkzeug"].through[:2] == ("the scoring service", "mlflow")
    assert found["uvloop"].brought_by == "the scoring service"
    assert found["jinja2"].classifiers == ("License :: OSI Approved :: BSD License",)
    assert tuple(f"{component.name}=={component.version}" for component in needs_of(model).components) == locked(["scikit-learn"])


CONDA = "dependencies: [python=3.11.7, pip<=26, {{pip: [{pip}]}}{more}]\n"


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("conda.yaml", CONDA.format(pip="torch", more=""), "conda.yaml needs torch, and requirements.txt does not"),
        ("conda.yaml", CONDA.format(pip="scikit-learn", more=", cudatoolkit=11"), "'cudatoolkit=11' of Conda"),
        ("conda.yaml", CONDA.format(pip="'x @ https://e.example.org'", more=""), "needs x"),
        ("conda.yaml", "dependencies: 3\n", "cannot be read"),
        ("conda.yaml", "!!python/object:os.system {}\n", "cannot be read"),
        ("python_env.yaml", "python: 3.5.1\n", f"asks for Python 3.5.1, and {HERE} serves"),
        ("python_env.yaml", "dependencies: [-r requirements.txt, torch]\n", "python_env.yaml needs torch"),
        ("python_env.yaml", "dependencies: [-r other.txt]\n", "which is not a plain requirement"),
        ("requirements.txt", "nothing-of-this-name\n", "requirement 'nothing-of-this-name' is not installed"),
    ],
)
def test_files_that_say_different_things_of_what_is_needed_are_a_problem(model: Path, file: str, text: str, problem: str) -> None:
    (model / file).write_text(text)
    assert problem in " ".join(needs_of(model).problems)


def test_what_mlflow_writes_agrees_with_itself(logistic_model: Path) -> None:
    assert needs_of(logistic_model).problems == ()


def test_a_requirements_file_that_is_no_text_is_a_problem(model: Path) -> None:
    (model / "requirements.txt").write_bytes(b"\xff\xfe")
    assert needs_of(model).problems == ("requirements.txt is no text",)


def test_two_builds_that_differ_are_told_by_their_first_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "a.txt").write_text("same")
        (folder / "src" / "b.txt").write_text("same")
    assert difference(manifest_of(one), manifest_of(other)) == ""
    (other / "src" / "b.txt").write_text("later")
    assert difference(manifest_of(one), manifest_of(other)) == "src/b.txt has other bytes in each (4 and 5)"
    (other / "src" / "a.txt").chmod(0o755)
    assert difference(manifest_of(one), manifest_of(other)).startswith("src/a.txt has the mode 644 in one and 755")
    (one / "a.txt").touch()
    assert difference(manifest_of(one), manifest_of(other)) == "a.txt is in the first build alone"
