"""A release under way: the claim on its model, its journal and what it may touch."""

from __future__ import annotations

import itertools
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from fleet.declared import Model
from fleet.errors import Busy, ConvoyError
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.approvals import let_through
from flows.desires import Desire, Why, desires, model_stream, phase_of, release_stream
from flows.effects import Effect
from flows.house import House
from flows.journal import CrashPoint, Journal
from flows.orders import COMMANDED, OBEYED, Order, Orders, fold
from registry.leases import Held, Lease

APPROVED = (ReleasePhase.SHADOWING, ReleasePhase.CANARY, ReleasePhase.BAKING, ReleasePhase.PROMOTING)
"""Phases that are only reached with an approval, where one is needed."""


class SupersededError(ConvoyError):
    """A newer version is wanted; this release leaves the stage."""


class AbortedError(ConvoyError):
    """An operator wants this release to end, and its traffic back on stable."""


class DeniedError(ConvoyError):
    """This release must get no traffic: a person said no, or nobody said yes in time."""


@dataclass(frozen=True)
class Claim:
    """A model held by one controller: its lease, and the versions of the tables that it may write under its epoch."""

    held: Held
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def lease(self) -> Lease:
        """The lease as last renewed."""
        return self.held.lease

    def check(self, house: House) -> None:
        """Raise Busy unless the lease is still ours, here and in the ledger.

        One that ran out, for this process or its machine was held up, and that nobody took is renewed.
        """
        current = house.leases.current(self.lease.model)
        if current is None and not self.held.lost.is_set():
            current = house.leases.renew(self.lease)
        if self.held.lost.is_set() or current is None or current.epoch != self.lease.epoch:
            raise Busy(f"model '{self.lease.model}'", "its lease was lost to another controller", "Nothing: the other one goes on.")


@dataclass(frozen=True)
class Work:
    """One release, held by one controller."""

    house: House
    desire: Desire
    claim: Claim
    journal: Journal

    @classmethod
    def of(cls, house: House, desire: Desire, claim: Claim) -> Self:
        """Open the work on a desire under a claim."""
        crash = CrashPoint.parse(house.settings.crash_at)
        journal = Journal(house.ledger, desire, claim.lease.epoch, claim.lease.holder, crash, lambda: claim.check(house))
        return cls(house, desire, claim, journal)

    @property
    def epoch(self) -> int:
        """The epoch under which everything is written."""
        return self.claim.lease.epoch

    @property
    def model(self) -> str:
        """The model's name."""
        return self.desire.model

    @property
    def declared(self) -> Model:
        """What fleet.yaml says of the model."""
        return self.house.model(self.model)

    @property
    def regions(self) -> tuple[str, ...]:
        """Where the release goes: where the model is served, without the regions that may catch up after the promotion."""
        return self.declared.quorum

    @property
    def phase(self) -> ReleasePhase:
        """Where the release stands."""
        return self.journal.phase

    @property
    def folder(self) -> Path:
        """The release's scratch folder."""
        return self.house.home.work / self.desire.release

    @property
    def stable(self) -> Revision | None:
        """The revision that serves all traffic when this release is not there; None before the first one."""
        return stable_of(self.house, self.model, apart_from=self.desire.release)

    @property
    def proven(self) -> Revision | None:
        """For a rollback: the revision of the wanted version, which was stable before and is still stored."""
        return proven_revision(self.house, self.model, self.desire.version) if self.desire.why is Why.ROLLBACK else None

    @property
    def revision(self) -> Revision | None:
        """What this release packaged, once it has."""
        return release_revision(self.house, self.desire)

    @property
    def orders(self) -> Orders:
        """What people have ordered of the release so far, as the ledger has it now."""
        return fold(self.house.ledger.stream(release_stream(self.desire.release), COMMANDED, OBEYED))

    @property
    def let_through(self) -> frozenset[str] | None:
        """The ids of the approvals by which the release may have traffic, None before it may, or where nobody is asked."""
        return let_through(self.journal.events())

    def obeyed(self, order: Order, *skipped: str) -> None:
        """Record that the release did as it was told, once, and what it left out for that."""
        if order in self.orders.pending:
            self.journal.record(OBEYED, {"command": order.command.value, "skipped": list(skipped)}, intent=order.id)

    @property
    def rival(self) -> Revision | None:
        """The stable revision, where there is one to be compared with: neither for a first release nor for a rollback."""
        stable, revision = self.stable, self.revision
        same = stable is None or revision is None or stable.digest == revision.digest
        return None if same or self.proven is not None else stable

    @property
    def walks(self) -> bool:
        """Whether a canary is still to be walked: not where everything is switched at once, nor once it bakes."""
        return self.declared.traffic.mode == "canary" and self.phase is not ReleasePhase.BAKING

    def since(self, *begun: Effect) -> int | None:
        """Return the second at which the first of some effects began that was completed, None without any."""
        events = self.journal.events()
        found = [event.payload["since"] for event in events if event.type == "effect.completed" and event.effect_key in begun]
        return int(str(found[0])) if found else None

    def check(self) -> None:
        """Raise unless this controller still holds the model, nobody wants the release to end, and nothing newer is wanted."""
        self.claim.check(self.house)
        orders = self.orders
        if orders.aborted is not None:
            raise AbortedError(self.desire.release, f"aborted {orders.aborted.by}")
        if orders.denied is not None:
            raise DeniedError(self.desire.release, f"denied {orders.denied.by}")
        if orders.revoked is not None and self._lacks_people(orders):
            raise AbortedError(self.desire.release, f"an approval was revoked {orders.revoked.by}")
        newest = desires(self.house.ledger, self.model)[-1]
        if newest.release != self.desire.release:
            raise SupersededError(self.desire.release, f"version {newest.version} is wanted now (release {newest.release})")

    def _lacks_people(self, orders: Orders) -> bool:
        """Whether too few of the approvals still stand by which the release may have traffic, whatever others were given since."""
        counted, people = self.let_through, self.declared.approval.people
        if counted is None:
            # One that an older Convoy let through: it did not say by whose word
            return self.phase in APPROVED and len(orders.approvals) < people
        return sum(order.id in counted for order in orders.approvals) < min(people, len(counted))


