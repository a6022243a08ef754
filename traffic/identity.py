"""Who an edge is: its id, the region that it stands in, and the key by which it knows a drill."""

from __future__ import annotations

from dataclasses import dataclass, field

from traffic.drill_key import NO_DRILLS


@dataclass(frozen=True, slots=True)
class EdgeIdentity:
    """What an edge's routes depend on beside the tables; without a `region` it stands in none and prefers none.

    `drills` is the key that drills send (`drill_key`).
    """

    name: str
    region: str | None = None
    drills: str = field(default=NO_DRILLS, repr=False)
