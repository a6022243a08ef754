"""Believing what was signed of a revision: asked of a region's own store before anything is started there."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.errors import IntegrityError
from fleet.versions import Revision
from flows import effects
from flows.desires import desires, release_stream
from flows.house import House
from flows.work import Work
from registry.attestations import Kind, TrustPolicy, verify_all
from registry.referrers import ATTESTATION, documents
from registry.store import ContentStore

BUILDER = "urn:convoy:flow:release"
"""Who builds, as SLSA's provenance names it."""


@dataclass(frozen=True, slots=True)
class Maker:
    """The release that made a revision, and the epochs under which it was held so far, the first and the last."""

    release: str
    epochs: tuple[int, int]


def check_attested(work: Work, revision: Revision, region: str, approved: bool = False) -> None:
    """Raise IntegrityError unless what lies beside a revision in a region's store speaks for it, its approval too if `approved`.

    A revision that was made before anything was attested has only its digest.
    """
    house = work.house
    made_by = maker_of(house, revision)
    if made_by is None:
        return
    people = work.declared.approval.people if approved else 0
    why = doubts(house, revision, made_by, house.region_store(region), people)
    if why:
        raise IntegrityError(
            f"revision {revision.digest} in region '{region}'",
            f"is not attested as it must be: {'; '.join(why)}",
            f"See `convoy attestations {made_by.release}`; release it again once you know who changed the store.",
        )


def maker_of(house: House, revision: Revision) -> Maker | None:
    """Return the newest release that attested a revision, None where none did."""
    for desire in reversed(desires(house.ledger, revision.model)):
        events = house.ledger.stream(release_stream(desire.release))
        attested = (event for event in events if event.type == "effect.completed" and event.effect_key == effects.ATTEST)
        if any(event.payload["digest"] == revision.digest for event in attested):
            # A desire itself is written under no epoch
            epochs = [event.epoch for event in events if event.epoch > 0]
            return Maker(desire.release, (min(epochs), max(epochs)))
    return None


def doubts(house: House, revision: Revision, made_by: Maker, store: ContentStore, people: int) -> tuple[str, ...]:
    """Return why what lies beside a revision in a store does not speak for it; with `people`, so many must have approved it."""
    keys = {kind: house.attestation_keys(kind).trusted for kind in Kind}
    policy = TrustPolicy(
        keys={name: key for trusted in keys.values() for name, key in trusted.items()},
        signers={kind: frozenset(trusted) for kind, trusted in keys.items()},
        builders=frozenset({BUILDER}),
        release=made_by.release,
        epochs=made_by.epochs,
        demanded=frozenset(Kind) if people else frozenset(Kind) - {Kind.APPROVAL},
        people=people,
    )
    return verify_all(revision.digest, documents(store, revision.digest, ATTESTATION), policy)


def approvals_of(house: House, release: str) -> int:
    """Return by how many people's approvals a release got its first traffic, as the ledger has it."""
    for event in house.ledger.stream(release_stream(release), "effect.completed"):
        if event.effect_key == effects.ATTEST_APPROVAL and isinstance(event.payload["statements"], list):
            return len(event.payload["statements"])
    return 0
