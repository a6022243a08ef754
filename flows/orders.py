"""What people ordered of a release, folded from its events, and what that and the clock mean for the canary; all of it pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from fleet.commands import Command
from fleet.declared import Canary
from registry.ledger import JSON, Event

COMMANDED: Final = "operator.commanded"
OBEYED: Final = "operator.obeyed"


@dataclass(frozen=True, slots=True)
class Order:
    """One command as the ledger has it: who gave it, through which door, and why; `id` makes it one however often it was sent.

    `seconds` is by how much the canary is extended, `digest` the revision that was approved, denied or no longer is.
    """

    id: str
    command: Command
    operator: str
    reason: str
    door: str
    at: datetime
    seconds: int = 0
    digest: str | None = None

    @property
    def by(self) -> str:
        """Who and why, for people."""
        return f"by operator {self.operator}: {self.reason}"

    def same(self, other: Order) -> bool:
        """Whether both are the same wish, whenever and through whichever door it was sent."""
        return replace(self, door=other.door, at=other.at) == other


@dataclass(frozen=True, slots=True)
class Orders:
    """What holds for a release now. `pauses` are those that ended, `pending` what the release has not obeyed yet.

    `approvals` are those that nobody took back, the last one of each operator; `revoked` is the last that was taken back.
    """

    paused: Order | None = None
    pauses: tuple[tuple[datetime, datetime], ...] = ()
    aborted: Order | None = None
    promoted: Order | None = None
    extended: int = 0
    approvals: tuple[Order, ...] = ()
    revoked: Order | None = None
    denied: Order | None = None
    pending: tuple[Order, ...] = ()

    def paused_seconds(self, since: float, now: float) -> float:
        """Return for how long the release was paused between two moments of Unix time."""
        ended = [(begin.timestamp(), end.timestamp()) for begin, end in self.pauses]
        whole = [*ended, (self.paused.at.timestamp(), now)] if self.paused else ended
        return sum(max(0.0, min(end, now) - max(begin, since)) for begin, end in whole)


def payload_of(order: Order) -> Mapping[str, JSON]:
    """Return what the ledger keeps of an order beside its id, which is the event's intent, and its time."""
    told: dict[str, JSON] = {
        "command": order.command.value,
        "operator": order.operator,
        "reason": order.reason,
        "door": order.door,
    }
    if order.seconds:
        told["seconds"] = order.seconds
    return told if order.digest is None else {**told, "digest": order.digest}


def order_of(event: Event) -> Order:
    """Return the order that an event keeps."""
    told = event.payload
    digest = told.get("digest")
    return Order(
        id=str(event.intent_id),
        command=Command(str(told["command"])),
        operator=str(told["operator"]),
        reason=str(told["reason"]),
        door=str(told["door"]),
        at=event.at,
        seconds=int(str(told.get("seconds", 0))),
        digest=None if digest is None else str(digest),
    )


def fold(events: Iterable[Event]) -> Orders:
    """Fold a release's events into what holds now: a later command takes back an earlier one that it contradicts."""
    found = Orders()
    for event in events:
        if event.type == COMMANDED:
            order = order_of(event)
            found = _after(found, order)
            found = replace(found, pending=(*found.pending, order))
        elif event.type == OBEYED:
            found = replace(found, pending=tuple(each for each in found.pending if each.id != event.intent_id))
    return found


def _after(found: Orders, order: Order) -> Orders:
    match order.command:
        case Command.PAUSE:
            left = tuple(each for each in found.pending if each.command is not Command.PROMOTE)
            return replace(found, paused=order, promoted=None, pending=left)
        case Command.RESUME:
            return _resumed(found, order)
        case Command.ABORT:
            return replace(found, aborted=order)
        case Command.PROMOTE:
            return replace(_resumed(found, order), promoted=order)
        case Command.EXTEND:
            return replace(found, extended=found.extended + order.seconds)
        case Command.APPROVE:
            return replace(found, approvals=(*_of_others(found, order), order))
        case Command.REVOKE:
            return replace(found, approvals=_of_others(found, order), revoked=order)
        case Command.DENY:
            return replace(found, denied=order)


