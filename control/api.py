"""Convoy's HTTP API: the webhook of MLflow, releases, and health. Started as `python -m control.api`."""

from __future__ import annotations

import hmac
import time
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from control.doors import announce, request_release, request_rollback
from control.views import ReleaseView, release_view, release_views
from control.webhooks import read_delivery
from fleet.errors import Busy, ConvoyError, Refused, UnknownName, Unreachable
from flows.desires import CANDIDATE, Desire, observe_candidate
from flows.house import House
from registry.ledger import NewEvent

VERSION = "0.1.0"
ACTOR = "control API"
bearer = HTTPBearer(auto_error=False, description="The api_token of the stack's credentials file.")


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


class RollbackRequest(BaseModel):
    """A model that shall go back; without a version, to the one that was stable before."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str | None, Field(pattern=r"^[0-9]+$")] = None


def make_app(house: House) -> FastAPI:
    """Return the application over one installation."""
    app = FastAPI(title="Convoy", version=VERSION, description="Releases of models to every region that serves them.")

    def operator(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if sent is None or not hmac.compare_digest(sent.credentials.encode(), house.credentials.api_token.encode()):
            raise Refused("this call", "the bearer token is missing or wrong", f"Send the api_token of {house.home.credentials_file}.")

    @app.exception_handler(ConvoyError)
    def tell(_: Request, problem: ConvoyError) -> JSONResponse:
        body = {"error": type(problem).__name__, "subject": problem.subject, "reason": problem.reason, "remedy": problem.remedy}
        return JSONResponse(body, status_code=problem.http_status)

    @app.get("/healthz")
    def healthz() -> Health:
        """Say that the API answers and its ledger can be read."""
        house.ledger.events(limit=1)
        return Health(status="ok", version=VERSION)

    @app.post("/webhooks/mlflow", status_code=202)
    async def mlflow(request: Request) -> Received:
        """Take MLflow's word that an alias was set: signed by our secret, fresh, and not seen before."""
        body = await request.body()
        return receive(house, {name.lower(): value for name, value in request.headers.items()}, body)

    @app.get("/releases", dependencies=[Depends(operator)])
    def list_releases(model: str | None = None) -> list[ReleaseView]:
        """List releases, oldest first, of one model or all."""
        models = [model] if model else list(house.fleet.models)
        return [view for name in models for view in release_views(house.ledger, name) if house.model(name)]

    @app.get("/releases/{release}", dependencies=[Depends(operator)])
    def one_release(release: str) -> ReleaseView:
        """Show one release."""
        found = [view for model in house.fleet.models for view in release_views(house.ledger, model) if view.release == release]
        if not found:
            raise UnknownName(f"release '{release}'", "there is none by that name", "List them with GET /releases.")
        return found[0]

    @app.post("/releases", status_code=202, dependencies=[Depends(operator)])
    def start_release(wish: ReleaseRequest) -> ReleaseView:
        """Release a version, as `convoy release` does."""
        return _view(house, request_release(house, wish.model, wish.version, wish.again, ACTOR))

    @app.post("/rollbacks", status_code=202, dependencies=[Depends(operator)])
    def start_rollback(wish: RollbackRequest) -> ReleaseView:
        """Go back to an earlier stable version, as `convoy rollback` does."""
        return _view(house, request_rollback(house, wish.model, wish.version, ACTOR))

    return app


def receive(house: House, headers: dict[str, str], body: bytes) -> Received:
    """Act on one webhook: observe the alias, open the desire that follows from it, and wake the flow."""
    delivery = read_delivery(headers, body, house.credentials.webhook_secret, time.time())
    alias = delivery.message.data
    if (delivery.message.entity, delivery.message.action) != ("model_version_alias", "created") or alias.alias != CANDIDATE:
        return Received(release=None, says="not the alias candidate: nothing to do")
    house.model(alias.name)
    stream = f"webhook/{delivery.id}"
    if house.ledger.stream(stream):
        raise Refused("webhook", f"delivery {delivery.id} was received before", "Set the alias again to release again.")
    opened = observe_candidate(house.ledger, alias.name, alias.version, "MLflow webhook")
    try:
        house.ledger.append(NewEvent(stream, "webhook.received", {"model": alias.name, "version": alias.version}, ACTOR), expected=0)
    except Busy:
        return Received(release=None, says="the same delivery came twice at once")
    if opened is None:
        return Received(release=None, says=f"candidate of {alias.name} already was version {alias.version}")
    return Received(release=opened.release, says=_announced(house, opened))


def _announced(house: House, desire: Desire) -> str:
    try:
        announce(house, desire.model, desire.version)
    except Unreachable as problem:
        return f"recorded; Prefect is away ({problem.reason}), reconcile starts the release within a minute"
    return "the release flow is on its way"


def _view(house: House, desire: Desire) -> ReleaseView:
    events = house.ledger.stream(f"model/{desire.model}")
    requested = next(event.at for event in events if event.payload.get("release") == desire.release)
    return release_view(house.ledger, desire, requested)


def main() -> None:
    """Serve on the stack's own loopback port."""
    import uvicorn

    house = House.open()
    port = house.stack.port_base
    uvicorn.run(make_app(house), host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
