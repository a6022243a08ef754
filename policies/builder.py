"""The gate that asks who built a version, where whoever did may not approve it."""

from __future__ import annotations

from fleet.declared import Model
from fleet.evidence import GateResult
from policies.candidate import Candidate, Gate, failed, not_applicable, passed

REMEDY = "Whoever built it says so with `convoy operator claim MODEL --version N`, before it is released"


class BuilderKnown(Gate[str | None]):
    """Fails a version that nobody claims to have built, where its approvers must be others than its builder.

    Not applicable where fleet.yaml asks for the approval of one person or of none.
    """

    name = "builder known"

    def gather(self, candidate: Candidate) -> str | None:
        """Return the operator whose claim was checked."""
        return candidate.builder

    def judge(self, declared: Model, evidence: str | None) -> GateResult:
        """Return whether approvers can be told apart from the builder."""
        if not declared.approval.apart:
            return not_applicable(self, "fleet.yaml does not ask for the approval of several people")
        if evidence is None:
            return failed(
                self, f"nobody who is known claims to have built these files, so nobody could be kept from approving them. {REMEDY}"
            )
        return passed(self, f"built by operator {evidence}", (("builder", evidence),))
