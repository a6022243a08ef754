"""PyTorch modules on a device that is declared, and compiled: refused rather than asked otherwise.

What needs no PyTorch is shown with a stand-in of it; the rest runs where PyTorch is installed, on the CPU.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bentos_serving import digest_of, packaged, serving

from bentos.inputs import BuildOptions
from bentos.service import device as devices
from bentos.service.device import Device, compiles
from bentos.service.errors import ModelUnusable, SettingsWrong
from bentos.service.loading import loading
from bentos.service.modules import Compiled, Lane, eager, name_of, placed, sizes
from bentos.service.settings import ServiceSettings
from fleet.declared_optimise import Optimise

ROWS = np.random.default_rng(3).normal(0, 1, (50, 8)).astype(np.float32)
GPU = Device("GPU 1", {"device_id": 1}, {"gpu": 1})


def stand_in(monkeypatch: pytest.MonkeyPatch, *, cuda: str | None = "13.2", count: int = 2) -> list[tuple[Any, ...]]:
    """Make PyTorch one that finds so many GPUs of 1,000 bytes; returns what is asked of it."""
    asked: list[tuple[Any, ...]] = []
    found = SimpleNamespace(
        is_available=lambda: count > 0,
        device_count=lambda: count,
        set_device=lambda at: asked.append(("device", at)),
        get_device_properties=lambda at: SimpleNamespace(total_memory=1000),
        set_per_process_memory_fraction=lambda share, at: asked.append(("memory", share, at)),
    )
    torch = SimpleNamespace(__version__="2.15.0", version=SimpleNamespace(cuda=cuda), cuda=found)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return asked


@pytest.mark.parametrize(
    ("there", "why"),
    [({"cuda": None}, "PyTorch 2.15.0 is built without CUDA"), ({"count": 0}, "PyTorch 2.15.0 finds no GPU that its CUDA 13.2 can use")],
    ids=["built without", "no GPU"],
)
def test_a_pytorch_model_is_never_asked_on_the_cpu_unsaid(there: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, **there)
    with pytest.raises(ModelUnusable, match=f"{why}, and the revision asks for a GPU"):
        placed(GPU)
    found = placed(Device("GPU 1", {"device_id": 1}, {"gpu": 1, "without_gpu": "cpu"}))
    assert (name_of(found), found.says) == ("cpu", f"the CPU in a GPU's place: {why}")


def test_a_pytorch_model_has_its_gpu_and_its_share_of_that_ones_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in(monkeypatch)
    found = placed(Device("GPU 1", {"device_id": 1, "gpu_mem_limit": 250}, {"gpu": 1}))
    assert (name_of(found), found.says) == ("cuda:1", "GPU 1, by PyTorch")
    assert asked == [("device", 1), ("memory", 0.25, 1)]
    asked.clear()
    placed(Device("GPU 0", {"device_id": 0, "gpu_mem_limit": 5000}, {"gpu": 1}))
    assert asked == [("device", 0), ("memory", 1.0, 0)]


def test_a_gpu_that_pytorch_does_not_find_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, count=1)
    with pytest.raises(SettingsWrong, match="CONVOY_SERVICE_GPU: must be less than 1, as many GPUs as PyTorch finds, not 1"):
        placed(GPU)


def test_without_a_declared_gpu_pytorch_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert name_of(placed(Device())) == "cpu"


def test_graphs_are_recorded_for_powers_of_two_and_for_the_most_rows() -> None:
    assert [sizes(most) for most in (1, 2, 3, 16)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4, 8, 16)]
    assert sizes(1000)[-2:] == (512, 1000)


def test_a_lane_answers_in_its_own_thread_and_goes_on_after_a_failure() -> None:
    import threading

    lane = Lane()
    assert lane.run(lambda: threading.current_thread().name) == "compiled"
    with pytest.raises(ZeroDivisionError):
        lane.run(lambda: 1 / 0)
    assert lane.run(lambda: 7) == 7


def test_rows_are_filled_up_to_the_next_size_cut_at_the_largest_and_answered_one_for_one() -> None:
    """Without PyTorch: what a compiled module is given, and what is made of its answers."""
    compiled, given = Compiled(None, "cpu", graphs=True), []
    compiled._sizes = sizes(8)
    compiled._run = lambda rows: given.append(len(rows)) or rows * 2
    for count, calls in ((1, [1]), (2, [2]), (3, [4]), (5, [8]), (8, [8]), (20, [8, 8, 4]), (17, [8, 8, 1])):
        assert (compiled(ROWS[:count]) == ROWS[:count] * 2).all()
        assert given == calls
        given.clear()


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    found = pytest.importorskip("torch")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    found.compiler.reset()
    found.manual_seed(1)
    yield found
    found.compiler.set_stance("default")


@pytest.fixture
def network(torch: Any) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Softmax(dim=1)).eval()


@pytest.mark.parametrize("graphs", [False, True], ids=["any number of rows", "filled up as for CUDA graphs"])
def test_a_compiled_module_answers_as_the_module_and_is_not_compiled_again(network: Any, graphs: bool) -> None:
    compiled, own = Compiled(network, "cpu", graphs), eager(network, "cpu")
    compiled.warm(ROWS[:1], 16)
    for count in (1, 2, 5, 16, 17, 50):
        np.testing.assert_allclose(compiled(ROWS[:count]), own(ROWS[:count]), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="fail_on_recompile"):
        compiled(ROWS[:4].astype(np.float64))
    np.testing.assert_allclose(compiled(ROWS[:3]), own(ROWS[:3]), rtol=1e-5, atol=1e-6)


def test_a_module_that_cannot_be_compiled_whole_is_refused(torch: Any) -> None:
    class Looks(torch.nn.Module):
        def forward(self, rows: Any) -> Any:
            return rows if rows.sum().item() > 0 else -rows

    with pytest.raises(ModelUnusable, match=r"optimise\.compile is declared, and torch\.compile fails"):
        Compiled(Looks(), "cpu").warm(ROWS[:1], 4)


WITHOUT = """
import numpy, torch
from bentos.service.modules import Compiled
Compiled(torch.nn.Linear(8, 3), "cpu").warm(numpy.zeros((1, 8), "float32"), 4)
"""


def test_without_a_compiler_for_cpp_the_reason_names_it(torch: Any, tmp_path: Path) -> None:
    """In a process of its own: PyTorch looks for the compiler once."""
    variables = {**os.environ, "CXX": "no-such-g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "empty")}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert re.search(r"ModelUnusable: optimise\.compile is declared, and torch\.compile fails .*no-such-g\+\+", done.stderr), done.stderr[
        -2000:
    ]


def revision(root: Path, module: Any, **declared: Any) -> ServiceSettings:
    """Lay out a revision of a PyTorch module that takes an array; what is declared goes into files by name."""
    import mlflow.pytorch
    from mlflow.models import infer_signature

    found = ServiceSettings(root, batch_rows=16)
    found.model_folder.parent.mkdir(parents=True)
    more = {"signature": infer_signature(ROWS), "input_example": ROWS[:5], "pip_requirements": ["numpy"]}
    mlflow.pytorch.save_model(module, found.model_folder, serialization_format="pickle", **more)
    found.label_file.write_text(json.dumps({"model": "m", "version": "1"}))
    for name, said in declared.items():
        (root / "src" / f"{name}.json").write_text(json.dumps(said))
    return found


def test_a_revision_that_declares_it_is_compiled_before_it_is_compared_with_mlflow(network: Any, tmp_path: Path) -> None:
    scorer, _ = loading(revision(tmp_path / "r", network, optimise={"compile": True}), "none", "").warmed()
    assert scorer.notes["path"] == "pytorch, compiled"
    assert scorer.notes["because"].endswith("requests as MLflow does")
    assert scorer.predictor.together
    assert not scorer.predictor.light
    assert scorer.predictor.ask.compiled  # type: ignore[attr-defined]


def test_a_served_revision_answers_compiled_whatever_number_of_rows_is_asked_at_once(network: Any, tmp_path: Path) -> None:
    """The process as a target starts it; no caller waits for anything to be compiled."""
    made = revision(tmp_path / "r", network)
    root = packaged(made.model_folder, "m", tmp_path / "bento", BuildOptions(compile=True))
    with serving(root, tmp_path / "log", revision=digest_of(root), batch_rows="8") as service:
        assert service.get("/v2/health/ready").json()["path"] == "pytorch, compiled"

        def asked(count: int) -> Any:
            rows = {"name": "input", "datatype": "FP32", "shape": [count, 8], "data": ROWS[:count].ravel().tolist()}
            answer = service.infer("m", rows)
            assert answer.status_code == 200, answer.text
            return answer.json()["outputs"][0]["data"]

        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(asked, counts := [1, 2, 3, 7, 8, 20, 1, 5] * 4))
    for count, answer in zip(counts, answers, strict=True):
        np.testing.assert_allclose(answer, eager(network, "cpu")(ROWS[:count]).ravel(), rtol=1e-4, atol=1e-6)


def test_a_module_whose_rows_mind_one_another_is_not_compiled(torch: Any, tmp_path: Path) -> None:
    class Centred(torch.nn.Module):
        def forward(self, rows: Any) -> Any:
            return rows - rows.mean(dim=0)

    found = loading(revision(tmp_path / "r", Centred(), optimise={"compile": True}), "none", "")
    with pytest.raises(ModelUnusable, match=r"optimise\.compile is declared, and its rows mind one another"):
        found.warmed()


def test_a_gpu_that_pytorch_does_not_find_leaves_the_cpu_only_where_that_is_declared(
    network: Any, torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(devices, "NODES", (tmp_path / "nvidiactl",))
    refused = revision(tmp_path / "refused", network, resources={"gpu": 1})
    for because in ("", "MLflow is asked"):
        with pytest.raises(ModelUnusable, match=r"PyTorch .* (finds no GPU|is built without CUDA).*, and the revision asks for a GPU"):
            loading(refused, "none", because)
    scorer, _ = loading(revision(tmp_path / "r", network, resources={"gpu": 1, "without_gpu": "cpu"}), "none", "").warmed()
    assert scorer.notes["path"] == "pytorch"
    assert scorer.notes["device"].startswith("the CPU in a GPU's place: PyTorch ")


def test_only_a_pytorch_model_asked_by_pytorch_is_compiled_and_others_are_refused(logistic_model: Path, tmp_path: Path) -> None:
    found = ServiceSettings(tmp_path)
    shutil.copytree(logistic_model, found.model_folder)
    found.label_file.write_text(json.dumps({"model": "m", "version": "1"}))
    (tmp_path / "src" / "optimise.json").write_text('{"compile": true}')
    with pytest.raises(
        ModelUnusable, match=r"optimise\.compile is declared, which is for PyTorch models, and this one is asked by sklearn"
    ):
        loading(found, "none", "")
    with pytest.raises(ModelUnusable, match=r"optimise\.compile is declared, and the model is asked through MLflow: it differs"):
        loading(found, "none", "it differs")


@pytest.mark.parametrize(("text", "said"), [(None, False), ("{}", False), ('{"compile": true}', True), ('{"compile": 1}', False)])
def test_what_a_revision_says_of_compiling_is_read_from_its_files(tmp_path: Path, text: str | None, said: bool) -> None:
    if text is not None:
        (tmp_path / "optimise.json").write_text(text)
    assert compiles(tmp_path) is said


DECLARED: dict[str, tuple[dict[str, Any], str]] = {
    "no variant at all": ({"variants": []}, "variants must name one at least"),
    "a graph in the model's place": ({"compile": True, "variants": ["onnx"], "serve": "onnx"}, "declare one of them"),
}


@pytest.mark.parametrize("case", DECLARED)
def test_compiling_is_declared_for_the_model_itself(case: str) -> None:
    wrong, why = DECLARED[case]
    with pytest.raises(ValueError, match=why):
        Optimise.model_validate(wrong)


def test_where_compiling_is_declared_no_variant_is_made_unless_it_is_named() -> None:
    assert Optimise.model_validate({"compile": True}).variants == ()
    assert Optimise.model_validate({"compile": True, "variants": ["onnx"]}).variants == ("onnx",)
    assert Optimise.model_validate({}).variants == ("onnx",)
    assert not Optimise().compile
