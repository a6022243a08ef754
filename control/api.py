"""Convoy's HTTP API: the webhook of MLflow, releases, reports, and health. Started as `python -m control.api`."""

from __future__ import annotations

import hmac
import time
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from control.doors import Answer, request_release, request_rollback, woken
from control.reports import reports_router
from control.views import CommandedView, ReleaseView, release_view, release_views
from control.webhooks import read_bounded, read_delivery
from fleet.about import VERSION
from fleet.commands import Command
from fleet.errors import Busy, ConvoyError, Refused, UnknownName, Unreachable
from flows.desires import CANDIDATE, model_stream
from flows.house import House
from flows.operating import Wish, operate
from flows.rollback_request import observe
from registry.ledger import NewEvent

ACTOR = "control API"
bearer = HTTPBearer(auto_error=False, description="The api_token of the stack's credentials file; for /commands an operator's.")


class Health(BaseModel):
    """The API's own state."""

    status: str
    version: str


class Received(BaseModel):
    """What became of a webhook: the release it opened, if any."""

    release: str | None
    says: str


class ReleaseRequest(BaseModel):
    """A version that is wanted; `again` tries one that has ended before."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(pattern=r"^[0-9]+$")]
    again: bool = False


class Accepted(ReleaseView):
    """The release that answers a wish; `says` is what happens next, or why nothing does yet."""

    says: str


class CommandRequest(BaseModel):
    """A command to a release under way; `id` makes it one command however often it is sent."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    command: Command
    reason: str
    seconds: int | None = None
    release: str | None = None
    digest: str | None = None
    id: str | None = None


class RollbackRequest(BaseModel):
    """A model that shall go back; without a version, to the one that was stable before."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str | None, Field(pattern=r"^[0-9]+$")] = None


def make_app(installed: House) -> FastAPI:
    """Return the application over one installation."""
    app = FastAPI(title="Convoy", version=VERSION, description="Releases of models to every region that serves them.")

    def operator(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if sent is None or not hmac.compare_digest(sent.credentials.encode(), installed.credentials.api_token.encode()):
            remedy = f"Send the api_token of {installed.home.credentials_file}."
            raise Refused("this call", "the bearer token is missing or wrong", remedy)

    @app.exception_handler(ConvoyError)
    def tell(_: Request, problem: ConvoyError) -> JSONResponse:
        body = {"error": type(problem).__name__, "subject": problem.subject, "reason": problem.reason, "remedy": problem.remedy}
        return JSONResponse(body, status_code=problem.http_status)

    @app.get("/healthz")
    def healthz() -> Health:
        """Say that the API answers and its ledger can be read."""
        installed.ledger.events(limit=1)
        return Health(status="ok", version=VERSION)

    @app.post("/webhooks/mlflow", status_code=202)
    async def mlflow(request: Request) -> Received:
        """Take MLflow's word that an alias was set: signed by our secret, fresh, and not seen before."""
        body = await read_bounded(request.stream())
        headers = {name.lower(): value for name, value in request.headers.items()}
        return await run_in_threadpool(lambda: receive(as_declared_now(installed), headers, body))

    @app.get("/releases", dependencies=[Depends(operator)])
    def list_releases(model: str | None = None) -> list[ReleaseView]:
        """List releases, oldest first, of one model or all."""
        house = as_declared_now(installed)
        if model is not None:
            house.model(model)
        return [view for name in ([model] if model is not None else house.fleet.models) for view in release_views(house.ledger, name)]

    @app.get("/releases/{release}", dependencies=[Depends(operator)])
    def one_release(release: str) -> ReleaseView:
        """Show one release."""
        house = as_declared_now(installed)
        found = [view for model in house.fleet.models for view in release_views(house.ledger, model) if view.release == release]
        if not found:
            raise UnknownName(f"release '{release}'", "there is none by that name", "List them with GET /releases.")
        return found[0]

    @app.post("/releases", status_code=202, dependencies=[Depends(operator)])
    def start_release(wish: ReleaseRequest) -> Accepted:
        """Release a version, as `convoy release` does."""
        house = as_declared_now(installed)
        return _accepted(house, request_release(house, wish.model, wish.version, wish.again, ACTOR))

    @app.post("/rollbacks", status_code=202, dependencies=[Depends(operator)])
    def start_rollback(wish: RollbackRequest) -> Accepted:
        """Go back to an earlier stable version, as `convoy rollback` does."""
        house = as_declared_now(installed)
        return _accepted(house, request_rollback(house, wish.model, wish.version, ACTOR))

    @app.post("/commands", status_code=202)
    def command(wish: CommandRequest, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> CommandedView:
        """Command a release under way, as `convoy operate` does; the bearer token is an operator's, for it says who."""
        wanted = Wish(**wish.model_dump() | {"command": wish.command.value})
        return CommandedView.of(operate(as_declared_now(installed), wanted, sent.credentials if sent else "", ACTOR))

    app.include_router(reports_router(installed.home.reports))
    return app


def as_declared_now(installed: House) -> House:
    """Return the installation with the fleet as the file declares it now; connections that are open are kept."""
    house = House(installed.settings, installed.home)
    # A cached property lives in its instance's dictionary.
    vars(house).update(ledger=installed.ledger, models=installed.models)
    return house


def receive(house: House, headers: dict[str, str], body: bytes) -> Received:
    """Act on one webhook: look where the alias is now, open the desire that follows from it, and wake the flow.

    A delivery only wakes us up: it may be late, so what it says of the version is recorded and not believed. Raises
    Unreachable while MLflow cannot be asked, and MLflow delivers again; LedgerBroken before anything is done.
    """
    delivery = read_delivery(headers, body, house.credentials.webhook_secret, time.time())
    alias = delivery.message.data
    if (delivery.message.entity, delivery.message.action) != ("model_version_alias", "created") or alias.alias != CANDIDATE:
        return Received(release=None, says="not the alias candidate: nothing to do")
    house.model(alias.name)
    house.ledger.verify()
    stream = f"webhook/{delivery.id}"
    if house.ledger.stream(stream):
        raise Refused("webhook", f"delivery {delivery.id} was received before", "Set the alias again to release again.")
    try:
        opened = observe(house, alias.name, "MLflow webhook")
    except Busy as problem:
        # MLflow tries again after a 503, and gives up after a 409.
        raise Unreachable(problem.subject, problem.reason, problem.remedy) from problem
    try:
        house.ledger.append(NewEvent(stream, "webhook.received", {"model": alias.name, "version": alias.version}, ACTOR), expected=0)
    except Busy:
        return Received(release=None, says="the same delivery came twice at once")
    if opened is None:
        return Received(release=None, says=f"the candidate of {alias.name} has not moved since it was last seen")
    return Received(release=opened.release, says=woken(house, opened).says)


def _accepted(house: House, answer: Answer) -> Accepted:
    desire = answer.desire
    events = house.ledger.stream(model_stream(desire.model))
    requested = next(event.at for event in events if event.payload.get("release") == desire.release)
    return Accepted(**release_view(house.ledger, desire, requested).model_dump(), says=answer.says)


def main() -> None:
    """Serve on the stack's own loopback port."""
    import uvicorn

    house = House.open()
    port = house.stack.port_base
    uvicorn.run(make_app(house), host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
