"""A model behind the scoring service's own code, asked in this process as the network would ask it.

The service is given as a folder: the very files that are packaged with the model. What it answers here is what callers get:
its routes, its reading of requests by the signature, its errors and their status.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

PACKAGE = "convoy_service"
NAME = "candidate"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's status and, with a 200, its output tensors."""

    status: int
    outputs: tuple[dict[str, Any], ...] = ()

    @property
    def finite(self) -> bool:
        """Whether every number is one: what JSON cannot carry (NaN, infinite) arrives as null."""
        return all(None not in output["data"] for output in self.outputs if output["datatype"] != "BYTES")


class Served:
    """The service with one loaded model; loading runs the model's own code."""

    def __init__(self, service: Path, model: Path, scratch: Path) -> None:
        _import(service)
        module = {name: importlib.import_module(f"{PACKAGE}.{name}") for name in ("app", "readiness", "scorer", "settings", "worker")}
        label = module["scorer"].Label(NAME, "0")
        scorer = module["scorer"].load(model, label, NAME)
        settings = module["settings"].ServiceSettings(root=scratch, model=NAME)
        readiness = module["readiness"].Readiness("none", scorer=scorer)
        self.signature = scorer.signature
        self._loop = asyncio.new_event_loop()
        self._app = module["app"].App(settings, readiness, module["worker"].Worker(1))

    def rows(self, rows: Sequence[Row]) -> Reply:
        """Ask for some rows in one request."""
        return self.body(orjson.dumps(self.request(rows)))

    def request(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the request that asks for some rows."""
        names = rows[0].keys()
        fields = self.signature.by_name
        return {
            "inputs": [
                {"name": name, "datatype": fields[name].datatype, "shape": [len(rows)], "data": [row[name] for row in rows]}
                for name in names
            ]
        }

    def body(self, body: bytes) -> Reply:
        """Ask with the bytes of a request's body."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": f"/v2/models/{NAME}/infer", "headers": headers}
        try:
            self._loop.run_until_complete(self._app(scope, receive, send))
        except Exception:  # noqa: BLE001 - the service has answered 500 and raises what no caller hears of
            return Reply(500)
        status = int(sent[0]["status"])
        return Reply(status, tuple(orjson.loads(sent[1]["body"])["outputs"]) if status == 200 else ())


def _import(service: Path) -> None:
    """Import the service's package from its folder, under the name that it has in a Bento."""
    spec = importlib.util.spec_from_file_location(PACKAGE, service / "__init__.py", submodule_search_locations=[str(service)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{service} is no package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
