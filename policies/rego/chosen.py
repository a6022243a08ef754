"""Which policies hold: those that Convoy brings, and one's own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.declared_policy import PolicyFiles
from fleet.errors import InputError
from policies.rego.bundle import merged, read_bundle, read_data, shipped_bundle, shipped_data
from policies.rego.decision import PACKAGE, Policy

SHIPPED, OWN = "Convoy's policy", "own policy"


@dataclass(frozen=True, slots=True)
class Own:
    """Policies of one's own: a folder of rules (None: none), the package that is asked, and data for all rules (None: none)."""

    rules: Path | None = None
    package: str = PACKAGE
    data: Path | None = None

    @classmethod
    def declared(cls, files: PolicyFiles | None, folder: Path | None) -> Own:
        """Return what a fleet file declares, whose folder is given; raises InputError where it is not known."""
        if files is None:
            return cls()
        if folder is None:
            raise InputError(
                "gates.policy", "names paths below the folder of fleet.yaml, which is not known here", "Say where fleet.yaml lies."
            )
        return cls(folder / files.rules if files.rules else None, files.package, folder / files.data if files.data else None)


def policies(own: Own) -> tuple[tuple[str, Policy], ...]:
    """Return every policy that holds, by what it is called; each is asked alone, so that none can change another's rules.

    Raises InputError where a file is not there, or data has a key that nothing reads.
    """
    shipped = shipped_data()
    added = read_data(own.data) if own.data is not None else {}
    if own.rules is None:
        _check_known(added, shipped, own.data)
    data = merged((shipped, added))
    found = [(SHIPPED, Policy.of(shipped_bundle(), {key: data[key] for key in shipped}))]
    if own.rules is not None:
        found.append((OWN, Policy.of(read_bundle(own.rules), data, own.package)))
    return tuple(found)


def _check_known(added: Mapping[str, Any], shipped: Mapping[str, Any], file: Path | None) -> None:
    unknown = sorted(set(added) - set(shipped))
    if unknown:
        known = ", ".join(sorted(shipped))
        raise InputError(
            f"policy data {file}", f"has {', '.join(unknown)}, which no rule reads (known: {known})", "Correct or remove the key."
        )
