"""`convoy ledger`: the truth, readable and checkable."""

from __future__ import annotations

import json

from rich.markup import escape

from control.printing import out, print_json
from fleet.errors import UnknownName
from flows.house import House


def show(stream: str | None, as_json: bool) -> None:
    """Print the events of the ledger or of one stream; raises UnknownName for a stream without any."""
    house = House.open()
    events = house.ledger.events() if stream is None else house.ledger.stream(stream)
    if stream is not None and not events:
        raise UnknownName(f"stream '{stream}'", "nothing was ever written to it", "See the names with `convoy ledger show`.")
    if as_json:
        print_json([json.loads(event.to_bytes()) for event in events])
        return
    for event in events:
        at = event.at.isoformat(timespec="milliseconds").removesuffix("+00:00")
        effect = f" [bold]{escape(event.effect_key)}[/]" if event.effect_key else ""
        out.print(f"[dim]{event.seq:>6} {at}Z[/] [cyan]{escape(event.stream)}[/] {escape(event.type)}{effect} ", end="")
        out.print(_brief(event.payload), markup=False)


def verify(as_json: bool) -> None:
    """Verify the whole chain and print how many events it has; raises LedgerBroken."""
    count = House.open().ledger.verify()
    if as_json:
        print_json({"events": count, "verified": True})
    else:
        out.print(f"The ledger verifies: {count} events, no gap, every hash right.")


def _brief(payload: object) -> str:
    text = json.dumps(payload, default=dict, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
