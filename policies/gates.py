"""The gates of a release in stages, the cheap ones first."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from fleet.errors import ConvoyError
from fleet.evidence import GateResult
from policies.builder import BuilderKnown
from policies.callers import CallersKept
from policies.candidate import AnyGate, Candidate, inconclusive
from policies.contract import DataContract
from policies.dependencies.gate import DependenciesSound
from policies.files.gate import ModelFiles
from policies.golden import GoldenAnswers
from policies.licences.gate import LicencesAllowed
from policies.metric import MetricAgainstChampion
from policies.policy import PolicyAllows
from policies.privacy import PrivacyPromised
from policies.quality import QualityAgainstChampion
from policies.robustness import DisturbedRequests
from policies.schema import SchemaPresent
from policies.signed import ModelSigned

__all__ = ["STAGES", "Candidate", "Stage", "evaluate_all", "may_go_on"]

Stage = tuple[AnyGate, ...]

STAGES: tuple[Stage, ...] = (
    # What is read without loading anything; nothing loads a model whose files have not passed
    (SchemaPresent(), BuilderKnown(), ModelSigned(), ModelFiles(), DependenciesSound(), LicencesAllowed(), PrivacyPromised()),
    # Data, and the model in sandboxes
    (
        CallersKept(),
        DataContract(),
        MetricAgainstChampion(),
        QualityAgainstChampion(),
        DisturbedRequests(),
        GoldenAnswers(),
        PolicyAllows(),
    ),
)
AT_ONCE = 4
BROKEN = "Look at the release's log; if the version's files are as MLflow writes them, report it"
_LOG = logging.getLogger(__name__)


def evaluate_all(stages: Sequence[Stage], candidate: Candidate) -> tuple[GateResult, ...]:
    """Ask every gate and return all answers in their order; what one stage refuses is not shown to the next.

    The gates of a stage are asked side by side, each in a scratch folder of its own: most of it is waiting for models
    and libraries to load. A gate that breaks is inconclusive, by the type of what broke it. Raises InputError where the
    contract or the evaluation that was declared is itself wrong.
    """
    results: list[GateResult] = []
    for stage in stages:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results += pool.map(lambda gate: _ask(gate, candidate), stage)
        if any(result.outcome.refuses for result in results):
            break
    return tuple(results)


def may_go_on(results: Sequence[GateResult]) -> bool:
    """Return whether every gate passed or did not apply; no answer at all is a no."""
    return bool(results) and not any(result.outcome.refuses for result in results)


def _ask(gate: AnyGate, candidate: Candidate) -> GateResult:
    began = time.monotonic()
    result = _answer(gate, replace(candidate, work=candidate.work / gate.name.replace(" ", "-")))
    return replace(result, took_ms=round((time.monotonic() - began) * 1000))


def _answer(gate: AnyGate, candidate: Candidate) -> GateResult:
    try:
        return gate.evaluate(candidate)
    except ConvoyError:
        raise
    except Exception as problem:  # noqa: BLE001 - an author's file may be why, and the other gates' answers must not be lost
        _LOG.exception("gate '%s' broke", gate.name)
        return inconclusive(gate, f"the gate itself broke ({type(problem).__name__}), so nothing is known. {BROKEN}")
