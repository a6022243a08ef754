"""`convoy ledger`: the truth, readable and checkable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from control.printing import out, print_json
from fleet.errors import ConvoyError, FleetFileError, LedgerBroken, UnknownName
from flows.house import House
from registry.anchors import Proven, held_alone, held_by, held_in, verify_all
from registry.heads import SignedHead
from registry.keys import trusted_in
from registry.store import ContentStore


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


def verify(heads: Sequence[Path], key: Path | None, as_json: bool) -> None:
    """Verify the chain, the signed heads and their copies, and print what was found; raises LedgerBroken."""
    house = House.open()
    copies, unseen = _copies(house)
    copies |= {str(place): held_in(place) for place in heads if not place.is_file()}
    alone = [held_alone(place) for place in heads if place.is_file()]
    if not (alone or any(copies.values()) or house.ledger.tree_heads()):
        _say(Proven(house.ledger.verify(), 0, 0, (), ()), unseen, as_json)
        return
    _say(verify_all(house.ledger, trusted_in(key or house.home.ledger_keys), copies, alone), unseen, as_json)


def _copies(house: House) -> tuple[dict[str, tuple[SignedHead, ...]], list[str]]:
    """Return the heads that each store holds, and why some stores that lie elsewhere were not looked at.

    What lies in the home needs no fleet.yaml: a ledger must be verifiable without.
    """
    stores = {f"store {place.parent.name}": ContentStore.at(place) for place in sorted(house.home.regions.glob("*/store"))}
    copies: dict[str, tuple[SignedHead, ...]] = {}
    unseen: list[str] = []
    try:
        regions = [name for name, declared in house.fleet.regions.items() if declared.store is not None]
    except FleetFileError as problem:
        regions = []
        if house.fleet_file.exists():
            unseen.append(f"stores that fleet.yaml may have elsewhere ({problem.subject}: {problem.reason})")
    for region in regions:
        stores.pop(f"store {region}", None)
        try:
            copies[f"store {region}"] = held_by(house.region_store(region), f"store {region}")
        except LedgerBroken:
            raise
        except ConvoyError as problem:
            unseen.append(f"store {region} ({problem.subject}: {problem.reason})")
    return {**{name: held_by(store, name) for name, store in stores.items()}, **copies}, unseen


def _say(proven: Proven, unseen: Sequence[str], as_json: bool) -> None:
    if as_json:
        not_looked_at = {"not_looked_at": list(unseen)} if unseen else {}
        print_json({"verified": True, **asdict(proven), "copies": dict(proven.copies), **not_looked_at})
        return
    out.print(f"The ledger verifies: {proven.events} events, no gap, every hash right.")
    for each in unseen:
        out.print(f"[yellow]Not looked at: {escape(each)}.[/]", soft_wrap=True)
    if not proven.heads:
        out.print("No head of it was signed yet: a tail that is cut off would not be seen.")
        return
    told = ", ".join(f"{count} in {escape(place)}" for place, count in proven.copies) or "none"
    out.print(f"{proven.heads} signed heads reach event {proven.signed}; copies: {told}.", soft_wrap=True)
    if proven.behind:
        out.print(f"[yellow]{escape(', '.join(proven.behind))} lacks the newest: it was away, or lost them; reconcile copies them.[/]")


def _brief(payload: object) -> str:
    text = json.dumps(payload, default=dict, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
