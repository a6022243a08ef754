"""Tuning a stored revision: its service is started once for each place of a small grid, loaded, and ended."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from bentos.service.tuning import machine
from clouds.local.trial import trial
from clouds.serving import Deployment
from fleet.contained import is_contained
from fleet.errors import NotSupported, UnknownName
from fleet.tuning import Point, Tuning
from fleet.versions import Revision
from flows.desires import desires
from flows.house import House
from flows.measuring import PLACE
from flows.trial_load import ANSWER_SECONDS, bodies_for, inputs_of, percentile
from flows.work import release_revision
from registry.referrers import TUNING, Referrer, attach, copy_referrers

BATCH_ROWS = (64, 256, 1024)
CONNECTIONS = 64
SECONDS = 3.0
SETTLE = 0.2


@dataclass(frozen=True, slots=True)
class Grid:
    """What is tried: batch sizes and worker counts, each for some seconds on so many connections."""

    batch_rows: tuple[int, ...] = BATCH_ROWS
    workers: tuple[int, ...] = (1, 2)
    seconds: float = SECONDS
    connections: int = CONNECTIONS


def tune(house: House, model: str, version: str | None, grid: Grid, tell: Callable[[Point], None]) -> tuple[Tuning, Referrer]:
    """Measure a packaged revision, keep what was found beside it in every store that has it, and return both.

    It takes effect wherever the revision is unpacked from then on, on a machine of the same kind.
    Raises UnknownName for a model that was never packaged, OperationFailed for a service that does not start.
    """
    revision, release = _packaged(house, model, version)
    points = []
    for workers, rows in itertools.product(grid.workers, grid.batch_rows):
        points.append(_measured(house, (revision, release), (rows, workers), grid))
        tell(points[-1])
    limit = min(slo.latency_ms for slo in house.model(model).slo.values())
    found = Tuning(revision.digest, model, machine(), grid.connections, limit, tuple(points))
    kept = attach(house.origin, revision.digest, TUNING, found.to_bytes(datetime.now(UTC).isoformat(timespec="seconds")))
    for region in house.model(model).regions:
        store = house.region_store(region)
        if store.has_blob(revision.digest):
            copy_referrers(revision.digest, house.origin, store)
    return found, kept


def _packaged(house: House, model: str, version: str | None) -> tuple[Revision, str]:
    """Return the newest packaged revision of a model, or of one of its versions, and the release that packaged it."""
    if house.model(model).image.container is not None:
        raise _of_its_own(model)
    for desire in reversed(desires(house.ledger, model)):
        found = release_revision(house, desire)
        if found is not None and version in (None, desire.version) and house.origin.has_blob(found.digest):
            return found, desire.release
    which = f"version {version} of model '{model}'" if version else f"model '{model}'"
    raise UnknownName(which, "was never packaged, or is no longer stored", "Release it first.")


def _of_its_own(model: str) -> NotSupported:
    return NotSupported(f"model '{model}'", "is served by a container of its own, which has none of the settings", "Tune it yourself.")


def _measured(house: House, which: tuple[Revision, str], place: tuple[int, int], grid: Grid) -> Point:
    revision, release = which
    rows, workers = place
    deployment = Deployment(revision.model, PLACE, revision.digest)
    settings = {"BATCH_ROWS": str(rows), "WORKERS": str(workers)}
    folder = house.home.work / f"tune-{revision.model}"

    def fetch(digest: str, to: Path) -> None:
        house.origin.fetch_tree(digest, to)
        # It may be declared no more
        if is_contained(to):
            raise _of_its_own(revision.model)

    with trial(deployment, fetch, folder, house.stack.stack_id, settings) as running:
        running.ready(house.settings.deploy_seconds)
        bodies = bodies_for(house, revision, release, inputs_of(running.url, revision.model))
        url = f"{running.url}/v2/models/{revision.model}/infer"
        return asyncio.run(_loaded(url, bodies, grid, place))


async def _loaded(url: str, bodies: Sequence[bytes], grid: Grid, place: tuple[int, int]) -> Point:
    """Keep a request under way on each connection, and count those that end after the first moments."""
    import aiohttp

    times: list[float] = []
    failed = 0
    began = time.monotonic()
    until = began + SETTLE + grid.seconds

    async def caller(session: aiohttp.ClientSession, first: int) -> None:
        nonlocal failed
        for number in itertools.count(first):
            sent = time.monotonic()
            if sent >= until:
                return
            try:
                async with session.post(url, data=bodies[number % len(bodies)]) as answer:
                    await answer.read()
                    good = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                good = False
            failed += not good
            if good and sent >= began + SETTLE:
                times.append((time.monotonic() - sent) * 1000)

    connector = aiohttp.TCPConnector(limit=grid.connections)
    patience = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(connector=connector, timeout=patience, headers=headers, trust_env=False) as session:
        await asyncio.gather(*(caller(session, first) for first in range(grid.connections)))
    ordered = sorted(Decimal(str(round(each, 3))) for each in times)
    per_second = (Decimal(len(times)) / Decimal(str(grid.seconds))).quantize(Decimal("0.1"))
    return Point(place[0], place[1], per_second, percentile(ordered, 50), percentile(ordered, 99), failed)
