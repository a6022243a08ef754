"""What the stores' own book says: when each was read last, and what could not be repaired since."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning

OVERDUE = timedelta(days=3)
"""A night or two may be missed; a stack that was stopped for longer is told to read again."""


def scrubbed(case: Case) -> Iterator[Finding]:
    """Whether each store was read lately, and whether anything in it is still wrong."""
    from flows.tending import LEFT, ORIGIN, PREFIX, SCRUBBED

    ledger = case.house.ledger
    if not ledger.streams("model/"):
        yield ok("stores", "nothing is stored yet")
        return
    for name in (ORIGIN, *case.house.fleet.regions):
        remedy = f"convoy scrub --region {name}"
        last = ledger.last(PREFIX + name, SCRUBBED)
        if last is None:
            yield ok(f"scrub of {name}", "was not read yet; the first nightly run does", remedy)
            continue
        left = [event for event in ledger.stream(PREFIX + name, LEFT) if event.seq > last.seq]
        for event in left:
            yield problem(f"store of {name}", f"{event.payload['digest']} was not repaired: {event.payload['reason']}", remedy)
        if case.now - last.at > OVERDUE:
            yield warning(f"scrub of {name}", f"was read last on {last.at:%Y-%m-%d}: the nightly runs do not happen", remedy)
        elif not left:
            yield ok(f"scrub of {name}", f"was read on {last.at:%Y-%m-%d %H:%M} UTC, nothing is left to repair")