def _of_others(found: Orders, order: Order) -> tuple[Order, ...]:
    return tuple(each for each in found.approvals if each.operator != order.operator)


def _resumed(found: Orders, order: Order) -> Orders:
    if found.paused is None:
        return found
    return replace(found, paused=None, pauses=(*found.pauses, (found.paused.at, order.at)))


class Go(StrEnum):
    """What a canary may do at a tick."""

    ON = "on"
    """Walk as declared."""
    HOLD = "hold"
    """Keep the weights; the step's time stands still."""
    OVER = "over"
    """Its time is up: it can only be rolled back."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What people and the clock mean for the canary at one tick, and why it is not simply going on.

    `ended` is set where a person's word ended the walk.
    """

    go: Go = Go.ON
    reasons: tuple[str, ...] = ()
    orders: Orders = field(default_factory=Orders)
    ended: bool = False

    def beside(self, reason: str) -> Turn:
        """Return the turn with one more reason, unchanged for an empty one."""
        return replace(self, reasons=(*self.reasons, reason)) if reason else self

    @property
    def holds(self) -> bool:
        """Whether it keeps its weights until somebody says something."""
        return self.go is Go.HOLD

    @property
    def ends(self) -> bool:
        """Whether no further step is walked."""
        return self.ended or self.over

    @property
    def over(self) -> bool:
        """Whether its time is up."""
        return self.go is Go.OVER


FREE: Final = Turn()
"""Nobody said anything, and there is time."""


def turn(canary: Canary, orders: Orders, since: float, now: float, bakes: float | None = None) -> Turn:
    """Return what a canary that began at `since` may do at `now` (Unix time); the time that it was paused does not count.

    With `bakes` it is a bake that lasts so many seconds, and then has as long as a canary to come to a verdict.
    """
    if orders.paused is not None:
        return _paused(canary, orders, orders.paused, now)
    longest = canary.max_seconds + orders.extended + (bakes or 0.0)
    late = now - since - orders.paused_seconds(since, now) - longest
    if late <= 0:
        return Turn(orders=orders)
    what = "The canary had no verdict at its last step" if bakes is None else "The bake had no verdict"
    over = f"{what} within {longest:.0f} s"
    if canary.without_verdict == "extend" and late <= canary.extend_seconds * canary.extensions:
        times = int(-(-late // canary.extend_seconds))
        return Turn(Go.ON, (f"{over}: extended by itself, {times} of {canary.extensions} times by {canary.extend_seconds:.0f} s.",), orders)
    if canary.without_verdict == "ask" and late <= canary.ask_seconds:
        left = canary.ask_seconds - late
        return Turn(Go.HOLD, (f"{over}: it waits another {left:.0f} s for an operator to promote, extend or abort it.",), orders)
    return Turn(Go.OVER, (_ended(canary, over),), orders)


def shadow_turn(canary: Canary, orders: Orders, now: float) -> Turn:
    """Return what a shadow may do at `now` (Unix time): it has an end of its own, and only a pause holds it."""
    return Turn(orders=orders) if orders.paused is None else _paused(canary, orders, orders.paused, now)


def _ended(canary: Canary, over: str) -> str:
    if canary.without_verdict == "ask":
        return f"{over}, and no operator answered within another {canary.ask_seconds:.0f} s."
    if canary.without_verdict == "extend":
        return f"{over}, nor within {canary.extensions} more times {canary.extend_seconds:.0f} s."
    return f"{over}."


def _paused(canary: Canary, orders: Orders, pause: Order, now: float) -> Turn:
    left = canary.pause_seconds - (now - pause.at.timestamp())
    if left < 0:
        return Turn(Go.OVER, (f"Paused {pause.by}; nobody resumed it within {canary.pause_seconds:.0f} s.",), orders)
    return Turn(Go.HOLD, (f"Paused {pause.by}; without a word it is rolled back in {left:.0f} s.",), orders)
