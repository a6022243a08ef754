"""A GPU that is declared and is not there is no silent CPU."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import pandas as pd
import pytest
from bentos_serving import digest_of, launched, packaged

from bentos.inputs import BuildOptions
from bentos.optimise.convert import converted
from bentos.optimise.messages import ConvertRequest
from bentos.service import device as devices
from bentos.service.device import CPU, CUDA, TENSORRT, Device, device_of, resources
from bentos.service.errors import ModelUnusable, SettingsWrong
from bentos.service.loading import loading
from bentos.service.settings import ServiceSettings
from bentos.service.variant import Document, Variant, load_variant, loaded
from fleet.declared_image import Resources
from fleet.declared_optimise import Variant as Kind

FOR_ONE = {"gpu": 1}
OR_CPU = {"gpu": 1, "without_gpu": "cpu"}


def settings(root: Path, asked: object, **more: Any) -> ServiceSettings:
    (root / "src").mkdir(parents=True, exist_ok=True)
    (root / "src" / "resources.json").write_text(json.dumps(asked))
    return ServiceSettings(root, **more)


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
        assert (found.providers(), found.says) == ([CPU], "")


def test_a_gpu_that_is_not_there_is_refused_unless_the_cpu_is_declared_in_its_place(tmp_path: Path, driver: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"no GPU is here, and the revision asks for a GPU; .* declare resources\.without_gpu: cpu"):
        device_of(settings(tmp_path, FOR_ONE))
    with pytest.raises(ModelUnusable, match="no GPU is here"):
        device_of(settings(tmp_path, FOR_ONE | {"without_gpu": "refuse"}))
    found = device_of(settings(tmp_path, OR_CPU))
    assert (found.providers(), found.says) == ([CPU], "the CPU in a GPU's place: no GPU is here")


def test_a_gpu_that_is_there_is_named_with_its_limit_of_memory(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    found = device_of(settings(tmp_path, FOR_ONE, gpu=2, gpu_memory_mib=512))
    assert found.providers() == [(CUDA, {"device_id": 2, "gpu_mem_limit": 512 << 20}), CPU]
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


REAL_SESSION = onnxruntime.InferenceSession


class Node(NamedTuple):
    """Stands for ONNX Runtime's word on one operator."""

    op_type: str


class Part(NamedTuple):
    """Stands for ONNX Runtime's word on who runs a part of the graph."""

    ep_name: str
    operators: tuple[str, ...]

    def get_nodes(self) -> list[Node]:
        return [Node(name) for name in self.operators]


class Session:
    """Stands for ONNX Runtime's on a machine with a GPU; without one the real session calculates."""

    loads = (TENSORRT, CUDA, CPU)
    parts: tuple[Part, ...] = (Part(CUDA, ("Gemm",)),)

    def __init__(self, source: str, options: object, providers: list[object]) -> None:
        self.given = providers
        self.real = REAL_SESSION(source, options, providers=[CPU])

    def get_providers(self) -> list[str]:
        wanted = [each if isinstance(each, str) else each[0] for each in self.given]  # type: ignore[index]
        return [each for each in wanted if each in self.loads]

    def get_provider_graph_assignment_info(self) -> tuple[Part, ...]:
        return self.parts

    def run(self, outputs: list[str], fed: dict[str, Any]) -> Any:
        return self.real.run(outputs, fed)


