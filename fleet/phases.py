"""The phases of a release, what each means, and which may follow which."""

from __future__ import annotations

import itertools
from enum import StrEnum

from fleet.errors import OperationFailed


class ReleasePhase(StrEnum):
    """Where a release stands; `meaning` says it in one sentence."""

    REQUESTED = "requested"
    VALIDATING = "validating"
    PACKAGING = "packaging"
    REPLICATING = "replicating"
    DEPLOYING = "deploying"
    AWAITING_APPROVAL = "awaiting approval"
    SHADOWING = "shadowing"
    CANARY = "canary"
    BAKING = "baking"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    FAILED = "failed"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]

    @property
    def terminal(self) -> bool:
        """Whether the release has ended."""
        return not NEXT[self]


P = ReleasePhase

MEANING: dict[ReleasePhase, str] = {
    P.REQUESTED: "Somebody wants this version; nothing has been done yet.",
    P.VALIDATING: "The gates look at the version; no region knows of it.",
    P.PACKAGING: "The version becomes one Bento with one digest.",
    P.REPLICATING: "The same digest is copied to every region's store and read back.",
    P.DEPLOYING: "Each region starts the revision and proves that it is warm; it gets no traffic.",
    P.AWAITING_APPROVAL: "A person must say yes before any traffic moves.",
    P.SHADOWING: "The revision answers copies of requests; users never see its answers.",
    P.CANARY: "A measured share of live requests goes to the revision while the judge looks.",
    P.BAKING: "All requests go to the revision; the old one stays warm.",
    P.PROMOTING: "The evidence, or an operator, said yes: the revision becomes the stable one.",
    P.PROMOTED: "The revision serves all traffic and the alias champion names its version.",
    P.ROLLING_BACK: "The evidence, or an operator, said no: all traffic goes back to the stable revision.",
    P.ROLLED_BACK: "Every edge was read back with none of its traffic on the revision.",
    P.REJECTED: "A gate or a person said no; the version never got traffic.",
    P.SUPERSEDED: "A newer version came; this one has no traffic at any edge.",
    P.FAILED: "Convoy could not finish; a human is needed.",
}

_STORY = (P.REQUESTED, P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING)
_WITHOUT_TRAFFIC = frozenset({P.REJECTED, P.ROLLING_BACK, P.SUPERSEDED, P.FAILED})
_WITH_TRAFFIC = frozenset({P.ROLLING_BACK, P.SUPERSEDED, P.FAILED})

NEXT: dict[ReleasePhase, frozenset[ReleasePhase]] = {
    **{phase: frozenset({after}) | _WITHOUT_TRAFFIC for phase, after in itertools.pairwise(_STORY)},
    # A first release has nothing to be compared with: it goes from deploying to promoting.
    # One that is switched at once (blue-green) goes to baking without a canary.
    P.DEPLOYING: frozenset({P.AWAITING_APPROVAL, P.SHADOWING, P.CANARY, P.BAKING, P.PROMOTING}) | _WITHOUT_TRAFFIC,
    P.AWAITING_APPROVAL: frozenset({P.SHADOWING, P.CANARY, P.BAKING, P.PROMOTING}) | _WITHOUT_TRAFFIC,
    P.SHADOWING: frozenset({P.CANARY, P.BAKING}) | _WITHOUT_TRAFFIC,
    P.CANARY: frozenset({P.BAKING, P.PROMOTING}) | _WITH_TRAFFIC,
    P.BAKING: frozenset({P.PROMOTING}) | _WITH_TRAFFIC,
    # Once promoting, a newer version waits: its release follows this one
    P.PROMOTING: frozenset({P.PROMOTED, P.ROLLING_BACK, P.FAILED}),
    P.ROLLING_BACK: frozenset({P.ROLLED_BACK, P.FAILED}),
    P.PROMOTED: frozenset(),
    P.ROLLED_BACK: frozenset(),
    P.REJECTED: frozenset(),
    P.SUPERSEDED: frozenset(),
    P.FAILED: frozenset(),
}


def step(now: ReleasePhase, then: ReleasePhase) -> ReleasePhase:
    """Return the next phase; raises OperationFailed for one that may not follow."""
    if then not in NEXT[now]:
        allowed = ", ".join(sorted(NEXT[now])) or "none: it has ended"
        raise OperationFailed("release", f"cannot go from '{now}' to '{then}' (allowed: {allowed})")
    return then
