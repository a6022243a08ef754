"""What one region's own server answers, held against golden answers; nothing here needs Prefect."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

from clouds.asking import Response, ask
from fleet.declared_golden import Golden
from fleet.evidence import GateResult
from fleet.versions import Revision
from flows.house import House
from flows.kept_golden import Kept
from policies.golden_set import Answer, answer_of, judge_answers
from policies.odd_requests import failure

TRAFFIC = "golden"
"""How these requests are labelled: they are billed as what they are, and their rows are nobody's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A region, a revision, and what it must answer within what fleet.yaml allows."""

    region: str
    revision: Revision
    declared: Golden
    kept: Kept


def asked(house: House, what: Asked) -> GateResult:
    """Ask a region's own server for every golden answer and return what came of it.

    Raises Unreachable where it cannot be asked now.
    """
    began = time.monotonic()
    status = house.target(what.region).status_of(what.region, what.revision.model, what.revision.digest)
    given = [told(response) for response in ask(status, what.kept.golden.bodies(), TRAFFIC)]
    result = judge_answers(f"golden answers in {what.region}", what.declared, what.kept.golden, given)
    return replace(result, took_ms=round((time.monotonic() - began) * 1000))


def told(response: Response) -> Answer:
    """Return a row's answer out of what the server sent, or in words why there is none."""
    if response.status != 200:
        return failure(response.status, response.body)
    try:
        return answer_of(json.loads(response.body))
    except (ValueError, RecursionError):
        return "a body that is no JSON"
