"""Asks one region's own server, past every edge: Open Inference requests, labelled as what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from clouds.serving import RevisionStatus, State
from fleet.errors import Unreachable
from fleet.headers import NOT_READY, TRAFFIC_HEADER

REVISION_HEADER = "x-convoy-revision"
ANSWER_SECONDS = 30.0
REMEDY = "See `convoy status`; it is asked again."


@dataclass(frozen=True, slots=True)
class Response:
    """What a server gave for one request: the HTTP status and the body."""

    status: int
    body: bytes


def ask(status: RevisionStatus, bodies: Sequence[bytes], traffic: str) -> tuple[Response, ...]:
    """Return what the revision's own server answers to each body, one after another.

    Raises Unreachable where it is not ready, does not answer, or another revision answers in its place: whatever may pass.
    """
    subject = f"region '{status.region}'"
    if status.state is not State.READY or status.endpoint is None:
        raise Unreachable(subject, f"is {status.state.value} with {status.revision}: {status.reason or 'no reason given'}", REMEDY)
    url = f"http://{status.endpoint.host}:{status.endpoint.port}/v2/models/{status.model}/infer"
    headers = {"content-type": "application/json", TRAFFIC_HEADER: traffic}
    # trust_env off: a proxy in the environment must not answer for the region
    with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False, headers=headers) as client:
        return tuple(_one(client, url, body, status) for body in bodies)


def _one(client: httpx.Client, url: str, body: bytes, status: RevisionStatus) -> Response:
    subject = f"region '{status.region}'"
    try:
        answer = client.post(url, content=body)
    except httpx.RequestError as problem:
        raise Unreachable(subject, f"its server gave no answer ({type(problem).__name__})", REMEDY) from problem
    seen = answer.headers.get(REVISION_HEADER)
    if seen != status.revision:
        raise Unreachable(subject, f"{seen or 'something without a revision'} answered instead of {status.revision}", REMEDY)
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE or NOT_READY in answer.headers:
        raise Unreachable(subject, f"its server cannot answer now: {answer.text[:200]}", REMEDY)
    return Response(answer.status_code, answer.content)
