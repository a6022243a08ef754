"""The gate that asks for an OpenSSF signature of the model's files, where fleet.yaml says whose."""

from __future__ import annotations

from fleet.declared import Model
from fleet.evidence import GateResult
from policies.candidate import Candidate, Gate, failed, first_of, inconclusive, not_applicable, passed


class ModelSigned(Gate[tuple[str, ...] | None]):
    """Fails a version whose files are not exactly those that a declared key or certificate signed.

    Not applicable where fleet.yaml declares no signature.
    """

    name = "model signature"

    def gather(self, candidate: Candidate) -> tuple[str, ...] | None:
        """Return what was found wrong with the signature, nothing where it holds; None where nobody looked."""
        return candidate.signature

    def judge(self, declared: Model, evidence: tuple[str, ...] | None) -> GateResult:
        """Return whether the signature holds."""
        wanted = declared.gates.signature
        if wanted is None:
            return not_applicable(self, "fleet.yaml declares no signature")
        if evidence is None:
            return inconclusive(self, "nobody looked at the signature")
        if evidence:
            return failed(self, *first_of(evidence))
        return passed(self, f"{wanted.bundle} covers every file, and is signed as fleet.yaml wants it", (("bundle", wanted.bundle),))
