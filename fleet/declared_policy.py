"""Which policies hold for a model beside those that Convoy brings: `gates.policy` of a model in fleet.yaml."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fleet.declaring import Declared, RelativePath

PackageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=100)]


class PolicyFiles(Declared):
    """Policies of one's own, as paths below the folder of fleet.yaml.

    `rules` is a folder of Rego files, of which `package` is asked; what Convoy's rules refuse is refused all the same.
    `data` (YAML or JSON) tells both what they go by: a key that it has replaces the shipped one whole.
    """

    rules: RelativePath | None = None
    package: PackageName = "main"
    data: RelativePath | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rules is None and self.data is None:
            raise ValueError("policy needs rules, data or both")
        return self
