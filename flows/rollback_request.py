"""Asking for a rollback: which earlier version, and the desire for it."""

from __future__ import annotations

from fleet.errors import InputError
from flows.desires import CANDIDATE, ask_rollback, observe_candidate
from flows.house import House
from flows.work import once_stable


def ask_for(house: House, model: str, version: str | None, actor: str) -> str:
    """Open the desire for an earlier stable version and return the version; the alias is set, nothing else is done."""
    house.model(model)
    known = once_stable(house, model)
    if not known:
        raise InputError(f"model '{model}'", "no version was ever promoted", "Release one first.")
    earlier = [found.version for found in known if found.digest != known[-1].digest]
    wanted = version or (earlier[-1] if earlier else None)
    if wanted is None or wanted not in [found.version for found in known]:
        versions = ", ".join(dict.fromkeys(found.version for found in known))
        raise InputError(f"model '{model}'", f"there is no earlier stable version {version or ''}".rstrip(), f"Once stable: {versions}.")
    ask_rollback(house.ledger, model, wanted, actor)
    house.models.set_alias(model, CANDIDATE, wanted)
    observe_candidate(house.ledger, model, wanted, actor)
    return wanted
