"""The commands of people to a release under way: what each means, and in which phases it can be given."""

from __future__ import annotations

from enum import StrEnum

from fleet.phases import ReleasePhase

MOST_SECONDS = 43_200
"""How much one command may extend a canary: half a day, so that a slip of the finger is no week."""
LONGEST_REASON = 500
"""Characters."""


class Command(StrEnum):
    """What a person may want of a release; `meaning` says it in one sentence."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    PROMOTE = "promote"
    EXTEND = "extend"
    APPROVE = "approve"
    DENY = "deny"
    REVOKE = "revoke"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]

    def fits(self, phase: ReleasePhase) -> bool:
        """Whether the command can be given to a release in this phase."""
        return phase in FITS[self]


C, P = Command, ReleasePhase

MEANING: dict[Command, str] = {
    C.PAUSE: "The weights stay as they are, and the time of the step, of the shadow or of the bake stands still; harm still rolls back.",
    C.RESUME: "The walk goes on from where it was paused.",
    C.ABORT: "All traffic goes back to the stable revision, and the release ends as rolled back.",
    C.PROMOTE: "The release is promoted now, without a bake, unless harm was found; it waits until the way back is warm.",
    C.EXTEND: "The canary, or the bake, may last so many seconds longer.",
    C.APPROVE: "The revision that is named may get traffic, once as many people as are needed say so.",
    C.DENY: "The revision gets no traffic, and the release ends as rejected.",
    C.REVOKE: "Your own approval is taken back; a revision that has traffic by it loses it, and the release ends as rolled back.",
}

_JUDGED = frozenset({P.SHADOWING, P.CANARY, P.BAKING})
_BEFORE = frozenset({P.REQUESTED, P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING, P.AWAITING_APPROVAL})

FITS: dict[Command, frozenset[ReleasePhase]] = {
    C.PAUSE: _JUDGED,
    C.RESUME: _JUDGED,
    C.ABORT: _BEFORE | _JUDGED,
    C.PROMOTE: frozenset({P.CANARY, P.BAKING}),
    C.EXTEND: frozenset({P.CANARY, P.BAKING}),
    C.APPROVE: frozenset({P.AWAITING_APPROVAL}),
    C.DENY: frozenset({P.AWAITING_APPROVAL}),
    C.REVOKE: frozenset({P.AWAITING_APPROVAL}) | _JUDGED,
}
