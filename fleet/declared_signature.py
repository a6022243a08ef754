"""Whose OpenSSF signature a model must carry: the key `gates.signature` of a model in fleet.yaml."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, model_validator

from fleet.declaring import Declared, RelativePath


def _in_the_model(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".sig":
        raise ValueError("must be a file among the model's own that ends in .sig")
    return name


class Signature(Declared):
    """A model-signing bundle among the model's files, and who may have signed it.

    `keys` are public EC keys, `certificates` those that may vouch for a signer's (PEM, below the folder of fleet.yaml); one
    of the two is declared. One key that verifies is enough.
    """

    bundle: Annotated[str, AfterValidator(_in_the_model)] = "model.sig"
    keys: tuple[RelativePath, ...] = ()
    certificates: tuple[RelativePath, ...] = ()

    @model_validator(mode="after")
    def _of_one_kind(self) -> Signature:
        if bool(self.keys) == bool(self.certificates):
            raise ValueError("signature needs keys or certificates, one of the two")
        return self
