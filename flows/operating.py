"""A person's command to a release under way: the one function behind the command line, the HTTP API and Prefect's UI.

It validates, and appends one event to the release's stream; the release obeys at its next tick, whoever holds it then.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, replace

from fleet.commands import LONGEST_REASON, MOST_SECONDS, Command
from fleet.errors import Busy, InputError, Refused, UnknownName, Unreachable
from fleet.operators import Operators, Presented, presented, read_operators
from flows import effects
from flows.announcing import announce
from flows.approvals import awaited, refused
from flows.desires import Desire, desires, phase_of, release_stream, unfinished
from flows.house import House
from flows.orders import COMMANDED, OBEYED, Order, Orders, fold, order_of, payload_of
from flows.parking import answerable_until, parked
from flows.work import release_revision
from registry.ledger import NewEvent

TRIES = 20
OF_A_REVISION = (Command.APPROVE, Command.DENY, Command.REVOKE)
"""Commands that are bound to the digest that was looked at."""
ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of a model's release, as it was typed.

    Without `release` it is the one under way. `seconds` is for extend alone, `digest` for approve and deny: the revision
    that was looked at. A caller that may send the wish twice gives it an `id`.
    """

    model: str
    command: str
    reason: str
    seconds: int | None = None
    release: str | None = None
    digest: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Commanded:
    """The order as it stands in the ledger; `says` is what happens next, `again` whether it stood there before."""

    release: str
    order: Order
    says: str
    again: bool = False


def operate(house: House, wish: Wish, token: str, door: str) -> Commanded:
    """Record a person's command, once, and return it; `token` is an operator's own one or a pass, `door` where it came in.

    Raises InputError, UnknownName or Refused, with the ledger as it was, for anything that is wrong with it, Busy when the
    release moves faster than it can be read, and LedgerBroken.
    """
    command = read_command(wish)
    operators = read_operators(house.home)
    who = presented(operators, token, time.time())
    _check_no_secret(operators, wish)
    house.ledger.verify()
    house.model(wish.model)
    known = _known_before(house, wish, who)
    if known is not None:
        return known
    desire = under_way(house, wish)
    _check_pass(who, desire, command)
    order = Order(
        id=_id_of(wish, who) or uuid.uuid4().hex,
        command=command,
        operator=who.operator,
        reason=wish.reason.strip(),
        door=door,
        at=house.ledger.now(),
        seconds=wish.seconds or 0,
        digest=_digest(house, desire, wish) if command in OF_A_REVISION else None,
    )
    return _appended(house, desire, order)


def read_command(wish: Wish) -> Command:
    """Return the command of a wish whose words are in order; raises InputError that lists what is allowed."""
    try:
        command = Command(wish.command)
    except ValueError:
        raise InputError(f"command '{wish.command}'", "is none", f"Known: {', '.join(Command)}.") from None
    if not wish.reason.strip():
        raise InputError("the reason", "is missing: it stays in the ledger beside the command", "Say why, with --reason.")
    if len(wish.reason) > LONGEST_REASON:
        raise InputError("the reason", f"has {len(wish.reason)} characters", f"Say it in {LONGEST_REASON}.")
    if (command is Command.EXTEND) != (wish.seconds is not None):
        raise InputError("seconds", f"go with '{Command.EXTEND}' and with nothing else", "Say by how many seconds it is extended.")
    if wish.seconds is not None and not 0 < wish.seconds <= MOST_SECONDS:
        raise InputError("seconds", f"are {wish.seconds}", f"Give from 1 to {MOST_SECONDS}.")
    if wish.digest is not None and command not in OF_A_REVISION:
        raise InputError("digest", f"goes with {', '.join(OF_A_REVISION)} alone", "Leave it out.")
    if wish.id is not None and not ID.fullmatch(wish.id):
        raise InputError("id", "is no command's id", "Give 8 to 64 letters, digits, - or _, or none.")
    return command


def under_way(house: House, wish: Wish) -> Desire:
    """Return the release that a wish is for; raises UnknownName, Refused for one that has ended, InputError when it may be several."""
    if wish.release is not None:
        found = [desire for desire in desires(house.ledger, wish.model) if desire.release == wish.release]
        if not found:
            raise UnknownName(f"release '{wish.release}'", f"model '{wish.model}' has none by that name", "See `convoy status --watch`.")
        return found[0]
    waiting = unfinished(house.ledger, wish.model)
    if not waiting:
        raise Refused(f"model '{wish.model}'", "no release of it is under way", "See `convoy status --watch`.")
    if len(waiting) > 1:
        told = ", ".join(f"{each.release} ({phase_of(house.ledger, each.release)})" for each in waiting)
        raise InputError(f"model '{wish.model}'", f"several releases are under way: {told}", "Name one with --release.")
    return waiting[0]


def _check_no_secret(operators: Operators, wish: Wish) -> None:
    """What is recorded stays for ever and is shown: a token in the wrong field is refused."""
    told = (wish.reason, wish.id or "", wish.release or "", wish.digest or "")
    if any(token in text for token in operators.tokens.values() for text in told):
        raise Refused("the reason", "holds an operator's token", "Nothing was recorded. Give the token where it belongs.")


def _check_pass(who: Presented, desire: Desire, command: Command) -> None:
    if who.pass_ is not None and (who.pass_.release, who.pass_.command) != (desire.release, command):
        good_for = f"is good for '{who.pass_.command}' to {who.pass_.release}, not for '{command}' to {desire.release}"
        raise Refused("this pass", good_for, "Make one with `convoy operator pass`.")


def _id_of(wish: Wish, who: Presented) -> str | None:
    """A pass is its own id, so it is good once."""
    return wish.id if who.pass_ is None else who.pass_.nonce


