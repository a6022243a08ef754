"""Leases: who may act on a model, for some seconds, with an epoch that rises with every taking.

Whoever was paused past the end of a lease may still believe in it. The ledger therefore refuses an older epoch in the
transaction of the append, and an edge refuses an older epoch's table.

A lease outlives its holder by its length even when the clock is set back: one that seems to last longer than that is
cut to it by whoever looks. A holder that lives renews it well before; itself it goes by the steady clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, insert, select, update

from fleet.errors import Busy, InputError, TransientError
from registry.events import read_stamp, stamp
from registry.ledger import Ledger, lock_head
from registry.tables import LEASES

CLOCKS_APART = timedelta(seconds=5)
"""How far the clocks of machines that share a ledger may differ; what is further ahead was written before a clock was set back."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on a model. `epoch` orders all claims on it, `seconds` is what each renewal adds from its moment on."""

    model: str
    holder: str
    epoch: int
    expires_at: datetime
    seconds: float


class Leases:
    """The leases that stand in a ledger's database and go by the ledger's clock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take(self, model: str, holder: str, seconds: float) -> Lease | None:
        """Take the lease with a new epoch, or return None while another holder's is alive.

        A holder that takes it again gets a new epoch too, which ends the old one.
        """
        if seconds <= 0:
            raise InputError("lease", f"cannot last {seconds} seconds")
        if not holder:
            raise InputError("lease", "needs a holder's name")
        with self._ledger.database.writing() as connection:
            lock_head(connection)
            row = _row(connection, model)
            now = self._ledger.now()
            if row is not None and row.holder != holder and now < read_stamp(row.expires_at):
                _cut(connection, row, now)
                return None
            lease = Lease(model, holder, (row.epoch if row else 0) + 1, now + timedelta(seconds=seconds), seconds)
            values = {"holder": holder, "epoch": lease.epoch, "seconds": seconds, "expires_at": stamp(lease.expires_at)}
            if row is None:
                connection.execute(insert(LEASES).values(model=model, **values))
            else:
                connection.execute(update(LEASES).where(LEASES.c.model == model).values(**values))
        return lease

    def renew(self, lease: Lease) -> Lease:
        """Return the lease with its full length from now on.

        One that ran out and that nobody took is renewed: its epoch is still the newest. Raises Busy when it is lost.
        """
        renewed = self._renewed(lease)
        if renewed is None:
            raise Busy(
                f"model '{lease.model}'", f"the lease with epoch {lease.epoch} is lost", "Stop: another controller goes on from here."
            )
        return renewed

    def give_back(self, lease: Lease) -> None:
        """End the lease now; nothing happens when it is not the newest any more."""
        # Without a holder it cannot be renewed either, and its epoch stays for the next one to count from.
        self._set(lease, holder="", expires_at=stamp(self._ledger.now()))

    def current(self, model: str) -> Lease | None:
        """Return the lease that is alive, or None."""
        with self._ledger.database.reading() as connection:
            row = _row(connection, model)
        now = self._ledger.now()
        if row is None or read_stamp(row.expires_at) <= now:
            return None
        if _too_long(row, now):
            row = self._cut(model)
        return Lease(row.model, row.holder, row.epoch, read_stamp(row.expires_at), row.seconds)

    def recorded(self, model: str) -> Lease | None:
        """Return the lease as it is written, alive or not, and change nothing; None for a model that was never held."""
        with self._ledger.database.reading() as connection:
            row = _row(connection, model)
        return None if row is None else Lease(row.model, row.holder, row.epoch, read_stamp(row.expires_at), row.seconds)

    @contextmanager
    def held(self, lease: Lease) -> Iterator[Held]:
        """Renew the lease from a thread of its own while the block runs, and give it back at its end."""
        held = Held(lease, self._renewed)
        held.start()
        try:
            yield held
        finally:
            held.stop()
            # A lease that cannot be given back runs out by itself; the block's own error matters more.
            with suppress(TransientError):
                self.give_back(held.lease)

    def _cut(self, model: str) -> Row[tuple[object, ...]]:
        with self._ledger.database.writing() as connection:
            lock_head(connection)
            _cut(connection, _known(connection, model), self._ledger.now())
            return _known(connection, model)

    def _renewed(self, lease: Lease) -> Lease | None:
        expires_at = self._ledger.now() + timedelta(seconds=lease.seconds)
        return replace(lease, expires_at=expires_at) if self._set(lease, expires_at=stamp(expires_at)) else None

    def _set(self, lease: Lease, **columns: str) -> bool:
        """Change the lease's row if it is still this lease's, and say whether it was."""
        ours = (LEASES.c.model == lease.model) & (LEASES.c.epoch == lease.epoch) & (LEASES.c.holder == lease.holder)
        with self._ledger.database.writing() as connection:
            lock_head(connection)
            return connection.execute(update(LEASES).where(ours).values(**columns)).rowcount == 1


class Held:
    """A lease under renewal: `lease` as last renewed, `lost` set once it is not ours any more."""

    def __init__(self, lease: Lease, renew: Callable[[Lease], Lease | None]) -> None:
        self.lease = lease
        self.lost = threading.Event()
        self._renew = renew
        self._until = time.monotonic() + lease.seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{lease.model}", daemon=True)

    def start(self) -> None:
        """Begin to renew, three times within the lease's length."""
        self._thread.start()

    def stop(self) -> None:
        """End the renewals and wait for the one under way."""
        self._stopping.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._stopping.wait(self.lease.seconds / 3):
                if not self._renewed():
                    return
        finally:
            # However this thread ends, a lease that nobody renews must not be believed in.
            if not self._stopping.is_set():
                self.lost.set()

    def _renewed(self) -> bool:
        began = time.monotonic()
        try:
            renewed = self._renew(self.lease)
        except TransientError:
            return time.monotonic() < self._until
        if renewed is None:
            return False
        self.lease, self._until = renewed, began + renewed.seconds
        return True


def _too_long(row: Row[tuple[object, ...]], now: datetime) -> bool:
    return read_stamp(row.expires_at) > now + timedelta(seconds=row.seconds) + CLOCKS_APART


def _cut(connection: Connection, row: Row[tuple[object, ...]], now: datetime) -> None:
    """Let a lease that was written under a later clock last its length from now on."""
    if _too_long(row, now):
        expires_at = stamp(now + timedelta(seconds=row.seconds))
        connection.execute(update(LEASES).where(LEASES.c.model == row.model).values(expires_at=expires_at))


def _known(connection: Connection, model: str) -> Row[tuple[object, ...]]:
    return connection.execute(select(LEASES).where(LEASES.c.model == model)).one()


def _row(connection: Connection, model: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(LEASES).where(LEASES.c.model == model)).one_or_none()