@pytest.fixture
def gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes ONNX Runtime one that has, loads and uses what it is told to."""

    def made(*parts: Part, loads: tuple[str, ...] = (TENSORRT, CUDA, CPU)) -> None:
        driver.touch()
        monkeypatch.setattr(Session, "parts", parts)
        monkeypatch.setattr(Session, "loads", loads)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)

    return made


def test_a_variant_on_a_gpu_is_asked_by_the_thread_that_predicts(variant: Path, tmp_path: Path, gpu: Callable[..., None]) -> None:
    """With a session that is none: only what is handed to ONNX Runtime and what is made of its answer is shown here."""
    gpu(Part(CUDA, ("Gemm",)))
    found = load_variant(variant, device_of(settings(tmp_path, FOR_ONE)))
    assert found._session.given == [(CUDA, {"device_id": 0}), CPU]
    assert (found.device.says, Variant(found).light) == ("GPU 0", False)
    assert Document.from_bytes((variant / "variant.json").read_bytes()).kind == found.kind


TENSORRT_ONE = FOR_ONE | {"gpu_provider": "tensorrt"}


def test_tensorrt_comes_before_cuda_keeps_what_it_builds_by_revision_and_has_its_limit_of_memory(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    found = device_of(settings(tmp_path, TENSORRT_ONE, gpu=1, gpu_memory_mib=256, gpu_cache=tmp_path / "built"), "sha256:" + "a" * 64)
    told = {"device_id": 1, "trt_fp16_enable": False, "trt_max_workspace_size": 256 << 20}
    kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(tmp_path / "built" / ("a" * 64))}
    assert found.providers() == [(TENSORRT, told | kept), (CUDA, {"device_id": 1, "gpu_mem_limit": 256 << 20}), CPU]
    assert (tmp_path / "built" / ("a" * 64)).is_dir()
    assert found.says == "GPU 1, by TensorRT"
    assert found.providers(half=True)[0][1]["trt_fp16_enable"] is True
    assert device_of(settings(tmp_path, TENSORRT_ONE)).providers()[0] == (TENSORRT, {"device_id": 0, "trt_fp16_enable": False})


def test_a_folder_for_what_tensorrt_builds_that_cannot_be_made_is_named(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsWrong, match=r"CONVOY_SERVICE_GPU_CACHE: .*/file/aa cannot be made"):
        device_of(settings(tmp_path, TENSORRT_ONE, gpu_cache=tmp_path / "file"), "sha256:aa")


def test_tensorrt_calculates_in_16_bits_only_what_is_declared_and_was_compared_so(
    variant: Path, tmp_path: Path, gpu: Callable[..., None]
) -> None:
    gpu(Part(TENSORRT, ("Gemm",)))
    document = Document.from_bytes((variant / "variant.json").read_bytes())
    for kind, half in (("onnx", False), ("onnx-int8", False), ("onnx-fp16", True)):
        found = loaded(variant / "model.onnx", replace(document, kind=kind), device_of(settings(tmp_path, TENSORRT_ONE)))
        assert found._session.given[0] == (TENSORRT, {"device_id": 0, "trt_fp16_enable": half})


@pytest.mark.parametrize(
    ("asked", "parts", "loads", "why"),
    [
        ({"gpu_provider": "tensorrt"}, (Part(CUDA, ("Gemm",)),), (CUDA, CPU), "ONNX Runtime could not load TensorRT"),
        ({"gpu_provider": "tensorrt"}, (Part(CUDA, ("Gemm",)),), (TENSORRT, CUDA, CPU), r"TensorRT runs none of the graph's .* \(Gemm\)"),
        ({}, (Part(CPU, ("Cast", "TreeEnsemble")),), (CUDA, CPU), r"CUDA runs none of the graph's operators \(Cast, TreeEnsemble\)"),
    ],
    ids=["its libraries do not load", "it takes nothing of the graph", "trees"],
)
def test_a_graph_that_the_declared_provider_does_not_run_is_refused_or_asked_on_the_cpu_indeed(
    variant: Path,
    tmp_path: Path,
    gpu: Callable[..., None],
    asked: dict[str, str],
    parts: tuple[Part, ...],
    loads: tuple[str, ...],
    why: str,
) -> None:
    gpu(*parts, loads=loads)
    with pytest.raises(ModelUnusable, match=why):
        load_variant(variant, device_of(settings(tmp_path, FOR_ONE | asked)))
    found = load_variant(variant, device_of(settings(tmp_path, OR_CPU | asked)))
    assert found._session.given == [CPU]
    assert Variant(found).light


def test_what_the_cpu_runs_of_a_graph_beside_the_gpu_is_told(variant: Path, tmp_path: Path, gpu: Callable[..., None]) -> None:
    gpu(Part(CUDA, ("Gemm",)), Part(CPU, ("Shape",)), Part(CPU, ("Gather",)))
    found = load_variant(variant, device_of(settings(tmp_path, FOR_ONE)))
    assert found.device.says == "GPU 0; the CPU runs 2 of 3 operators (Gather, Shape)"


def test_who_runs_which_operator_is_what_onnx_runtime_itself_says(variant: Path) -> None:
    """The real session of this machine, asked as one on a GPU is."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(variant / "model.onnx"), options, providers=[CPU])
    parts = session.get_provider_graph_assignment_info()
    assert {part.ep_name for part in parts} == {CPU}
    with pytest.raises(ModelUnusable, match="CUDA runs none of the graph's operators"):
        Device("GPU 0", {"device_id": 0}, FOR_ONE).where([(part.ep_name, node.op_type) for part in parts for node in part.get_nodes()])


def test_a_variant_on_a_gpu_is_warmed_with_as_many_rows_as_a_call_may_have(
    variant: Path, logistic_model: Path, tmp_path: Path, gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(Part(CUDA, ("Gemm",)))
    found = settings(tmp_path, FOR_ONE, batch_rows=48)
    shutil.copytree(logistic_model, found.model_folder)
    shutil.copytree(variant, found.variant_folder)
    found.label_file.write_text(json.dumps({"model": "employment", "version": "3"}))
    called: list[int] = []
    monkeypatch.setattr(Session, "run", lambda self, outputs, fed: called.append(len(fed["rows"])) or self.real.run(outputs, fed))
    _, made_from = loading(found, "none", "").warmed()
    assert called == [1, 48]
    assert made_from == "a row of zeros, and 48 in one call"


def test_a_slice_is_one_device_to_cuda(tmp_path: Path, driver: Path) -> None:
    driver.touch()
    asked = FOR_ONE | {"gpu_slice": "mig-1g.10gb"}
    assert device_of(settings(tmp_path, asked)).says == "GPU 0, asked for as mig-1g.10gb"
    with pytest.raises(SettingsWrong, match=r"CONVOY_SERVICE_GPU: must be 0, not 1: of slices \(mig-1g.10gb\) CUDA shows a process one"):
        device_of(settings(tmp_path, asked, gpu=1))


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


@pytest.mark.parametrize("name", ["mig-1g.10gb", "mig-1g.5gb.me", "mig-7g.141gb"])
def test_a_slice_is_declared_in_one_gpus_place(name: str) -> None:
    assert Resources(gpu=1, gpu_slice=name).asked() == {"gpu": 1, "gpu_slice": name}
    with pytest.raises(ValueError, match="gpu_slice is a part of one GPU, and gpu asks for 2"):
        Resources(gpu=2, gpu_slice=name)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"gpu_slice": "mig-1g.10gb"}, "gpu_slice says which part of a GPU, and gpu is not declared"),
        ({"gpu_provider": "tensorrt"}, "gpu_provider says through what the GPU is asked, and gpu is not declared"),
        ({"gpu": 1, "gpu_slice": "1g.10gb"}, "gpu_slice"),
        ({"gpu": 1, "gpu_slice": "mig-8g.10gb"}, "gpu_slice"),
        ({"gpu": 1, "gpu_provider": "openvino"}, "'cuda' or 'tensorrt'"),
    ],
)
def test_a_slice_and_a_provider_are_declared_by_names_that_are_known(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Resources(**wrong)
