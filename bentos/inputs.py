"""What a Bento is built from beside the model: checked before anything is built, wherever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import Refused
from fleet.image_inputs import unfit_base_image, unfit_system_package
from fleet.pins import Pin


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The image to begin with (by digest), Debian packages for it, and the pins whose hashes the requirements carry.

    Without pins Convoy's own lock is used where it has all. `resources` is what `bentoml.service(resources=...)` takes,
    `variant` the folder of the model's variant that is served in its place, `compile` has the service compile a PyTorch model.
    """

    base_image: str | None = None
    system_packages: tuple[str, ...] = ()
    pins: Mapping[str, Pin] | None = None
    resources: Mapping[str, str | int] = field(default_factory=dict)
    variant: Path | None = None
    compile: bool = False

    def check(self) -> None:
        """Raise Refused for what would be pasted into a Dockerfile as something else than it is."""
        if self.base_image is not None and (why := unfit_base_image(self.base_image)):
            raise Refused(f"base image {self.base_image!r}", why, "Correct it; nothing was built.")
        for package in self.system_packages:
            if why := unfit_system_package(package):
                raise Refused(f"system package {package!r}", why, "Correct it; nothing was built.")

    def docker(self) -> dict[str, object]:
        """Return the section `docker` of a build file, empty where nothing is asked for."""
        base = {"base_image": self.base_image} if self.base_image else {}
        return base | ({"system_packages": list(self.system_packages)} if self.system_packages else {})

    @property
    def gpu(self) -> bool:
        """Whether the revision asks for a GPU."""
        return bool(self.resources.get("gpu"))
