import re
from importlib import metadata

import pytest

from bentos.lock import gpu_pins, own_pins
from bentos.requirements import VARIANT_NEEDS, _beside_gpu, components, locked, pins_of, unpinned
from fleet.components import Component
from fleet.errors import InputError
from fleet.pins import Pin


def test_what_a_requirement_needs_is_locked_with_it():
    lines = dict(line.split("==") for line in locked(["scikit-learn"]))

    assert lines["scikit-learn"] == metadata.version("scikit-learn")
    assert {"scipy", "joblib", "numpy"} <= set(lines)
    assert list(lines) == sorted(lines)


def test_comments_and_blank_lines_are_skipped():
    assert locked(["", "# numpy==0", "numpy  # the installed one"]) == locked([])


@pytest.mark.parametrize("line", ["--extra-index-url https://example.org/simple", "-r other.txt", "./local.whl"])
def test_what_would_ask_an_index_or_a_file_is_refused(line):
    with pytest.raises(InputError, match="not a plain requirement"):
        locked([line])


def test_what_is_not_installed_is_refused_by_name():
    with pytest.raises(InputError, match=r"no-such-package-of-convoy.*is not installed"):
        locked(["no-such-package-of-convoy"])


def test_a_conflict_of_the_model_with_the_service_names_both_sides():
    with pytest.raises(InputError) as caught:
        locked(["numpy<1"])
    installed = metadata.version("numpy")

    assert caught.value.subject == "requirement 'numpy<1' of the model"
    assert re.fullmatch(
        rf"conflicts with 'numpy\S*' of the scoring service(?: through [a-z-]+)?: {re.escape(installed)} is installed", caught.value.reason
    )


def test_a_package_of_the_models_own_in_another_version_is_no_conflict_of_two():
    with pytest.raises(InputError) as caught:
        locked(["pytest<1"])

    assert caught.value.reason == f"{metadata.version('pytest')} is installed"


def test_what_convoys_own_lock_has_is_pinned_by_it_and_one_that_it_has_not_leaves_all_unpinned(monkeypatch):
    own = own_pins()
    assert unpinned(["scikit-learn"]) == ()
    assert pins_of(["scikit-learn"], None) is own
    assert all("--hash=sha256:" in line for line in locked(["scikit-learn"], own))

    without = {name: pin for name, pin in own.items() if name != "scikit-learn"}
    monkeypatch.setattr("bentos.requirements.own_pins", lambda: without)
    assert unpinned(["scikit-learn"]) == (f"scikit-learn=={metadata.version('scikit-learn')}",)
    assert pins_of(["scikit-learn"], None) is None
    assert pins_of(["scikit-learn"], own) is own, "what is declared is not second-guessed here"


def test_beside_a_gpu_its_onnx_runtime_stands_in_the_others_place_at_the_same_version_and_pinned():
    pytest.importorskip("onnxruntime")
    plain, beside = (locked(VARIANT_NEEDS, pins_of(VARIANT_NEEDS, None, gpu=gpu), gpu=gpu) for gpu in (False, True))
    of_gpu = next(line for line in beside if line.startswith("onnxruntime-gpu=="))

    assert of_gpu.split()[0] == f"onnxruntime-gpu=={metadata.version('onnxruntime')}"
    assert of_gpu.split()[1:] == [f"--hash={found}" for found in gpu_pins()["onnxruntime-gpu"].hashes]
    assert sorted({*plain} ^ {*beside}) == sorted({next(line for line in plain if line.startswith("onnxruntime==")), of_gpu})
    assert locked([], gpu=True) == locked([]), "what nobody needs is not brought in"
    (told,) = (each for each in components(VARIANT_NEEDS, gpu=True) if each.name == "onnxruntime-gpu")
    assert told.licence or told.classifiers or told.expression
    assert told.through == ("the model",)


def test_another_version_of_it_than_the_one_that_the_gates_ran_on_is_refused(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("bentos.requirements.gpu_pins", lambda: {"onnxruntime-gpu": Pin("1.0.0", ("sha256:" + "a" * 64,))})

    with pytest.raises(InputError, match=r"'onnxruntime-gpu==1\.0\.0': stands in the place of onnxruntime beside a GPU, where \d"):
        locked(VARIANT_NEEDS, gpu=True)


@pytest.mark.parametrize("version", ["2.15.0", "2.15.0+cu132"])
def test_beside_a_gpu_pytorch_must_not_be_a_build_for_the_cpu_alone(version):
    torch = Component("torch", version)
    assert _beside_gpu(torch) == torch
    with pytest.raises(InputError, match=r"'torch==2\.15\.0\+cpu': is built without CUDA, and the model is to be asked on a GPU"):
        _beside_gpu(Component("torch", "2.15.0+cpu"))
