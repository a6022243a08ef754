"""The seam between the costs and whatever bills a region: a bill as a file, and the Protocol that every source meets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from fleet.declared import Region
from fleet.home import Home


@dataclass(frozen=True, slots=True)
class Bill:
    """A region's FOCUS bill of one charge period, an hour (`2026-11-22T21Z`).

    `version` is 0 while the hour goes on, then 1, and higher where it was restated. `digest` is that of the file's bytes.
    """

    region: str
    hour: str
    version: int
    file: Path
    digest: str

    @property
    def closed(self) -> bool:
        """Whether its hour is over, so that it stays as it is."""
        return self.version > 0


class BillSource(Protocol):
    """Gives the bills of the regions of one target."""

    def bills(self, name: str, region: Region, now: datetime, after: str = "") -> tuple[Bill, ...]:
        """Return a region's bills of the hours after one, oldest first, brought up to date.

        Raises NotSupported for a region that has none, with the reason; IntegrityError for a bill that was tampered with.
        """


class BillSourceFactory(Protocol):
    """Makes a source for a home; opens no connection."""

    def __call__(self, home: Home, account: str) -> BillSource:
        """Return the source; `account` is who is billed."""
