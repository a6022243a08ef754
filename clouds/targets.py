"""Which target names there are, and where each is implemented; nothing is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from clouds.billing import BillSourceFactory
from clouds.serving import TargetFactory
from fleet.errors import NotSupported, UnknownName

TARGETS = {"local": "clouds.local.target:LocalTarget"}
BILLS = {"local": "clouds.local.billing:LocalBills"}
EXTRAS = {"local": "stack"}
NOT_YET = ("aws", "azure", "gcp", "kubernetes")


def target_of(name: str) -> TargetFactory:
    """Return what makes the target of a name.

    Raises UnknownName that lists the known ones, NotSupported for a target that is not built yet or whose libraries
    are not installed.
    """
    found: TargetFactory = _implemented(name, TARGETS)
    return found


def bills_of(name: str) -> BillSourceFactory:
    """Return what makes the bills of a target; raises as `target_of`."""
    found: BillSourceFactory = _implemented(name, BILLS)
    return found


def _implemented(name: str, table: Mapping[str, str]) -> Any:
    if name in NOT_YET:
        raise NotSupported(f"target '{name}'", "not there yet", "See docs/your-clouds.md.")
    if name not in table:
        raise UnknownName(f"target '{name}'", f"is not one of {', '.join(sorted((*table, *NOT_YET)))}", "Correct the region in fleet.yaml.")
    module, _, factory = table[name].partition(":")
    try:
        return getattr(importlib.import_module(module), factory)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.split(".")[0] == "clouds":
            raise
        raise NotSupported(
            f"target '{name}'", f"needs {missing.name}, which is not installed", f"Install convoy[{EXTRAS[name]}]."
        ) from missing
