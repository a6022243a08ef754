"""Which approvals of a release count, and why one is not taken; all of it pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleet.declared import Approval
from flows import effects
from flows.orders import Order, Orders
from registry.ledger import Event


def counting(declared: Approval, orders: Orders, now: datetime) -> tuple[Order, ...]:
    """Return the approvals that count at `now`: given by different people, not taken back, not run out."""
    return tuple(order for order in orders.approvals if now <= order.at + timedelta(seconds=declared.valid_seconds))


def let_through(events: Iterable[Event]) -> frozenset[str] | None:
    """Return the ids of the approvals by which a release may have traffic, as its own events say; None before it may.

    From then on only these matter: others that are given do not replace one of them that is taken back.
    """
    for event in events:
        if event.type == "effect.completed" and event.effect_key == effects.ATTEST_APPROVAL:
            orders = event.payload["orders"]
            return frozenset(map(str, orders)) if isinstance(orders, list) else frozenset()
    return None


def refused(declared: Approval, orders: Orders, order: Order, builder: str | None) -> str:
    """Return why an operator's approval is not taken, empty when it is.

    `builder` is the operator who built the version, None for one whom nobody knows.
    """
    if any(given.operator == order.operator for given in counting(declared, orders, order.at)):
        return f"was approved by {order.operator} already{f', and {declared.people} different people must' if declared.people > 1 else ''}"
    if declared.apart and builder is None:
        return "has a builder whom nobody knows, so that nobody can be told apart from them"
    if declared.apart and builder == order.operator:
        return f"was built by {builder}, who may not approve it"
    return ""


def awaited(declared: Approval, orders: Orders, now: datetime) -> int:
    """Return how many more people must approve."""
    return max(0, declared.people - len(counting(declared, orders, now)))
