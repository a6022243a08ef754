"""What is pasted into a Dockerfile: CVE-2026-44345 (`base_image`) and CVE-2026-33744 (`system_packages`) of BentoML."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet.declared_image import GpuType, Image
from fleet.errors import InputError
from fleet.image_inputs import unfit_base_image, unfit_system_package
from fleet.pins import of_text, read_pins
from support.attacks import BASE_IMAGES, DEBIAN_PACKAGES, DIGEST, IMAGES, SYSTEM_PACKAGES

HASH = "--hash=sha256:" + "a" * 64


@pytest.mark.parametrize(
    "text",
    IMAGES,
)
def test_an_image_is_named_and_pinned_by_its_digest(text: str) -> None:
    assert unfit_base_image(text + DIGEST) == ""
    assert "pinned by no digest" in unfit_base_image(text)


@pytest.mark.parametrize(
    "text",
    BASE_IMAGES,
)
def test_dockerfile_injection_by_the_base_image_is_refused(text: str) -> None:
    assert unfit_base_image(text)
    with pytest.raises(ValidationError):
        Image(base_image=text)


@pytest.mark.parametrize("text", DEBIAN_PACKAGES)
def test_a_debian_package_may_have_a_version(text: str) -> None:
    assert unfit_system_package(text) == ""


@pytest.mark.parametrize(
    "text",
    SYSTEM_PACKAGES,
)
def test_shell_injection_by_a_system_package_is_refused(text: str) -> None:
    assert unfit_system_package(text)
    with pytest.raises(ValidationError):
        Image(system_packages=(text,))


def test_a_lock_gives_versions_and_hashes() -> None:
    text = f"# by a tool\nFlask_CORS==2.0 \\\n    {HASH} \\\n    --hash=sha256:{'b' * 64}\npywin32==312 ; sys_platform == 'win32' {HASH}\n"
    pins = of_text(text, "lock")
    assert list(pins) == ["flask-cors"]
    assert (pins["flask-cors"].version, len(pins["flask-cors"].hashes)) == ("2.0", 2)


@pytest.mark.parametrize(
    "line",
    [
        "rich==1.0",
        f"rich>=1.0 {HASH}",
        f"rich {HASH}",
        "rich==1.0 --hash=md5:d41d8cd98f00b204e9800998ecf8427e",
        f"rich==1.0 --hash=sha256:{'a' * 63}",
        f"rich==1.0 {HASH}\nrich==1.1 {HASH}",
        f"rich==1.0 ; nonsense {HASH}",
        "--index-url https://evil.example.org/",
        f"rich @ https://evil.example.org/rich.whl {HASH}",
        "-r other.txt",
    ],
)
def test_a_lock_that_pins_something_else_than_versions_by_hashes_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="lock"):
        of_text(line, "lock")


def test_a_lock_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pins(tmp_path / "lock.txt")


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"gpu": 0}, "greater than or equal to 1"),
        ({"gpu": 1, "gpu_type": "nvidia-riva-128"}, "nvidia-l4"),
        ({"gpu_type": "nvidia-l4"}, "gpu is not declared"),
        ({"cpu": "two"}, "pattern"),
        ({"memory": "4GB"}, "pattern"),
        ({"tpu": 1}, "extra_forbidden"),
    ],
)
def test_resources_that_bentoml_or_kubernetes_would_refuse_are_refused_before_anything_is_built(
    resources: dict[str, object], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        Image.model_validate({"base_image": f"cuda{DIGEST}", "resources": resources})


def test_a_gpu_needs_the_cuda_image_that_it_begins_with() -> None:
    with pytest.raises(ValidationError, match="names no CUDA image to begin with"):
        Image.model_validate({"resources": {"gpu": 1}})
    declared = Image.model_validate({"base_image": f"cuda{DIGEST}", "resources": {"gpu": 1, "memory": "4Gi", "cpu": "0.5"}})
    assert declared.resources.asked() == {"cpu": "0.5", "memory": "4Gi", "gpu": 1}


def test_the_gpus_that_may_be_declared_are_those_that_bentoml_knows() -> None:
    from typing import get_args

    from _bentoml_sdk.service.config import GpuLiteralType

    assert set(get_args(GpuType)) == set(get_args(GpuLiteralType))
