"""The seam between a release and whatever runs its revisions: values, and the Protocol that every target meets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from fleet.errors import InputError
from fleet.home import Home

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PLAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")

Fetch = Callable[[str, Path], None]
"""Unpacks the revision of a digest into a folder, which it makes, and verifies every file against the digest."""


class State(StrEnum):
    """How a revision fares in a region; `meaning` says it in one sentence."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]


MEANING: dict[State, str] = {
    State.ABSENT: "The region does not run the revision.",
    State.STARTING: "The region runs it or is about to; it does not answer as ready yet.",
    State.READY: "It answered that it is ready, and with the digest that was asked for.",
    State.FAILED: "It will not get ready by itself, or something else answers in its place; the reason says which.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an edge reaches a revision."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """A revision that a region shall run: the model's name, the region's id and the manifest's digest.

    Raises InputError for a name or digest that could not be one.
    """

    model: str
    region: str
    digest: str

    def __post_init__(self) -> None:
        for what, name in (("model", self.model), ("region", self.region)):
            if not PLAIN.fullmatch(name):
                raise InputError(f"{what} {name!r}", "a name has letters, digits, dashes and underscores only")
        if not DIGEST.fullmatch(self.digest):
            raise InputError(f"revision {self.digest!r}", "a digest is `sha256:` and 64 hex digits")


@dataclass(frozen=True, slots=True)
class RevisionStatus:
    """What was seen of a revision in a region.

    `revision` is the digest that was deployed, `digest` the one that the running process itself answered with (None
    when it did not answer). `endpoint` is where it answers or will; it is None only when the revision is absent.
    """

    model: str
    region: str
    revision: str
    state: State
    endpoint: Endpoint | None = None
    digest: str | None = None
    reason: str = ""


class Capability(StrEnum):
    """What a target may or may not be able to do."""

    SIDE_BY_SIDE = "side by side"
    DIRECT_ENDPOINT = "direct endpoint"
    SELF_HEALING = "self healing"
    BREAKABLE = "breakable"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a target has a capability, and why or why not."""

    supported: bool
    reason: str


class ServingTarget(Protocol):
    """Runs revisions in regions. Every verb may be repeated; every act has its observation in `status`."""

    def deploy(self, deployment: Deployment, fetch: Fetch) -> None:
        """Have the revision unpacked, verified and started; returns before it is ready.

        Raises UnknownName for a region that is not this target's, IntegrityError for bytes that are not the digest's,
        TransientError when the same call may succeed later.
        """

    def status(self, model: str, region: str) -> tuple[RevisionStatus, ...]:
        """Return every revision of a model that a region was asked to run."""

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        """Return one revision's status, `absent` where it was never deployed or is retired."""

    def retire(self, region: str, model: str, digest: str) -> None:
        """Stop the revision and forget it; one that is not there is fine."""

    def capabilities(self) -> Mapping[Capability, Support]:
        """Return what this target can do, each with its reason."""


class TargetFactory(Protocol):
    """Makes a target for a home; opens no connection."""

    def __call__(self, home: Home, stack_id: str, ports: Mapping[str, range]) -> ServingTarget:
        """Return the target; `ports` are those that each region may use where the target needs ports at all."""
