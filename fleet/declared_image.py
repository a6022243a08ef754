"""What the image of a model's Bento is made from: the key `image` of a model in fleet.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

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


class Image(Declared):
    """What BentoML writes into the Dockerfile: the image to begin with, by its digest, and Debian packages to install.

    Both stand in the Bento, so its digest names them too. Without them BentoML takes what it takes.
    """

    base_image: BaseImage | None = None
    system_packages: Annotated[tuple[SystemPackage, ...], Field(max_length=100)] = ()
