"""Epochs for a ledger that is new beside edges that are not."""

from __future__ import annotations

from sqlalchemy import insert

from registry.events import stamp
from registry.ledger import Ledger
from registry.tables import LEASES


def go_on_from(ledger: Ledger, model: str, epoch: int) -> None:
    """Have a model's next lease count on from an epoch that the edges know already."""
    over = {"model": model, "holder": "", "epoch": epoch, "seconds": 1, "expires_at": stamp(ledger.now())}
    with ledger.database.writing() as connection:
        connection.execute(insert(LEASES).values(over))
