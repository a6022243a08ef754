"""Convoy's own lock: every package that is installed with it, by version and hashes, as `make lock` wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from fleet.pins import Pin, read_pins

HERE = Path(__file__).parent
GPU = HERE / "gpu.lock"
PLACES = (HERE / "requirements.lock", HERE.parent / "requirements.lock")
"""Within an installed wheel, and in a checkout."""


@cache
def own_pins() -> Mapping[str, Pin]:
    """Return the pins of Convoy's own lock by normalised name; none where it was installed without."""
    return next((read_pins(file) for file in PLACES if file.is_file()), {})


@cache
def gpu_pins() -> Mapping[str, Pin]:
    """Return the pins of what an environment beside a GPU has in the place of another package, by normalised name."""
    return read_pins(GPU)
