"""Asks policies that are not ours, in a worker that can be stopped.

The engine knows no limit and holds Python's lock while it parses and evaluates: twelve nested brackets keep its parser busy
for seconds, and a rule over two ranges for ever. What Convoy ships is reviewed and decided in process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.canonical import digest_of
from fleet.errors import InputError
from policies.rego.bundle import REMEDY, Bundle, shipped_bundle
from policies.rego.decision import UNEVALUATED, Decision, Policy, canonical, decide
from policies.rego.testing import TestReport
from policies.sandbox import Job, Limits, run

MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class Guard:
    """Where a worker may write, and how long it may take."""

    work: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class RegoRequest:
    """Decide over documents (JSON texts), or run the tests of a bundle where `tests` says so."""

    files: tuple[tuple[str, str], ...]
    data: str
    package: str
    documents: tuple[str, ...]
    tests: bool


@dataclass(frozen=True, slots=True)
class RegoAnswer:
    """One decision per document, or the report of the tests; `problem` is what is wrong with the bundle."""

    decisions: tuple[Decision, ...] = ()
    report: TestReport | None = None
    problem: str = ""


def ask(policy: Policy, documents: Sequence[Any], guard: Guard) -> tuple[Decision, ...]:
    """Return what a policy says of each document; what ships with Convoy in process, anything else in a worker.

    A policy that takes too long, or whose worker ends otherwise than with an answer, refuses every document.
    """
    if policy.bundle.digest == shipped_bundle().rules.digest:
        return tuple(decide(policy, document) for document in documents)
    texts = tuple(canonical(document, "policy input").decode() for document in documents)
    done = run(_job(RegoRequest(policy.bundle.files, policy.data, policy.package, texts, False), guard), RegoAnswer, _limits(guard))
    answered = done.answer
    if answered is not None and not answered.problem and _answers(answered.decisions, policy, texts):
        return answered.decisions
    why = answered.problem if answered else f"its worker: {done.failure}"
    return tuple(_refused(policy, text, why or "its worker answered something else than it was asked") for text in texts)


def ask_tests(bundle: Bundle, data: Mapping[str, Any], guard: Guard) -> TestReport:
    """Run a bundle's tests in a worker; raises InputError for a bundle that cannot be read or does not end."""
    request = RegoRequest(bundle.files, canonical(data, "policy data").decode(), "", (), True)
    done = run(_job(request, guard), RegoAnswer, _limits(guard))
    if done.answer is None or done.answer.report is None:
        why = done.answer.problem if done.answer else done.failure
        raise InputError("the policy's tests", why or "gave no report", REMEDY)
    return done.answer.report


def answer_of(request: RegoRequest) -> RegoAnswer:
    """Return the answer to a request: the worker's part."""
    from policies.rego.testing import run_tests

    bundle = Bundle(request.files)
    try:
        if request.tests:
            return RegoAnswer(report=run_tests(bundle, json.loads(request.data)))
        policy = Policy.of(bundle, json.loads(request.data), request.package)
        return RegoAnswer(decisions=tuple(decide(policy, json.loads(text)) for text in request.documents))
    except InputError as problem:
        return RegoAnswer(problem=f"{problem.subject}: {problem.reason}")


def _job(request: RegoRequest, guard: Guard) -> Job:
    return Job("rego", request, (), guard.work)


def _limits(guard: Guard) -> Limits:
    return Limits(guard.seconds, memory=MEMORY, processes=8)


def _answers(decisions: Sequence[Decision], policy: Policy, texts: Sequence[str]) -> bool:
    """Whether the decisions are of this policy and these documents, and none allows what it gives reasons against."""
    asked = [(policy.bundle.digest, policy.data_digest, digest_of(text.encode())) for text in texts]
    told = [(each.policy_digest, each.data_digest, each.input_digest) for each in decisions]
    return told == asked and not any(each.allowed and (each.reasons or each.failure) for each in decisions)


def _refused(policy: Policy, text: str, why: str) -> Decision:
    digests = (policy.bundle.digest, policy.data_digest, digest_of(text.encode()))
    return Decision(False, (), (), f"{UNEVALUATED}: {why}", policy.package, *digests)
