"""How a release does as it is told: what the canary may do at a tick, and who lets it have traffic at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from prefect import get_run_logger

from fleet.commands import Command
from fleet.errors import ConvoyError
from fleet.evidence import Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows.approvals import counting
from flows.desk import close_desk, open_desk
from flows.orders import Order, Turn, shadow_turn, turn
from flows.parking import answerable_until
from flows.work import APPROVED, DeniedError, Work


class PausedError(ConvoyError):
    """An operator paused the release right before it was promoted."""


def turn_now(work: Work, since: float, bakes: float | None = None) -> Turn:
    """Return what the canary that began at `since` (Unix time) may do at this tick, and record which orders it obeys by that.

    With `bakes` it is a bake of so many seconds.
    """
    return _obeyed(work, turn(work.declared.canary, work.orders, since, time.time(), bakes))


def shadow_turn_now(work: Work) -> Turn:
    """Return what the shadow may do at this tick, and record which orders it obeys by that."""
    return _obeyed(work, shadow_turn(work.declared.canary, work.orders, time.time()))


def _obeyed(work: Work, found: Turn) -> Turn:
    for order in found.orders.pending:
        if order.command in (Command.PAUSE, Command.RESUME, Command.EXTEND):
            get_run_logger().info("%s: %s %s", work.desire.release, order.command, order.by)
            work.obeyed(order)
    return found


def promoted_now(work: Work, found: Turn, verdict: Verdict, left_out: Sequence[str]) -> Verdict | None:
    """Return the verdict that an operator put in the judge's place, None where nobody did; never where harm was found.

    To be asked only while the way back is warm. What is skipped stands in the ledger, as the operator's decision.
    """
    order = found.orders.promoted
    if order is None or verdict.outcome is Outcome.ROLL_BACK:
        return None
    skipped = (*left_out, f"the judge's verdict, which is '{verdict.outcome}' so far", *verdict.reasons)
    get_run_logger().warning("%s: promoted now %s; skipped: %s", work.desire.release, order.by, "; ".join(skipped))
    work.obeyed(order, *skipped)
    return replace(verdict, outcome=Outcome.PROMOTE, reasons=(_decision(order), *(f"skipped: {each}" for each in skipped)))


def may_promote(work: Work) -> bool:
    """Enter the promotion, from which nothing turns back; False, and nothing is done, when somebody paused the release meanwhile.

    Raises AbortedError and SupersededError, when that came in between.
    """
    try:
        work.journal.enter_unless(lambda: _check_unpaused(work), ReleasePhase.PROMOTING, *decided_by(work))
    except PausedError:
        return False
    return True


def _check_unpaused(work: Work) -> None:
    work.check()
    if (paused := work.orders.paused) is not None:
        raise PausedError(work.desire.release, f"paused {paused.by}")


def decided_by(work: Work) -> tuple[str, ...]:
    """Return by whose decision and not the judge's the release is promoted, nothing where nobody took one."""
    orders = work.orders
    taken = orders.promoted is not None and orders.promoted not in orders.pending
    return (_decision(orders.promoted),) if taken and orders.promoted is not None else ()


def _decision(order: Order) -> str:
    return f"promoted now {order.by}"


def may_have_traffic(work: Work, revision: Revision) -> bool:
    """Whether the release may go on to its first traffic; False while it waits for people, which it then enters.

    A rollback is not asked for: the way back must be quick. Raises DeniedError once somebody said no, too few said yes
    in time, or a yes was to another revision.
    """
    declared = work.declared.approval
    if not declared.required or work.proven is not None or work.phase in APPROVED or work.let_through is not None:
        return True
    work.journal.enter(ReleasePhase.AWAITING_APPROVAL, f"revision {revision.digest} needs an operator's approval")
    work.check()
    now, until = work.house.ledger.now(), answerable_until(work.house, work.desire)
    given = counting(declared, work.orders, now)
    other = next((order for order in given if order.digest != revision.digest), None)
    short = declared.people - len(given)
    if other is None and short > 0 and until is not None and now <= until:
        open_desk(work.desire, revision.digest, until)
        return False
    close_desk(work.desire)
    if other is not None:
        raise DeniedError(work.desire.release, f"{other.digest} was approved, and this is {revision.digest}")
    if short > 0:
        raise DeniedError(work.desire.release, f"{_who_approved(given)} approved it within {declared.within_seconds:.0f} s")
    for order in given:
        work.obeyed(order)
    return True


def _who_approved(given: Sequence[Order]) -> str:
    return f"only {', '.join(order.operator for order in given)}" if given else "nobody"
