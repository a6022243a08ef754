"""A region of fleet.yaml, what it charges, and where its store lies."""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.declared_store import StorePlace, place_of
from fleet.declaring import Declared, GibPrice, Money, Name, Text


class Prices(Declared):
    """What a region charges: a second of one CPU, a GiB of memory for a second, a prediction, a GiB in and out.

    A region that stands for one of a cloud declares what that cloud would charge.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    cpu_second: Money
    memory_gib_second: Money
    request: Money
    gib_in: GibPrice = Decimal("0")
    gib_out: GibPrice = Decimal("0")

    def of_request(self, seconds: Decimal) -> Decimal:
        """Return what a request costs that takes one CPU and one GiB of memory for so long."""
        return self.request + seconds * (self.cpu_second + self.memory_gib_second)


class Region(Declared):
    """A place that serves models.

    `target` names the package in `clouds/` that runs it. `provider`, `place` and `jurisdiction` say which region it
    is; a local region that stands for another says here for which. Without `prices` it writes no bill. All copies to it
    together send and read `line_mib_per_second` at most, from one machine.

    `store` is the address of its store; without, it is a folder in the home. An S3-compatible one has a `store_endpoint`.
    `store_region` is the region that S3 is asked in, where that is not `place`.
    """

    target: Literal["local", "aws", "gcp", "azure", "kubernetes"]
    provider: Name
    place: Text
    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    prices: Prices | None = None
    line_mib_per_second: Annotated[int, Field(ge=1, le=100_000)] | None = None
    store: Text | None = None
    store_endpoint: Text | None = None
    store_region: Text | None = None

    @property
    def store_place(self) -> StorePlace | None:
        """Where its store lies, None for the folder in the home."""
        return None if self.store is None else place_of(self.store, self.store_endpoint, self.store_region, self.place)

    @model_validator(mode="after")
    def _store_is_an_address(self) -> Self:
        if self.store is None and (self.store_endpoint or self.store_region):
            raise ValueError("store_endpoint and store_region belong to a store: declare it, or take them out")
        _ = self.store_place
        return self


def with_stores_apart(regions: dict[str, Region]) -> dict[str, Region]:
    """Return the regions as they are; raises ValueError where two would share a store: a region's copy must not be another's."""
    placed = [(name, place) for name, region in regions.items() if (place := region.store_place) is not None]
    for (first, one), (second, other) in combinations(placed, 2):
        if one.overlaps(other):
            told = f"{first} and {second} have one store, or one inside the other's"
            raise ValueError(f"{told}: give each a bucket or a prefix of its own")
    return regions
