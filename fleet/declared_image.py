"""What the image of a model's Bento is made from: the key `image` of a model in fleet.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.declaring import Declared
from fleet.image_inputs import unfit_base_image, unfit_system_package


def _base_image(text: str) -> str:
    if why := unfit_base_image(text):
        raise ValueError(why)
    return text


def _system_package(text: str) -> str:
    if why := unfit_system_package(text):
        raise ValueError(why)
    return text


BaseImage = Annotated[str, AfterValidator(_base_image)]
SystemPackage = Annotated[str, AfterValidator(_system_package)]


GpuType = Literal[
    "nvidia-tesla-t4",
    "nvidia-tesla-p4",
    "nvidia-tesla-p100",
    "nvidia-tesla-v100",
    "nvidia-tesla-k80",
    "nvidia-tesla-a100",
    "nvidia-tesla-h100",
    "nvidia-a10g",
    "nvidia-a100-80gb",
    "nvidia-h100-80gb",
    "nvidia-h200-141gb",
    "nvidia-b200",
    "nvidia-gb200",
    "nvidia-l4",
    "nvidia-rtx-pro-6000",
    "amd-mi300x",
    "amd-mi325x",
    "amd-mi355x",
]
"""The names that BentoML knows (`_bentoml_sdk/service/config.py`); it refuses others."""


OF_A_GPU = {
    "gpu_type": "which GPU",
    "gpu_slice": "which part of a GPU",
    "gpu_provider": "through what the GPU is asked",
    "without_gpu": "what to do without a GPU",
}
"""What makes no sense without `gpu`."""


class Resources(Declared):
    """What one server asks of the machine it runs on, in Kubernetes' units; what is left out is not asked for.

    `cpu` is in cores (`"2"`, `"0.5"`) or thousandths (`500m`), `memory` in `Mi` or `Gi`, `gpu` a number of whole devices.
    `gpu_slice` is the part of one that is asked for in its place, by NVIDIA's name of the MIG profile: to CUDA it is one device.
    `gpu_provider` says through what ONNX Runtime asks the GPU: CUDA (the default), or TensorRT with CUDA behind it.
    `without_gpu` says what a server does where it finds none: refuse to get ready (the default), or answer on the CPU.
    """

    cpu: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,4}m?|[0-9]{1,4}\.[0-9]{1,3})$")] | None = None
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}(Mi|Gi)$")] | None = None
    gpu: Annotated[int, Field(ge=1, le=64)] | None = None
    gpu_type: GpuType | None = None
    gpu_slice: Annotated[str, Field(pattern=r"^mig-[1-7]g\.[1-9][0-9]{0,2}gb(\.me)?$")] | None = None
    gpu_provider: Literal["cuda", "tensorrt"] | None = None
    without_gpu: Literal["refuse", "cpu"] | None = None

    def asked(self) -> dict[str, str | int]:
        """Return what is asked for, by name."""
        found: dict[str, str | int] = self.model_dump(exclude_none=True)
        return found

    @model_validator(mode="after")
    def _all_of_a_gpu(self) -> Self:
        for name, says in OF_A_GPU.items():
            if getattr(self, name) is not None and self.gpu is None:
                raise ValueError(f"{name} says {says}, and gpu is not declared: say how many")
        if self.gpu_slice is not None and self.gpu != 1:
            raise ValueError(f"gpu_slice is a part of one GPU, and gpu asks for {self.gpu}: declare one of them, or gpu: 1")
        return self


OF_OUR_SERVICE = {
    "optimise": "makes variants that only Convoy's service can serve",
    "drift": "compares rows that only Convoy's service keeps",
    "gates.dependencies": "looks at packages that Convoy installs",
    "gates.licences": "looks at packages that Convoy installs",
}
"""What of a model's sections is about the service and the environment that Convoy builds."""


class Container(Declared):
    """A container of the model's owner, served in the place of Convoy's own scoring service.

    `layout` is the folder of an OCI image layout, from the folder of fleet.yaml on where it is not absolute; `digest` is that
    of one platform's image manifest in it. It must keep the contract `convoy` (docs/packaging.md).
    """

    layout: Path
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Image(Declared):
    """What BentoML writes into the Dockerfile: the image to begin with, by its digest, and Debian packages to install.

    `resources` is what a server asks for. All stand in the Bento, so its digest names them too. Without them BentoML takes
    what it takes. A model on GPUs names the CUDA image that it begins with: no other has what its libraries load.

    With a `container` there is no Bento: nothing is installed, and of the resources only the memory is known.
    """

    base_image: BaseImage | None = None
    system_packages: Annotated[tuple[SystemPackage, ...], Field(max_length=100)] = ()
    resources: Resources = Resources()
    container: Container | None = None

    @model_validator(mode="after")
    def _a_container_is_whole(self) -> Self:
        if self.container is None:
            return self
        also = sorted(self.model_fields_set & {"base_image", "system_packages"})
        also += [f"resources.{name}" for name in sorted(self.resources.model_fields_set - {"memory"})]
        if also:
            raise ValueError(f"container is served as it is, and {', '.join(also)} would change what is built: declare one of them")
        return self

    def problem(self, declared: Mapping[str, object]) -> str:
        """Say which sections of a model, by their keys (None: not declared), make no sense where its own container serves."""
        wrong = [f"{key} {why}" for key, why in OF_OUR_SERVICE.items() if declared[key] is not None]
        if self.container is None or not wrong:
            return ""
        return f"image.container brings a service of its own, and {'; '.join(wrong)}: declare one of them"

    @model_validator(mode="after")
    def _gpus_have_their_image(self) -> Self:
        if self.resources.gpu is not None and self.base_image is None:
            raise ValueError("resources.gpu asks for a GPU, and base_image names no CUDA image to begin with: declare it, by its digest")
        return self
