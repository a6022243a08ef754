"""What Prefect's server says of our pool, its workers, our deployments and automations: typed answers over its REST API."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from control.stack.components import ROOT, Site
from fleet.errors import OperationFailed, Unreachable

if TYPE_CHECKING:
    from tenacity import RetryCallState

ANSWER_SECONDS = 10.0
BUSY_SECONDS = 30.0
"""How long Prefect may answer 503: its word for a database that another of its writers holds just now."""
TAG = "convoy"
OURS = "flows/"
PAGE = 200
T = TypeVar("T")


class Answer(BaseModel):
    """The part of an answer that we read."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Deployment(Answer):
    """A deployment as Prefect knows it."""

    id: str
    name: str
    entrypoint: str | None = None
    paused: bool = False


class WorkPool(Answer):
    """A work pool; its type says what runs a flow, `process` being this machine."""

    id: str
    name: str
    type: str
    is_paused: bool = False


class Worker(Answer):
    """A worker of a pool; `status` is ONLINE while it sends heartbeats."""

    name: str
    status: str


class Automation(Answer):
    """An automation; one that is not enabled reacts to nothing."""

    name: str
    enabled: bool


class FlowRun(Answer):
    """A run of a flow; `state_type` is Prefect's word, such as COMPLETED."""

    name: str
    state_type: str | None = None
    start_time: datetime | None = None


class _Trigger(Answer):
    name: str


class _Declared(Answer):
    name: str
    entrypoint: str
    triggers: tuple[_Trigger, ...] = ()
    schedules: tuple[dict[str, JsonValue], ...] = ()


class _File(Answer):
    deployments: tuple[_Declared, ...]


def declared_deployments() -> dict[str, str]:
    """Return the entrypoint of each deployment of prefect.yaml, by name."""
    return {found.name: found.entrypoint for found in _file().deployments}


def declared_triggers() -> tuple[str, ...]:
    """Return the names of the triggers of prefect.yaml, each an automation at the server."""
    return tuple(trigger.name for found in _file().deployments for trigger in found.triggers)


def declared_schedules() -> tuple[str, ...]:
    """Return the names of the deployments of prefect.yaml that run on a schedule."""
    return tuple(found.name for found in _file().deployments if found.schedules)


def scheduled_runs(site: Site, deployment: str) -> int:
    """Return how many runs of a deployment Prefect has on its calendar."""
    wish = {
        "deployments": {"name": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
    }
    return _read(int, ask(site, "POST", "/flow_runs/count", wish))


def last_run(site: Site, deployment: str) -> FlowRun | None:
    """Return the newest run of a deployment that has ended by itself, None when there is none."""
    ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}
    wish = {"deployments": {"name": {"any_": [deployment]}}, "flow_runs": {"state": ended}, "sort": "START_TIME_DESC", "limit": 1}
    return next(iter(_read(tuple[FlowRun, ...], ask(site, "POST", "/flow_runs/filter", wish))), None)


def known_deployments(site: Site) -> tuple[Deployment, ...]:
    """Return the deployments of ours that Prefect has: those with our tag whose entrypoint lies in `flows`."""
    found: list[Deployment] = []
    while True:
        wish = {"deployments": {"tags": {"all_": [TAG]}}, "limit": PAGE, "offset": len(found), "sort": "NAME_ASC"}
        page = _read(tuple[Deployment, ...], ask(site, "POST", "/deployments/filter", wish))
        found += page
        if len(page) < PAGE:
            return tuple(each for each in found if each.entrypoint is not None and each.entrypoint.startswith(OURS))


def work_pool(site: Site) -> WorkPool | None:
    """Return the work pool of the settings, None when there is none."""
    wish = {"work_pools": {"name": {"any_": [site.settings.work_pool]}}}
    return next(iter(_read(tuple[WorkPool, ...], ask(site, "POST", "/work_pools/filter", wish))), None)


def workers(site: Site) -> tuple[Worker, ...]:
    """Return the workers that the pool ever had."""
    return _read(tuple[Worker, ...], ask(site, "POST", f"/work_pools/{site.settings.work_pool}/workers/filter", {}))


def automations(site: Site) -> tuple[Automation, ...]:
    """Return every automation."""
    return _read(tuple[Automation, ...], ask(site, "POST", "/automations/filter", {}))


def ask(site: Site, method: str, path: str, body: object = None) -> httpx.Response:
    """Return Prefect's answer, asked for again while Prefect is busy, as Prefect's own client does.

    Raises Unreachable, and OperationFailed with Prefect's words.
    """
    from tenacity import Retrying, retry_if_result, stop_after_delay, wait_random_exponential

    url = f"{site.stack.prefect_url}/api{path}"
    patience = Retrying(
        retry=retry_if_result(_is_busy),
        wait=wait_random_exponential(multiplier=0.2, max=3),
        stop=stop_after_delay(BUSY_SECONDS),
        retry_error_callback=_last,
    )
    try:
        answer: httpx.Response = patience(httpx.request, method, url, json=body, timeout=ANSWER_SECONDS, trust_env=False)
    except httpx.TransportError as problem:
        raise Unreachable("Prefect", f"does not answer at {url} ({type(problem).__name__})", "Run `convoy up` again.") from problem
    if not answer.is_success:
        raise OperationFailed("Prefect", f"answered {answer.status_code} to {method} {path}: {answer.text[:300]}", "Look at its log.")
    return answer


def _is_busy(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE


def _last(state: RetryCallState) -> httpx.Response:
    assert state.outcome is not None
    answer: httpx.Response = state.outcome.result()
    return answer


def _read(kind: type[T], answer: httpx.Response) -> T:
    try:
        return TypeAdapter(kind).validate_json(answer.content)
    except ValidationError as problem:
        raise OperationFailed("Prefect", f"gave an answer to {answer.url.path} that is not Prefect's") from problem


@cache
def _file() -> _File:
    from ruamel.yaml import YAML

    return _File.model_validate(YAML(typ="safe").load((ROOT / "prefect.yaml").read_text(encoding="utf-8")))
