"""Which part of a model's requests an edge sends to which of its regions: a value, and its arithmetic without loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WHOLE: Final = 10_000
"""All requests; parts of them are whole numbers."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How much each region of a model may get at most (`caps`; a region without one may get everything).

    `floor` is the part that a region keeps whatever its cap is, so that what becomes of it is seen. Each residency deals
    its requests out among its own regions by the same caps.
    """

    floor: int
    caps: Mapping[str, int]

    def parts(self, regions: Sequence[str], own: str | None = None) -> dict[str, int]:
        """Return each region's part of the requests that these regions alone may answer; together they are `WHOLE`.

        The edge's own region gets as much as its cap lets it, the others are dealt out evenly what is left, as far as
        their caps let them. Where the caps leave something over, each gets more in proportion to what it may have.
        """
        least = min(self.floor, WHOLE // len(regions))
        room = {region: max(0, self.caps.get(region, WHOLE) - least) for region in regions}
        if not any(room.values()):
            # Nobody is better than another: as if nothing had been found out
            room = dict.fromkeys(regions, WHOLE)
        rest = WHOLE - least * len(regions)
        dealt = _stretched(room, rest) if sum(room.values()) <= rest else _filled(room, rest, own)
        return {region: least + dealt[region] for region in regions}


def _filled(room: Mapping[str, int], rest: int, own: str | None) -> dict[str, int]:
    """Deal out to the own region first, then evenly; together they have room for more than there is."""
    dealt = dict.fromkeys(room, 0)
    if own is not None and own in room:
        dealt[own] = min(rest, room[own])
        rest -= dealt[own]
    others = sorted((region for region in room if region != own), key=lambda region: room[region])
    for number, region in enumerate(others):
        dealt[region] = min(room[region], rest // (len(others) - number))
        rest -= dealt[region]
    return dealt


def _stretched(room: Mapping[str, int], rest: int) -> dict[str, int]:
    """Deal everything out in proportion; what rounding leaves goes to the one with most."""
    whole = sum(room.values())
    dealt = {region: rest * some // whole for region, some in room.items()}
    dealt[max(room, key=lambda region: room[region])] += rest - sum(dealt.values())
    return dealt
