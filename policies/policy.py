"""The gate that asks the policies: may this version of this model go to these regions?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet.declared import Model
from fleet.errors import InputError
from fleet.evidence import GateResult, GateTable
from policies.candidate import Candidate, Gate, failed, inconclusive, passed
from policies.rego.asking import Guard, ask
from policies.rego.chosen import Own, policies
from policies.rego.decision import Decision


@dataclass(frozen=True, slots=True)
class Asked:
    """What every policy said of the release, by what the policy is called; `problem` says why they could not be asked."""

    decisions: tuple[tuple[str, Decision], ...]
    problem: str = ""


class PolicyAllows(Gate[Asked]):
    """Passes a release that every policy allows: those that Convoy brings, and those that `gates.policy` names.

    Always applies. Inconclusive where a policy gives no answer: it fails while it is evaluated, takes too long, or calls
    what is forbidden. Raises InputError where a policy's files are not there.
    """

    name = "policy"

    def gather(self, candidate: Candidate) -> Asked:
        """Return the decisions over the release, each with the digests of the policy, of its data and of the release."""
        document = document_of(candidate)
        chosen = policies(Own.declared(candidate.declared.gates.policy, candidate.fleet_folder))
        guard = Guard(candidate.work, candidate.seconds)
        try:
            return Asked(tuple((name, ask(policy, [document], guard)[0]) for name, policy in chosen))
        except InputError as problem:
            return Asked((), str(problem))

    def judge(self, declared: Model, evidence: Asked) -> GateResult:
        """Return what the policies said, with what a replay needs in the figures."""
        decisions = evidence.decisions
        figures = tuple(figure for name, decision in decisions for figure in _figures(name, decision))
        warnings = tuple((name, text) for name, decision in decisions for text in decision.warnings)
        tables = (GateTable("Warnings", ("policy", "warning"), warnings),) if warnings else ()
        reasons = [f"{name}: {text}" for name, decision in decisions for text in decision.reasons]
        unanswered = [f"{name}: {decision.failure}" for name, decision in decisions if decision.failure]
        if reasons:
            result = failed(self, *reasons, *unanswered, figures=figures)
        elif unanswered or not decisions:
            result = inconclusive(self, *(unanswered or [evidence.problem or "no policy was asked"]), figures=figures)
        elif not all(decision.allowed for _, decision in decisions):
            result = inconclusive(self, "a policy refused without a reason", figures=figures)
        else:
            said = f"; {len(warnings)} warnings" if warnings else ""
            result = passed(self, f"{' and '.join(name for name, _ in decisions)} allow it{said}", figures)
        return GateResult(result.gate, result.outcome, result.reasons, result.figures, tables)


def document_of(candidate: Candidate) -> dict[str, Any]:
    """Return the release as policies see it: a fleet of this model and its regions, with who releases which version of it."""
    regions = {name: region for name, region in candidate.regions.items() if name in candidate.declared.regions}
    lineage = candidate.lineage
    return {
        "version": 1,
        "regions": {name: region.model_dump(mode="json", exclude_none=True) for name, region in regions.items()},
        "models": {candidate.model: candidate.declared.model_dump(mode="json", exclude_none=True)},
        "release": {
            "model": candidate.model,
            "version": candidate.version,
            "actor": candidate.actor,
            "tags": dict(candidate.tags),
            "lineage": None if lineage is None else {name: getattr(lineage, name) for name in lineage.__slots__},
        },
    }


def _figures(name: str, decision: Decision) -> tuple[tuple[str, str], ...]:
    said = "allowed" if decision.allowed else "refused" if decision.reasons else "no answer"
    return (
        (name, said),
        (f"{name}: package", decision.package),
        (f"{name}: policy digest", decision.policy_digest),
        (f"{name}: data digest", decision.data_digest),
        (f"{name}: input digest", decision.input_digest),
    )
