"""One step of the demo's story and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from control.views import ReleaseView


@dataclass(frozen=True, slots=True)
class Chapter:
    """What a step was called, what it says of itself and how long it took; `as_told` is False when it ended otherwise than it should."""

    title: str
    as_told: bool
    says: str
    seconds: float
    release: ReleaseView | None = None
