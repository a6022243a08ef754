"""What `fleet.yaml` may say of how the real service is measured before it is replicated."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from fleet.declaring import Declared

Milliseconds = Annotated[int, Field(gt=0, le=600_000)]


class Odd(StrEnum):
    """A kind of request that the service must answer or refuse, and never fail on."""

    WRONG_TYPE = "wrong type"
    MISSING_COLUMN = "missing column"
    MISSING_VALUE = "missing value"
    UNSEEN_VALUE = "unseen value"


class Service(Declared):
    """What the real service may take when it is started once, asked `rate` requests a second for `seconds`.

    `cold_start_ms` goes from the start of the process to its first word that it is ready, `load_ms` is the loading of the
    model in it, `warm_up_ms` the first prediction. `p50_ms` and `p99_ms` are latencies, counted from when a request was
    due, `memory_mib` is the most resident memory. A budget that is not declared is measured and recorded. A share of
    `error_rate` of the requests may fail. Of the `odd` kinds a few requests each are sent.
    """

    rate: Annotated[float, Field(gt=0, le=1000)] = 20
    seconds: Annotated[float, Field(ge=1, le=120)] = 5
    cold_start_ms: Milliseconds | None = None
    load_ms: Milliseconds | None = None
    warm_up_ms: Milliseconds | None = None
    p50_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    memory_mib: Annotated[int, Field(gt=0, le=4_194_304)] | None = None
    error_rate: Annotated[float, Field(ge=0, lt=1)] = 0
    odd: tuple[Odd, ...] = tuple(Odd)