def _known_before(house: House, wish: Wish, who: Presented) -> Commanded | None:
    """Return what the same wish came to when it was sent before; raises Refused when its id was used for another one."""
    id_ = _id_of(wish, who)
    event = None if id_ is None else house.ledger.by_intent(id_, COMMANDED)
    if event is None:
        return None
    order, release = order_of(event), event.stream.removeprefix(release_stream(""))
    wanted = replace(order, command=Command(wish.command), operator=who.operator, reason=wish.reason.strip(), seconds=wish.seconds or 0)
    of_model = any(desire.release == release for desire in desires(house.ledger, wish.model))
    if wanted != order or not of_model or wish.release not in (None, release) or wish.digest not in (None, order.digest):
        raise Refused(f"command {id_}", "was given before, and was another one", "Give this one an id, or a pass, of its own.")
    return Commanded(release, order, "recorded before, and not once more", again=True)


def _appended(house: House, desire: Desire, order: Order) -> Commanded:
    """Append the order behind the events that it was checked against; in between nobody else has written."""
    stream = release_stream(desire.release)
    for _ in range(TRIES):
        position = house.ledger.position(stream)
        events = house.ledger.stream(stream, COMMANDED, OBEYED)
        if again := [each for each in events if each.type == COMMANDED and each.intent_id == order.id]:
            return Commanded(desire.release, order_of(again[0]), "recorded before, and not once more", again=True)
        _check_it_fits(house, desire, order, fold(events))
        new = NewEvent(stream, COMMANDED, payload_of(order), f"operator {order.operator}", intent_id=order.id, model=desire.model)
        try:
            event = house.ledger.append(new, expected=position)
        except Busy:
            continue
        return Commanded(desire.release, order_of(event), _next(house, desire))
    raise Busy(f"release '{desire.release}'", "its stream of events moves faster than it can be read", "Try again.")


def _check_it_fits(house: House, desire: Desire, order: Order, orders: Orders) -> None:
    """Raise Refused where the release has ended, is not in a phase for it, or was told the same already."""
    phase, subject = phase_of(house.ledger, desire.release), f"release '{desire.release}'"
    if phase.terminal:
        raise Refused(subject, f"has ended: {phase}", "Nothing was done. See `convoy status --watch`.")
    if not order.command.fits(phase):
        fitting = ", ".join(each for each in Command if each.fits(phase)) or "none; `convoy rollback` goes back afterwards"
        raise Refused(subject, f"is {phase}, where '{order.command}' means nothing", f"Commands now: {fitting}.")
    if why := _contradiction(orders, order):
        raise Refused(subject, why, "Nothing was done. See `convoy status --watch`.")
    if order.command is Command.APPROVE:
        _check_approval(house, desire, order, orders)


def _check_approval(house: House, desire: Desire, order: Order, orders: Orders) -> None:
    """Raise Refused for an approval that comes too late, or of somebody who may not give it, or not once more."""
    subject = f"release '{desire.release}'"
    if (until := answerable_until(house, desire)) is not None and order.at > until:
        raise Refused(subject, f"could be approved until {until:%Y-%m-%d %H:%M:%S} UTC", "Ask for the release again.")
    if why := refused(house.model(desire.model).approval, orders, order, builder(house, desire)):
        raise Refused(subject, why, "Nothing was done. Somebody else must approve it.")


def builder(house: House, desire: Desire) -> str | None:
    """Return the operator who built the version that a release is of, as the ledger has it; None where nobody is known to."""
    events = house.ledger.stream(release_stream(desire.release), "effect.completed")
    found = [event.payload.get("builder") for event in events if event.effect_key == effects.RESOLVE]
    return str(found[-1]) if found and found[-1] is not None else None


def _contradiction(orders: Orders, order: Order) -> str:
    """Return which earlier order leaves nothing to do for this one, empty when none does."""
    if orders.aborted is not None:
        return f"was aborted already, {orders.aborted.by}"
    if order.command in (Command.APPROVE, Command.DENY) and orders.denied is not None:
        return f"was denied already, {orders.denied.by}"
    if order.command is Command.REVOKE and not any(given.operator == order.operator for given in orders.approvals):
        return f"has no approval of {order.operator} that could be revoked"
    if order.command is Command.PAUSE and orders.paused is not None:
        return f"is paused already, {orders.paused.by}"
    if order.command is Command.RESUME and orders.paused is None:
        return "is not paused"
    if order.command is Command.PROMOTE and orders.promoted is not None:
        return f"is to be promoted already, {orders.promoted.by}"
    return ""


def _digest(house: House, desire: Desire, wish: Wish) -> str | None:
    """Return the digest that an answer is bound to; raises Refused when the person looked at another one."""
    revision = release_revision(house, desire)
    digest = None if revision is None else revision.digest
    if wish.digest not in (None, digest):
        raise Refused(f"release '{desire.release}'", f"is of revision {digest}, not of {wish.digest}", "Look at it again.")
    return digest


def _next(house: House, desire: Desire) -> str:
    """Return what happens next; whoever is needed to obey is woken."""
    if parked(house, desire):
        now, orders = house.ledger.now(), fold(house.ledger.stream(release_stream(desire.release), COMMANDED))
        return f"recorded; {awaited(house.model(desire.model).approval, orders, now)} more must approve it"
    return _woken(house, desire)


def _woken(house: House, desire: Desire) -> str:
    """See to it that somebody obeys: a release that nobody holds is started; returns what happens next."""
    if house.leases.current(desire.model) is not None:
        return "recorded; the release obeys at its next tick"
    try:
        announce(house, desire.model, desire.version)
    except Unreachable as problem:
        return f"recorded, but nobody could be told: {problem} Reconcile starts the release within a minute of Prefect's return."
    return "recorded; the release is on its way and obeys then"