@contextmanager
def claim(house: House, model: str, actor: str) -> Iterator[Claim | None]:
    """Hold a model's lease while the block runs; gives None at once when somebody else holds it."""
    holder = f"{actor} {uuid.uuid4().hex[:8]} (process {os.getpid()})"
    lease = house.leases.take(model, holder, house.settings.lease_seconds)
    if lease is None:
        yield None
        return
    with house.leases.held(lease) as held:
        yield Claim(held)


def drop_scratch(house: House, model: str) -> None:
    """Delete the scratch folders of a model's ended releases, those of controllers that were killed as well."""
    for desire in desires(house.ledger, model):
        folder = house.home.work / desire.release
        if folder.exists() and phase_of(house.ledger, desire.release).terminal:
            shutil.rmtree(folder, ignore_errors=True)


def once_stable(house: House, model: str) -> tuple[Revision, ...]:
    """Return every revision that was ever promoted, oldest first."""
    return tuple(
        Revision(model, str(event.payload["version"]), str(event.payload["digest"]))
        for event in house.ledger.stream(model_stream(model))
        if event.type == "stable.set"
    )


def proven_revision(house: House, model: str, version: str) -> Revision | None:
    """Return the revision of a version that was stable before and is still stored, None when there is none."""
    earlier = [found for found in once_stable(house, model) if found.version == version]
    return earlier[-1] if earlier and house.origin.has_blob(earlier[-1].digest) else None


def stable_of(house: House, model: str, apart_from: str | None = None) -> Revision | None:
    """Return the last promoted revision of a model, leaving out one release's own promotion."""
    for event in reversed(house.ledger.stream(model_stream(model))):
        if event.type == "stable.set" and event.payload["release"] != apart_from:
            return Revision(model, str(event.payload["version"]), str(event.payload["digest"]))
    return None


def release_revision(house: House, desire: Desire) -> Revision | None:
    """Return what a release packaged, None before it has."""
    events = house.ledger.stream(release_stream(desire.release))
    packaged = [event for event in events if event.type == "effect.completed" and event.effect_key == effects.PACKAGE]
    return Revision(desire.model, desire.version, str(packaged[-1].payload["digest"])) if packaged else None
