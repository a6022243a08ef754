"""Which target names there are, and where each is implemented; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib

from clouds.serving import TargetFactory
from fleet.errors import NotSupported, UnknownName

TARGETS = {"local": "clouds.local.target:LocalTarget"}
EXTRAS = {"local": "stack"}
NOT_YET = ("aws", "azure", "gcp", "kubernetes")


def target_of(name: str) -> TargetFactory:
    """Return what makes the target of a name.

    Raises UnknownName that lists the known ones, NotSupported for a target that is not built yet or whose libraries
    are not installed.
    """
    if name in NOT_YET:
        raise NotSupported(f"target '{name}'", "not there yet", "See docs/your-clouds.md.")
    if name not in TARGETS:
        raise UnknownName(
            f"target '{name}'", f"is not one of {', '.join(sorted((*TARGETS, *NOT_YET)))}", "Correct the region in fleet.yaml."
        )
    module, _, factory = TARGETS[name].partition(":")
    try:
        found: TargetFactory = getattr(importlib.import_module(module), factory)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.split(".")[0] == "clouds":
            raise
        raise NotSupported(
            f"target '{name}'", f"needs {missing.name}, which is not installed", f"Install convoy[{EXTRAS[name]}]."
        ) from missing
    return found
