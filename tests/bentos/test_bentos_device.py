"""A GPU that is declared and is not there is no silent CPU."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import onnxruntime
import pandas as pd
import pytest
from bentos_serving import digest_of, launched, packaged

from bentos.inputs import BuildOptions
from bentos.optimise.convert import converted
from bentos.optimise.messages import ConvertRequest
from bentos.service import device as devices
from bentos.service.device import CPU, CUDA, device_of, resources
from bentos.service.errors import ModelUnusable
from bentos.service.loading import loading
from bentos.service.settings import ServiceSettings
from bentos.service.variant import Document, Variant, load_variant
from fleet.declared_image import Resources
from fleet.declared_optimise import Variant as Kind

FOR_ONE = {"gpu": 1}
OR_CPU = {"gpu": 1, "without_gpu": "cpu"}


def settings(root: Path, asked: object, **more: int) -> ServiceSettings:
    (root / "src").mkdir(parents=True, exist_ok=True)
    (root / "src" / "resources.json").write_text(json.dumps(asked))
    return ServiceSettings(root, **more)  # type: ignore[arg-type]


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What NVIDIA's driver shows of itself: not there yet."""
    node = tmp_path / "nvidiactl"
    monkeypatch.setattr(devices, "NODES", (node,))
    return node


def test_without_a_declared_gpu_the_cpu_is_asked_and_nothing_is_said_of_it(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    assert resources(tmp_path) == {}
    for asked in ({}, {"cpu": "2"}):
        found = device_of(settings(tmp_path, asked))
        assert (found.providers, found.says) == ([CPU], "")


def test_a_gpu_that_is_not_there_is_refused_unless_the_cpu_is_declared_in_its_place(tmp_path: Path, driver: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"no GPU is here, and the revision asks for a GPU; .* declare resources\.without_gpu: cpu"):
        device_of(settings(tmp_path, FOR_ONE))
    with pytest.raises(ModelUnusable, match="no GPU is here"):
        device_of(settings(tmp_path, FOR_ONE | {"without_gpu": "refuse"}))
    found = device_of(settings(tmp_path, OR_CPU))
    assert (found.providers, found.says) == ([CPU], "the CPU in a GPU's place: no GPU is here")


def test_a_gpu_that_is_there_is_named_with_its_limit_of_memory(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    found = device_of(settings(tmp_path, FOR_ONE, gpu=2, gpu_memory_mib=512))
    assert found.providers == [(CUDA, {"device_id": 2, "gpu_mem_limit": 512 << 20}), CPU]
    assert found.says == "GPU 2"
    assert found.of_mlflow().says == "where MLflow places it, a GPU being here"


def test_a_model_whose_own_library_asks_it_on_the_cpu_is_refused_beside_a_gpu_unless_that_is_declared(
    logistic_model: Path, tmp_path: Path, driver: Path
) -> None:
    driver.touch()
    found = settings(tmp_path, FOR_ONE)
    shutil.copytree(logistic_model, found.model_folder)
    found.label_file.write_text(json.dumps({"model": "employment", "version": "3"}))
    with pytest.raises(ModelUnusable, match="a model is asked by sklearn on the CPU, and the revision asks for a GPU"):
        loading(found, "none", "")
    scorer, _ = loading(settings(tmp_path, OR_CPU), "none", "").warmed()
    assert scorer.notes["device"] == "the CPU in a GPU's place: a model is asked by sklearn on the CPU"


@pytest.mark.parametrize("text", ["[]", "{", "7"])
def test_a_file_of_resources_that_says_none_of_it_makes_the_model_unusable(tmp_path: Path, text: str) -> None:
    (tmp_path / "resources.json").write_text(text)
    with pytest.raises(ModelUnusable, match=r"resources\.json"):
        resources(tmp_path)


@pytest.fixture(scope="module")
def variant(logistic_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("variant")
    pd.DataFrame({"age": [30, 50], "hours": [20.0, 40.0], "children": [0, 2]}).to_parquet(folder / "rows.parquet")
    found = converted(ConvertRequest(logistic_model, folder / "rows.parquet", Kind.ONNX))
    assert not found.problem, found.problem
    (folder / "model.onnx").write_bytes(base64.b64decode(found.graph))
    (folder / "variant.json").write_text(found.document)
    return folder


@pytest.mark.parametrize(
    ("known", "why"),
    [([CPU], "ONNX Runtime here has no CUDA"), ([CUDA, CPU], "ONNX Runtime could not load CUDA")],
    ids=["built without", "its libraries do not load"],
)
def test_a_variant_is_never_asked_on_the_cpu_unsaid(
    variant: Path, tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch, known: list[str], why: str
) -> None:
    driver.touch()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    with pytest.raises(ModelUnusable, match=why):
        load_variant(variant, device_of(settings(tmp_path, FOR_ONE)))
    found = load_variant(variant, device_of(settings(tmp_path, OR_CPU)))
    assert found.device.says.startswith(f"the CPU in a GPU's place: {why}")
    assert Variant(found).light


class Session:
    """Stands for ONNX Runtime's on a machine with a GPU."""

    def __init__(self, source: str, options: object, providers: list[object]) -> None:
        self.given = providers

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]


def test_a_variant_on_a_gpu_is_asked_by_the_thread_that_predicts(
    variant: Path, tmp_path: Path, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a session that is none: only what is handed to ONNX Runtime and what is made of its answer is shown here."""
    driver.touch()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    found = load_variant(variant, device_of(settings(tmp_path, FOR_ONE)))
    assert found._session.given == [(CUDA, {"device_id": 0}), CPU]
    assert (found.device.says, Variant(found).light) == ("GPU 0", False)
    assert Document.from_bytes((variant / "variant.json").read_bytes()).kind == found.kind


def test_a_served_revision_that_asks_for_a_gpu_ends_with_the_reason_where_none_is(logistic_model: Path, tmp_path: Path) -> None:
    if any(node.exists() for node in devices.NODES):
        pytest.skip("a GPU is here")
    root = packaged(logistic_model, "employment", tmp_path / "bento", BuildOptions(resources=FOR_ONE))
    with launched(root, tmp_path / "log", revision=digest_of(root)) as service:
        assert service.process.wait(60) == 5
    assert "no GPU is here, and the revision asks for a GPU" in service.text()
    shutil.rmtree(root)


def test_what_is_done_without_a_gpu_is_declared_beside_how_many() -> None:
    assert Resources(gpu=1, without_gpu="cpu").asked() == {"gpu": 1, "without_gpu": "cpu"}
    with pytest.raises(ValueError, match="without_gpu says what to do without a GPU, and gpu is not declared"):
        Resources(without_gpu="cpu")
