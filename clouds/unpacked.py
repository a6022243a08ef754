"""The seam between anti-entropy and a target: where the files lie that a region serves, so that they can be held against their digest."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from clouds.serving import Deployment, ServingTarget


@runtime_checkable
class Unpacking(Protocol):
    """A target that serves from folders which can be read from here. A deploy of the same revision replaces one that differs."""

    def unpacked(self, region: str) -> tuple[tuple[Deployment, Path], ...]:
        """Return each revision that a region was given, with the folder that it serves from."""


def unpacked(target: ServingTarget, region: str) -> tuple[tuple[Deployment, Path], ...]:
    """Return what a region serves and from where; nothing for a target that keeps its files to itself and checks them itself."""
    return target.unpacked(region) if isinstance(target, Unpacking) else ()
