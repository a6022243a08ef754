"""How artifacts get to the regions: the key `replication` of a model, and `transfers`, in fleet.yaml."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.declaring import Declared, Name, Text

Jurisdiction = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


def _day(text: str) -> str:
    datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - a day, wherever one is
    return text


Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_day)]


class Replication(Declared):
    """When a release may go on while its revision is copied, and which borders the revision may cross.

    `strict`: once every region has read it back. `eventual`: once `primary` and `standbys` have; the other regions catch up
    after the promotion, get no requests for it before they have read it back, and are told of when they lag by more
    than `lag_seconds`.

    A revision is of the data `classes` that it was made from and comes from the jurisdiction `home`: into any other it needs
    a grant in `transfers` for each class. With `within` it may lie in these jurisdictions only, whatever is granted.
    """

    consistency: Literal["strict", "eventual"] = "strict"
    primary: Name | None = None
    standbys: tuple[Name, ...] = ()
    lag_seconds: Annotated[float, Field(gt=0)] = 900
    classes: tuple[Name, ...] = ()
    home: Jurisdiction | None = None
    within: tuple[Jurisdiction, ...] = ()

    @model_validator(mode="after")
    def _says_who_acknowledges(self) -> Self:
        if self.consistency == "strict" and (self.primary or self.standbys):
            raise ValueError("primary and standbys acknowledge for the others, and strict waits for every region: declare eventual")
        if self.consistency == "eventual" and (self.primary is None or not self.standbys):
            raise ValueError("eventual needs a primary and at least one of standbys, which acknowledge before a release goes on")
        if self.primary in self.standbys or len(set(self.standbys)) != len(self.standbys):
            raise ValueError("primary and standbys must be different regions")
        if (self.home is None) != (not self.classes):
            raise ValueError("home and classes belong together: which data of which jurisdiction a revision was made from")
        return self

    @property
    def quorum(self) -> tuple[str, ...]:
        """The regions that acknowledge before a release goes on; none where all of them do."""
        return () if self.primary is None else (self.primary, *self.standbys)

    def problem(self, regions: tuple[str, ...], *, waves: bool) -> str | None:
        """Return what contradicts the model's regions or its canary, None when nothing does."""
        unknown = [region for region in self.quorum if region not in regions]
        if unknown:
            return f"replication names {', '.join(unknown)}, which this model does not use"
        if self.quorum and waves:
            return "canary.waves walk every region in turn, and replication eventual lets some of them follow later: declare one of them"
        return None


class Grant(Declared):
    """A transfer that somebody answers for: which classes of data may go from the jurisdiction `home` to which others, and why.

    It holds until the end of the day `expires` (UTC; in quotes).
    """

    classes: Annotated[tuple[Name, ...], Field(min_length=1)]
    home: Jurisdiction
    to: Annotated[tuple[Jurisdiction, ...], Field(min_length=1)]
    basis: Text
    approver: Text
    expires: Day

    def holds(self, now: datetime) -> bool:
        """Whether it has not run out."""
        return now < datetime.strptime(self.expires, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
