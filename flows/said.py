"""What every gate said of a release so far: before it was packaged, of its variants, container and service, of regions' golden answers."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.evidence import GateResult
from flows import effects
from flows.effects import Effect
from flows.gate_report import of_payload
from flows.showing import show_gates
from flows.work import Work
from registry.ledger import Event


def said_so_far(events: Iterable[Event]) -> tuple[GateResult, ...]:
    """Return every answer that a release's ledger has, in the order in which it was given."""
    return tuple(result for event in events if _asked(event) for result in of_payload(event.payload.get("results")))


def said_by(events: Iterable[Event], effect: Effect) -> tuple[GateResult, ...]:
    """Return the answers that one effect gave."""
    return said_so_far(event for event in events if event.effect_key == effect)


def show_all(work: Work) -> None:
    """Show the gates' report anew, with every answer so far."""
    show_gates(work, said_so_far(work.journal.events()))


def _asked(event: Event) -> bool:
    return event.type == "effect.completed" and (
        event.effect_key in (effects.GATES, effects.OPTIMISE, effects.CONTAINER, effects.SERVICE)
        or str(event.effect_key).startswith(effects.golden(""))
    )
