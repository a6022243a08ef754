"""What everything declared in fleet.yaml has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class Declared(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(path: Path) -> Path:
    """Refuse a path that would leave the folder of fleet.yaml."""
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path below the folder of fleet.yaml")
    return path


RelativePath = Annotated[Path, AfterValidator(_inside)]
