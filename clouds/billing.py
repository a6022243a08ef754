"""The seam between the costs and whatever bills a region: a bill as a file, and the Protocol that every source meets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from fleet.declared_region import Region
from fleet.home import Home

HOUR = "%Y-%m-%dT%HZ"
"""How an hour is named, in UTC; names sort as the hours do."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A region's FOCUS bill of one charge period, an hour (`2026-11-22T21Z`).

    `version` is 0 while the hour goes on, then 1, and higher where it was restated. `digest` is that of the file's bytes.
    `empty` says that no charge stands in it.
    """

    region: str
    hour: str
    version: int
    file: Path
    digest: str
    empty: bool = False

    @property
    def closed(self) -> bool:
        """Whether its hour is over, so that it stays as it is."""
        return self.version > 0

    @property
    def begins(self) -> datetime:
        """When its hour begins, in UTC."""
        return datetime.strptime(self.hour, HOUR).replace(tzinfo=UTC)

    @property
    def ends(self) -> datetime:
        """When its hour ends, in UTC."""
        return self.begins + timedelta(hours=1)


class BillSource(Protocol):
    """Gives the bills of the regions of one target."""

    def bills(self, name: str, region: Region, now: datetime, after: str = "") -> tuple[Bill, ...]:
        """Return a region's bills of the hours after one, oldest first, brought up to date.

        Raises NotSupported for a region that has none, with the reason; IntegrityError for a bill that was tampered with.
        """

    def kept(self, name: str, hour: str, version: int, digest: str) -> Bill:
        """Return a region's closed bill that was reconciled before, as it was then.

        Raises IntegrityError, naming the bill, where it is gone or holds something else.
        """


class BillSourceFactory(Protocol):
    """Makes a source for a home; opens no connection."""

    def __call__(self, home: Home, account: str) -> BillSource:
        """Return the source; `account` is who is billed."""
