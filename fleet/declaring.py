"""What everything declared in fleet.yaml has in common."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Text = Annotated[str, Field(min_length=1)]


class Declared(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(path: Path) -> Path:
    """Refuse a path that would leave the folder of fleet.yaml."""
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path below the folder of fleet.yaml")
    return path


RelativePath = Annotated[Path, AfterValidator(_inside)]


def _exact(value: object) -> object:
    """Refuse what YAML has already turned into a binary number: 0.1 is not 0.1 any more."""
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary number, which holds no price exactly: write it in quotes, as '{value}'")
    return value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=20, decimal_places=12)]
"""An amount or a price: exact, so a string in YAML, with at most twelve decimals."""

GibPrice = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=17, decimal_places=9)]
"""A price of a GiB: bytes are billed to a billionth of a GiB, and a bill has at most eighteen decimals."""
