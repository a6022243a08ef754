"""The declared regions: where they are, what they charge, and where their stores are."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import permutations
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from fleet.declaring import Declared
from fleet.store_address import FORMS, StoreAddress, checked_endpoint

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Text = Annotated[str, Field(min_length=1)]


def _exact(value: object) -> object:
    """Refuse what YAML has already turned into a binary number: 0.1 is not 0.1 any more."""
    if isinstance(value, float):
        raise ValueError(f"{value!r} is a binary number, which holds no price exactly: write it in quotes, as '{value}'")
    return value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=20, decimal_places=12)]
"""An amount or a price: exact, so a string in YAML, with at most twelve decimals."""

GibPrice = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=17, decimal_places=9)]
"""A price of a GiB: bytes are billed to a billionth of a GiB, and a bill has at most eighteen decimals."""


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


def _address(value: object) -> object:
    if not isinstance(value, str | StoreAddress):
        raise ValueError(f"is none of {FORMS}")
    return StoreAddress.parse(value) if isinstance(value, str) else value


class Region(Declared):
    """A place that serves models.

    `target` names the package in `clouds/` that runs it. `provider`, `place` and `jurisdiction` say which region it
    is; a local region that stands for another says here for which. Without `prices` it writes no bill. All copies to it
    together send and read `line_mib_per_second` at most, from one machine. `store` is the address of its object store, a
    folder of this machine if absent; `store_endpoint` leads to one that speaks S3's or Azure's protocol elsewhere.
    """

    target: Literal["local", "aws", "gcp", "azure", "kubernetes"]
    provider: Name
    place: Text
    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    prices: Prices | None = None
    store: Annotated[StoreAddress, BeforeValidator(_address), PlainSerializer(str)] | None = None
    store_endpoint: Annotated[str, AfterValidator(checked_endpoint)] | None = None
    line_mib_per_second: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _the_endpoint_is_of_a_store(self) -> Self:
        if self.store_endpoint is not None and (self.store is None or self.store.scheme == "gs"):
            raise ValueError("store_endpoint leads to an s3:// or az:// store, and store names none")
        return self


def entangled(regions: Mapping[str, Region]) -> list[str]:
    """Return which regions' stores lie in one another, so that one's garbage would be the other's revision."""
    whole = {name: f"{region.store_endpoint or ''} {region.store}/" for name, region in regions.items() if region.store is not None}
    return [f"'{one}' and '{other}'" for one, other in permutations(sorted(whole), 2) if whole[other].startswith(whole[one])]
