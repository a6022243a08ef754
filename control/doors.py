"""What every door does with a wish: check it, set the alias, record it, and wake the flow."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.errors import Busy, InputError, UnknownName, Unreachable
from flows.announcing import announce
from flows.desires import CANDIDATE, Desire, alias_owed, ask_again, desires, phase_of
from flows.house import House
from flows.rollback_request import ask_for, observe


@dataclass(frozen=True, slots=True)
class Answer:
    """The desire that answers a wish; `says` is what happens next, `woken` whether Prefect knows of it.

    `missing` says what else could not be done yet, and who does it.
    """

    desire: Desire
    says: str
    woken: bool
    missing: str = ""


def request_release(house: House, model: str, version: str, again: bool, actor: str) -> Answer:
    """Want a version: the alias is set, the desire opened and the flow woken.

    Raises LedgerBroken, UnknownName for an unknown model or version and InputError for a version without a schema or one
    that was tried already, before anything is changed, and Busy when somebody else moves the alias meanwhile.
    """
    house.ledger.verify()
    check_version(house, model, version)
    # An alias that was moved by hand a moment ago moves first in the ledger as well; then ours is a move like any other.
    # One that should follow a rollback to a version that MLflow has lost never will: it moves on with this release.
    with suppress(UnknownName):
        observe(house, model, actor)
    known = len(desires(house.ledger, model))
    if house.models.alias(model, CANDIDATE) != version:
        house.models.set_alias(model, CANDIDATE, version)
        # The webhook may have been quicker: then this opens nothing.
        observe(house, model, actor)
    return woken(house, _answering(house, model, version, known, again, actor))


def request_rollback(house: House, model: str, version: str | None, actor: str) -> Answer:
    """Want an earlier stable version back; MLflow may be away as long as the revision is still stored.

    Raises LedgerBroken, InputError and UnknownName before anything is changed.
    """
    house.ledger.verify()
    answer = woken(house, ask_for(house, model, version, actor))
    owed = alias_owed(house.ledger, model)
    if owed is None:
        return answer
    missing = f"MLflow cannot be told now: reconcile lets the aliases follow to version {owed} within a minute of its return"
    return replace(answer, says=f"{answer.says}; {missing}", missing=missing)


def _answering(house: House, model: str, version: str, known: int, again: bool, actor: str) -> Desire:
    """Return the desire that this request opened (one beyond the `known`) or found running, or open one again."""
    wanted = desires(house.ledger, model)
    newest = wanted[-1] if wanted else None
    if newest is None or newest.version != version:
        raise Busy(f"alias '{CANDIDATE}' of '{model}'", "was moved by somebody else meanwhile", "Agree on a version, then ask again.")
    phase = phase_of(house.ledger, newest.release)
    if len(wanted) > known or not phase.terminal:
        return newest
    if not again:
        raise InputError(f"model '{model}' version {version}", f"was released already: {phase.value}", "Use --again to try it again.")
    return ask_again(house.ledger, model, version, actor)


def check_version(house: House, model: str, version: str) -> None:
    """Raise unless the model is declared, the version is registered and its model file has a schema."""
    house.model(model)
    found = house.models.version(model, version)
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        house.models.download(found, Path(folder) / "model")
        schema = house.models.schema(Path(folder) / "model")
    if schema is None:
        raise InputError(
            f"model '{model}' version {version}",
            "has no schema, so nobody could check what it is asked",
            "Log it with signature=mlflow.models.infer_signature(inputs, outputs).",
        )


def woken(house: House, desire: Desire) -> Answer:
    """Tell Prefect about a desire; when Prefect is away, reconcile finds it once Prefect is back."""
    try:
        announce(house, desire.model, desire.version)
    except Unreachable as problem:
        away = f"recorded, but nobody could be told: {problem} Reconcile starts the release within a minute of Prefect's return."
        return Answer(desire, away, woken=False)
    return Answer(desire, "the release flow is on its way", woken=True)
