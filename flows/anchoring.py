"""Anchoring: the ledger's signed heads, made every so many events and at each release's end, copied to every region."""

from __future__ import annotations

from prefect import get_run_logger

from fleet.errors import ConvoyError, InputError
from fleet.phases import ReleasePhase
from flows.house import House
from registry.anchors import anchor_if_due
from registry.keys import Keyring, Trusted, trusted_in
from registry.ledger import Event
from registry.store import ContentStore


def anchor(house: House) -> ConvoyError | None:
    """Sign the ledger's head when it is due and copy what the regions lack; a region that is away is caught up later.

    Returns why nothing can be signed, which keeps nobody from acting. Raises LedgerBroken when the ledger is not what a
    region's store says of it: nothing may act then.
    """
    stores, away = _stores(house)
    logger = get_run_logger()
    keys, trouble = _keys(house)
    done = anchor_if_due(house.ledger, keys, stores, house.settings.anchor_events, ends_a_release)
    if trouble is not None:
        logger.error("the ledger's head is not signed: %s", trouble)
    if done.signed is not None:
        logger.info("signed the ledger's head %s over %s events", done.signed.number, done.signed.size)
    for region in (*away, *done.away):
        logger.warning("no copy of the ledger's head in %s; caught up later", region)
    return trouble


def _keys(house: House) -> tuple[Keyring | Trusted, ConvoyError | None]:
    """Return what the ledger's heads are signed with; where that is lost, what they are believed by, and why."""
    try:
        return house.ledger_keys, None
    except InputError as problem:
        return trusted_in(house.home.ledger_keys), problem


def ends_a_release(event: Event) -> bool:
    """Whether an event is a release's last phase."""
    return event.type == "phase.entered" and ReleasePhase(str(event.payload["phase"])).terminal


def _stores(house: House) -> tuple[dict[str, ContentStore], list[str]]:
    stores, away = {}, []
    for region in house.fleet.regions:
        try:
            stores[region] = house.region_store(region)
        except ConvoyError as problem:
            away.append(f"{region}: {problem}")
    return stores, away
