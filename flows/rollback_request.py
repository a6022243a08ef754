"""Asking for a rollback: which earlier version, and the desire for it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from fleet.errors import InputError, TransientError, Unreachable
from flows.desires import CANDIDATE, Desire, Why, observe_candidate, open_rollback, unfinished
from flows.house import House
from flows.work import once_stable, proven_revision, release_revision


def ask_for(house: House, model: str, version: str | None, actor: str) -> Desire:
    """Open the desire for an earlier stable version, then let the alias follow; nothing else is done.

    Without a version it is the stable one while another version is on its way, else the one that was stable before.
    Asked twice, the rollback under way is returned. MLflow may be away: what serves comes out of our own store, and
    reconcile lets the alias follow once MLflow is back. Raises InputError when no such version was ever stable,
    UnknownName when MLflow does not have it any more, and Unreachable when MLflow is away and the revision is not
    stored any more either, before anything is changed.
    """
    house.model(model)
    wanted = version or _under_way(house, model) or _still_stable(house, model) or _before(house, model)
    known = [found.version for found in once_stable(house, model)]
    if wanted is None or wanted not in known:
        versions = f"Once stable: {', '.join(dict.fromkeys(known))}." if known else "Release one first."
        reason = f"there is no earlier stable version {version or ''}".rstrip() if known else "no version was ever promoted"
        raise InputError(f"model '{model}'", reason, versions)
    away = _check_that_it_can_be_followed(house, model, wanted)

    def read() -> str | None:
        # One that did not answer once is not waited for again: the desire must be in the ledger.
        nonlocal away
        if away is None:
            try:
                return house.models.alias(model, CANDIDATE)
            except TransientError as problem:
                away = problem
        raise away

    desire = open_rollback(house.ledger, model, wanted, read, actor)
    # An alias that cannot follow now is owed in the ledger, and whoever observes it next settles it.
    if away is None:
        with suppress(TransientError):
            observe(house, model, actor)
    return desire


def _check_that_it_can_be_followed(house: House, model: str, version: str) -> TransientError | None:
    """Raise unless the alias will be able to follow: MLflow has the version, or is away and the revision is stored.

    Returns how MLflow is away, None when it answered.
    """
    try:
        house.models.version(model, version)
    except TransientError as problem:
        revision = proven_revision(house, model, version)
        if revision is None:
            reason = "its revision is not stored any more, and without MLflow it cannot be packaged again"
            raise Unreachable(f"model '{model}' version {version}", f"{reason} ({problem.reason})", problem.remedy) from problem
        return problem
    return None


def observe(house: House, model: str, actor: str) -> Desire | None:
    """Observe the alias as MLflow has it now, and set it where a rollback that was cut off wants it; returns the desire it opened."""
    read, settle = partial(house.models.alias, model, CANDIDATE), partial(house.models.set_alias, model, CANDIDATE)
    return observe_candidate(house.ledger, model, read, actor, settle)


def _under_way(house: House, model: str) -> str | None:
    """Return what a rollback goes back to that has not ended: by now its version may already be the stable one."""
    newest = unfinished(house.ledger, model)[-1:]
    return newest[0].version if newest and newest[0].why is Why.ROLLBACK else None


def _still_stable(house: House, model: str) -> str | None:
    """Return the stable version while another one is on its way: who calls a release back wants what serves, nothing older."""
    newest, known = unfinished(house.ledger, model)[-1:], once_stable(house, model)
    if not newest or not known:
        return None
    coming = release_revision(house, newest[0])
    return known[-1].version if coming is None or coming.digest != known[-1].digest else None


def _before(house: House, model: str) -> str | None:
    known = once_stable(house, model)
    earlier = [found.version for found in known if found.digest != known[-1].digest]
    return earlier[-1] if earlier else None
