"""Believing what was signed of a revision: asked of a region's own store before anything is started there."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import get_run_logger

from fleet.errors import InputError, IntegrityError
from fleet.versions import Revision
from flows import effects
from flows.approvals import let_through
from flows.desires import Why, desires, release_stream
from flows.house import House
from flows.work import Work
from registry.attestations import Kind, TrustPolicy, verify_all
from registry.keys import Trusted
from registry.referrers import ATTESTATION, read_all
from registry.store import ContentStore

BUILDER = "urn:convoy:flow:release"
"""Who builds, as SLSA's provenance names it."""


@dataclass(frozen=True, slots=True)
class Maker:
    """The release that made a revision, the epochs under which it was held so far, and the approvals by which it had traffic."""

    release: str
    epochs: tuple[int, int]
    orders: frozenset[str] = frozenset()


def check_attested(work: Work, revision: Revision, region: str, orders: frozenset[str] = frozenset()) -> None:
    """Raise IntegrityError unless what lies beside a revision in a region's store speaks for it, with the approvals of `orders`.

    A revision that was made before anything was attested has only its digest. The way back does not wait for a document:
    its revision was believed when it was released, and its files are held against their digest; what is wrong is logged.
    """
    made_by = maker_of(work.house, revision)
    if made_by is None:
        return
    why = doubts(work.house, revision, Maker(made_by.release, made_by.epochs, orders), work.house.region_store(region))
    if why and work.desire.why is Why.ROLLBACK and work.proven is not None:
        get_run_logger().error("%s in %s: its statements do not hold: %s", revision.digest, region, "; ".join(why))
    elif why:
        raise IntegrityError(
            f"revision {revision.digest} in region '{region}'",
            f"is not attested as it must be: {'; '.join(why)}",
            f"See `convoy attestations {made_by.release}`; release it again once you know who changed the store or the keys.",
        )


def maker_of(house: House, revision: Revision, release: str | None = None) -> Maker | None:
    """Return the newest release, or the one that is named, that attested a revision; None where none did."""
    for desire in reversed(desires(house.ledger, revision.model)):
        events = house.ledger.stream(release_stream(desire.release))
        done = {event.effect_key: event.payload for event in events if event.type == "effect.completed"}
        attested = done.get(effects.ATTEST)
        if release in (None, desire.release) and attested is not None and attested["digest"] == revision.digest:
            # A desire itself is written under no epoch
            epochs = [event.epoch for event in events if event.epoch > 0]
            return Maker(desire.release, (min(epochs), max(epochs)), let_through(events) or frozenset())
    return None


def doubts(house: House, revision: Revision, made_by: Maker, store: ContentStore) -> tuple[str, ...]:
    """Return why what lies beside a revision in a store does not speak for it, nothing where it does."""
    demanded = frozenset(Kind) if made_by.orders else frozenset(Kind) - {Kind.APPROVAL}
    keys = {kind: _trusted(house, kind) for kind in Kind}
    policy = TrustPolicy(
        keys={name: key for trusted in keys.values() for name, key in trusted.items()},
        signers={kind: frozenset(trusted) for kind, trusted in keys.items()},
        builders=frozenset({BUILDER}),
        model=revision.model,
        release=made_by.release,
        epochs=made_by.epochs,
        demanded=demanded,
        people=max(1, len(made_by.orders)),
        orders=made_by.orders,
    )
    found, unreadable = read_all(store, revision.digest, ATTESTATION)
    return verify_all(revision.digest, found, policy, unreadable)


def _trusted(house: House, kind: Kind) -> Trusted:
    """Return whose signatures of a kind are believed, nobody's where no key was ever made: to read needs no secret."""
    try:
        return house.attestation_trust(kind)
    except InputError:
        return {}
