"""Adopting what runs by hand: a revision that was stable once may go on running in a region, until the next promotion."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.canonical import short
from fleet.errors import InputError, Refused
from flows.behind import strays
from flows.desires import model_stream, unfinished
from flows.house import House
from flows.wanting import ADOPTED
from flows.work import once_stable
from registry.ledger import Event, NewEvent

REMEDY = "Nothing was done. Reconcile stops it; `convoy release` is how a revision comes to run."


def adopt(house: House, model: str, region: str, digest: str | None, reason: str, actor: str) -> Event:
    """Let a revision that runs by hand in a region go on running there; it gets no requests. Returns the event.

    Raises InputError where nothing runs there that nobody wants, Refused for a revision that never was stable or while a
    release of the model is under way, and Busy when the model's events move meanwhile. Nothing is changed then.
    """
    if region not in house.model(model).regions:
        raise InputError(f"region '{region}'", f"is none of model '{model}' ({', '.join(house.model(model).regions)})", REMEDY)
    if not reason.strip():
        raise InputError("--reason", "is empty", "Say why; it stays in the ledger.")
    position = house.ledger.position(model_stream(model))
    if under_way := unfinished(house.ledger, model):
        raise Refused(f"model '{model}'", f"{under_way[-1].release} is under way, and brings the regions with it", "Wait for its end.")
    found = _chosen(strays(house, model, region), digest, f"region '{region}'")
    proven = [each for each in once_stable(house, model) if each.digest == found]
    if not proven:
        raise Refused(f"revision {short(found)}", f"was never the stable one of '{model}': no release proved it", REMEDY)
    told = {"region": region, "digest": found, "version": proven[-1].version, "reason": reason}
    return house.ledger.append(NewEvent(model_stream(model), ADOPTED, told, actor, model=model), expected=position)


def _chosen(running: Iterable[str], digest: str | None, where: str) -> str:
    """Return the one that is meant, by its digest or the beginning of it; raises InputError that lists what runs."""
    known = tuple(running)
    begins = f"sha256:{digest.removeprefix('sha256:')}" if digest else ""
    found = [each for each in known if each.startswith(begins)]
    if len(found) != 1:
        runs = ", ".join(map(short, known))
        says = f"runs {runs} and nobody wants them; say which by --revision" if found else f"runs {runs or 'nothing'} that nobody wants"
        raise InputError(where, says, REMEDY)
    return found[0]
