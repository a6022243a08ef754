"""What was done to a revision, signed: in-toto statements about its digest, and the policy that says whose word counts.

A build, a scan, a validation and an approval are each a statement of their own, signed with a key that may sign that
kind alone. Each is bound to the release and the epoch in which it was made, so that what was true of the same digest in
an older release is not taken for this one. https://github.com/in-toto/attestation, spec/v1; https://slsa.dev/provenance/v1
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from fleet.canonical import canonical_json
from fleet.errors import InputError
from registry.dsse import Envelope, once, sealed
from registry.events import JSON, read_stamp, stamp
from registry.keys import SigningKey, Trusted

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
BUILD_TYPE = "urn:convoy:build:bento:v1"


class Kind(StrEnum):
    """What may be attested of a revision."""

    BUILD = "build"
    SCAN = "scan"
    VALIDATION = "validation"
    APPROVAL = "approval"

    @property
    def predicate_type(self) -> str:
        """The URI of its predicate: SLSA's provenance for a build, our own for the others."""
        return "https://slsa.dev/provenance/v1" if self is Kind.BUILD else f"urn:convoy:{self.value}:v1"


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement: what was found of a revision (`sha256:<hex>`) of a model, in which release and under which epoch.

    `by` is who did it: the builder's id, the scanner, the gates, the approving operator's role. `passed` is whether it
    speaks for the revision; a build that is attested did. `details` is what it rests on.
    """

    kind: Kind
    model: str
    digest: str
    release: str
    epoch: int
    at: datetime
    by: str
    passed: bool = True
    details: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whose word counts, and for what: which keys may sign each kind, which builders, and which model and release it must be about.

    `epochs` are the first and the last under which the release was held; `demanded` is what must be there, an approval by
    as many different `people`, each by one of the `orders` that the ledger counts.
    """

    keys: Trusted
    signers: Mapping[Kind, frozenset[str]]
    builders: frozenset[str]
    model: str
    release: str
    epochs: tuple[int, int]
    demanded: frozenset[Kind] = frozenset(Kind)
    people: int = 1
    orders: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        both = self.signers.get(Kind.BUILD, frozenset()) & self.signers.get(Kind.APPROVAL, frozenset())
        if both:
            raise InputError(
                f"key {min(both)}", "may sign builds and approvals: who builds must not approve", "Give each a key of its own."
            )


def attest(claim: Claim, key: SigningKey) -> Envelope:
    """Return a claim as a signed statement."""
    return sealed(PAYLOAD_TYPE, statement(claim), key)


def statement(claim: Claim) -> bytes:
    """Return a claim as the canonical bytes of an in-toto statement."""
    digest = claim.digest.removeprefix("sha256:")
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": claim.model, "digest": {"sha256": digest}}],
            "predicateType": claim.kind.predicate_type,
            "predicate": _build(claim) if claim.kind is Kind.BUILD else _judgement(claim),
        }
    )


def read_claim(envelope: Envelope) -> Claim:
    """Return what an envelope claims, without believing it; raises InputError for what is no statement of ours."""
    try:
        document = json.loads(envelope.payload, object_pairs_hook=once)
        kinds = {kind.predicate_type: kind for kind in Kind}
        kind, (subject,) = kinds[document["predicateType"]], document["subject"]
        claim = _claim(kind, subject["name"], f"sha256:{subject['digest']['sha256']}", document["predicate"])
        # Whatever else it says would be signed and not looked at
        if envelope.type != PAYLOAD_TYPE or statement(claim) != envelope.payload:
            raise ValueError("more, less or something else than such a statement says")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise InputError("attestation", f"is no statement that is known here ({type(problem).__name__})") from problem
    return claim


