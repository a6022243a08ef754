"""A packaged Bento in BentoML's own hands: export, import and serve; and what it asks of a machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from bentos_serving import environment, started, tensor, wait_until
from test_bentos_lifecycle import refuses

from bentos.archive import write_archive
from bentos.build import build
from bentos.inputs import BuildOptions
from fleet.errors import InputError
from fleet.manifest import manifest_of
from support.ports import free_port

READY_SECONDS = 120
CUDA = "nvidia/cuda@sha256:" + "c" * 64
GPU = {"cpu": "2", "memory": "4Gi", "gpu": 1, "gpu_type": "nvidia-l4"}
OURS = {"gpu_slice": "mig-1g.10gb", "gpu_provider": "tensorrt", "without_gpu": "cpu"}


def bentoml(*arguments, home):
    variables = environment(home, 1) | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_bentoml_imports_and_exports_a_packaged_bento_byte_for_byte(logistic_bento, tmp_path):
    """From our file into one store, out of it as BentoML's file, and into another store."""
    tag = yaml.safe_load((logistic_bento / "bento.yaml").read_text())
    tag = f"{tag['name']}:{tag['version']}"
    write_archive(logistic_bento, tmp_path / "ours.bento")
    bentoml("import", str(tmp_path / "ours.bento"), home=tmp_path / "one")
    bentoml("export", tag, str(tmp_path / "employment.bento"), home=tmp_path / "one")
    bentoml("import", str(tmp_path / "employment.bento"), home=tmp_path / "other")

    for home in ("one", "other"):
        stored = tmp_path / home / "bentos" / tag.replace(":", "/")
        assert manifest_of(stored) == manifest_of(logistic_bento)
    assert tag in bentoml("list", "-o", "json", home=tmp_path / "other")


def test_a_bento_as_one_file_is_the_same_every_time_and_takes_no_name_that_is_taken(echo_bento, tmp_path):
    for name in ("one", "other"):
        write_archive(echo_bento, tmp_path / f"{name}.bento")

    assert (tmp_path / "one.bento").read_bytes() == (tmp_path / "other.bento").read_bytes()
    with pytest.raises(InputError, match="is there already"):
        write_archive(echo_bento, tmp_path / "one.bento")


@pytest.fixture(scope="module")
def gpu_bento(logistic_model, tmp_path_factory):
    to = tmp_path_factory.mktemp("gpu") / "bento"
    build(logistic_model, "employment", "3", to, BuildOptions(base_image=CUDA, resources=GPU | OURS))
    return to


def test_declared_resources_are_those_of_the_bentos_service_and_its_image_is_cudas(gpu_bento, logistic_bento):
    document = yaml.safe_load((gpu_bento / "bento.yaml").read_text())

    assert document["services"][0]["config"]["resources"] == GPU
    assert f"FROM {CUDA}" in (gpu_bento / "env" / "docker" / "Dockerfile").read_text()
    assert json.loads((gpu_bento / "src" / "resources.json").read_text()) == GPU | OURS
    assert "resources" not in yaml.safe_load((logistic_bento / "bento.yaml").read_text())["services"][0]["config"]
    assert not (logistic_bento / "src" / "resources.json").exists()


def test_that_a_model_is_compiled_is_part_of_its_revision_and_without_it_nothing_is_added(logistic_model, logistic_bento, tmp_path):
    compiled = build(logistic_model, "employment", "3", tmp_path / "bento", BuildOptions(compile=True))

    assert json.loads((tmp_path / "bento" / "src" / "optimise.json").read_text()) == {"compile": True}
    added = {entry.path for entry in compiled.entries} - {entry.path for entry in manifest_of(logistic_bento).entries}
    assert added == {"src/optimise.json"}


def test_a_bento_that_asks_for_a_gpu_serves_without_one_where_that_is_declared_and_says_so(gpu_bento, tmp_path):
    """`bentoml serve` of it, through BentoML's own port."""
    front, port = free_port(), free_port()
    command = [sys.executable, "-m", "bentoml", "serve", str(gpu_bento), "--port", str(front), "--host", "127.0.0.1"]
    variables = environment(gpu_bento, port) | {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    with started(command, tmp_path, variables, front, tmp_path / "log") as service:
        wait_until(service.ready, READY_SECONDS, "ready")
        ready = service.get("/v2/health/ready").json()
        answer = service.infer("employment", tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1))
        service.process.terminate()
        service.process.wait(30)
        wait_until(lambda: refuses(port), 30, "BentoML has stopped our server")

    assert answer.status_code == 200, answer.text
    assert ready["device"] == "the CPU in a GPU's place: no GPU is here"
    assert answer.headers["x-convoy-revision"] == manifest_of(gpu_bento).digest