def verify_all(subject: str, envelopes: Iterable[bytes], policy: TrustPolicy, unreadable: Iterable[str] = ()) -> tuple[str, ...]:
    """Return why a revision must not be deployed: nothing when each demanded kind is attested as the policy wants it.

    `unreadable` is what lay beside the envelopes and could not be read; it explains what is missing.

    What nobody trusted signed is no reason by itself, so that rubbish in a store stops no release; what a trusted key
    signed for this release and against the revision is one, whatever else is there.
    """
    good: dict[Kind, set[str]] = {}
    against: list[str] = []
    doubts: dict[Kind | None, list[str]] = {None: list(unreadable)}
    for data in envelopes:
        try:
            envelope = Envelope.from_bytes(data)
            claim = read_claim(envelope)
        except InputError as problem:
            doubts.setdefault(None, []).append(problem.reason)
            continue
        doubt = _doubt(subject, claim, envelope, policy)
        if doubt:
            doubts.setdefault(claim.kind, []).append(doubt)
        elif claim.passed:
            good.setdefault(claim.kind, set()).add(claim.by)
        else:
            against.append(f"{claim.kind}: {claim.by} says no to this revision")
    missing = [f"{kind}: {_why(kind, doubts)}" for kind in Kind if kind in policy.demanded - good.keys()]
    given = good.get(Kind.APPROVAL, set())
    if Kind.APPROVAL in policy.demanded and 0 < len(given) < policy.people:
        missing.append(f"{Kind.APPROVAL}: {len(given)} of {policy.people} different people ({', '.join(sorted(given))})")
    return (*against, *missing)


def _doubt(subject: str, claim: Claim, envelope: Envelope, policy: TrustPolicy) -> str:
    """Return why a claim does not count, nothing when it does."""
    allowed = policy.signers.get(claim.kind, frozenset())
    first, last = policy.epochs
    if not envelope.signers({name: key for name, key in policy.keys.items() if name in allowed}):
        return "not signed with a key that may sign this"
    if (claim.digest, claim.model) != (subject, policy.model):
        return f"it is about another revision, {claim.digest} of model {claim.model}"
    if claim.kind is Kind.BUILD and claim.by not in policy.builders:
        return f"'{claim.by}' is no builder that is trusted"
    if claim.release != policy.release:
        return f"it was made for release {claim.release}, not for {policy.release}"
    if not first <= claim.epoch <= last:
        return f"it was made under epoch {claim.epoch}, the release was held under {first} to {last}"
    if claim.kind is Kind.APPROVAL and claim.details.get("order") not in policy.orders:
        return f"the approval of {claim.by} is none by which the release may have traffic"
    return ""


def _why(kind: Kind, doubts: Mapping[Kind | None, list[str]]) -> str:
    known = doubts.get(kind) or doubts[None]
    return f"no attestation of it counts ({'; '.join(sorted(set(known)))})" if known else "it was not attested"


def _build(claim: Claim) -> dict[str, JSON]:
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": claim.details,
            "internalParameters": {"release": claim.release, "epoch": claim.epoch},
        },
        "runDetails": {
            "builder": {"id": claim.by},
            "metadata": {"invocationId": f"{claim.release}/{claim.epoch}", "finishedOn": stamp(claim.at)},
        },
    }


def _judgement(claim: Claim) -> dict[str, JSON]:
    return {
        "release": claim.release,
        "epoch": claim.epoch,
        "at": stamp(claim.at),
        "by": claim.by,
        "result": "passed" if claim.passed else "refused",
        "details": claim.details,
    }


def _claim(kind: Kind, model: str, digest: str, said: Any) -> Claim:
    """Return a predicate as a claim; what does not fit makes another statement, which its reader notices."""
    if kind is Kind.BUILD:
        defined, run = said["buildDefinition"], said["runDetails"]
        inner, at = defined["internalParameters"], read_stamp(run["metadata"]["finishedOn"])
        details, by = defined["externalParameters"], run["builder"]["id"]
        return Claim(kind, model, digest, inner["release"], _whole(inner["epoch"]), at, by, details=details)
    passed, at = said["result"] == "passed", read_stamp(said["at"])
    return Claim(kind, model, digest, said["release"], _whole(said["epoch"]), at, said["by"], passed, said["details"])


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value
