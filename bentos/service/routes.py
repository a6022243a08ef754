"""Every path that the service answers, in one table: who is asked there, and by which methods."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import pages, reference
from .azure import Azure
from .desk import Desk
from .doors import Door, Reply
from .errors import NotFound
from .invocations import Invocations
from .oip import Oip
from .settings import ServiceSettings
from .vertex import Vertex

READS, ASKS = ("GET", "HEAD"), ("POST",)
MOST_KNOWN = 64
"""Callers use few paths; those that are found first need not be looked for again."""


Page = Callable[[Desk, Mapping[str, str]], Reply]
"""What a path that only reads answers, told what the path names."""


@dataclass(frozen=True, slots=True)
class Route:
    """A path, `{model}` and `{version}` standing for any text, and what is there: a door or a page; `summary` is for people."""

    path: str
    protocol: str
    summary: str
    page: Page | None = None
    door: Door | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are allowed."""
        return READS if self.door is None else ASKS


OPEN_INFERENCE, MLFLOW, SAGEMAKER = "Open Inference Protocol v2", "MLflow", "SageMaker and MLflow"
VERTEX, KSERVE, AZURE = "Vertex AI", "Vertex AI and KServe v1", "Azure ML"
FIGURES, OWN = "Prometheus", "This document"
FIXED = (
    # those with a version first: a model's name may have slashes
    Route("/v2/models/{model}/versions/{version}/infer", OPEN_INFERENCE, "Ask this version of the model", door=Oip()),
    Route("/v2/models/{model}/versions/{version}/ready", OPEN_INFERENCE, "Whether this version answers", page=pages.model_ready),
    Route("/v2/models/{model}/versions/{version}", OPEN_INFERENCE, "The inputs and outputs of this version", page=pages.model),
    Route("/v2/models/{model}/infer", OPEN_INFERENCE, "Ask the model", door=Oip()),
    Route("/v2", OPEN_INFERENCE, "The server", page=pages.server),
    Route("/v2/health/live", OPEN_INFERENCE, "Whether the process listens", page=pages.live),
    Route("/v2/health/ready", OPEN_INFERENCE, "Whether the model answers", page=pages.ready),
    Route("/v2/models/{model}/ready", OPEN_INFERENCE, "Whether this model answers", page=pages.model_ready),
    Route("/v2/models/{model}", OPEN_INFERENCE, "The model's inputs and outputs", page=pages.model),
    Route("/invocations", SAGEMAKER, "Ask the model", door=Invocations()),
    Route("/endpoints/{model}/invocations", SAGEMAKER, "Ask the model, as InvokeEndpoint's clients do", door=Invocations()),
    Route("/ping", SAGEMAKER, "Whether the model answers", page=pages.ping),
    Route("/health", MLFLOW, "Whether the model answers", page=pages.ping),
    Route("/version", MLFLOW, "The version of MLflow", page=pages.mlflow_version),
    Route("/v1/models/{model}:predict", KSERVE, "Ask the model", door=Vertex()),
    Route("/v1/models/{model}", KSERVE, "Whether this model answers", page=pages.model_ready),
    Route("/score", AZURE, "Ask the model", door=Azure()),
    Route("/", AZURE, "Whether the model answers", page=pages.healthy),
)


def table(settings: ServiceSettings) -> tuple[Route, ...]:
    """Return the routes of a process; those that Vertex AI names go before others at the same path."""
    named = []
    if settings.predict_route is not None:
        named.append(Route(settings.predict_route, VERTEX, "Ask the model", door=Vertex()))
    if settings.health_route is not None:
        named.append(Route(settings.health_route, VERTEX, "Whether the model answers", page=pages.ping))
    everything: tuple[Route, ...] = ()
    described = (
        Route("/metrics", FIGURES, "The figures of all serving processes, for Prometheus", page=pages.metrics),
        Route("/openapi.json", OWN, "These paths, as OpenAPI 3.1", page=lambda desk, _: reference.openapi(desk, everything)),
        Route("/docs", OWN, "These paths, to be read", page=lambda desk, _: reference.docs(desk, everything)),
    )
    taken = {route.path for route in named}
    everything = (*named, *(route for route in (*FIXED, *described) if route.path not in taken))
    return everything


class Router:
    """Finds the route of a path."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._exact = {route.path: route for route in routes if not _is_template(route)}
        self._templates = [(_pattern(route.path), route) for route in routes if _is_template(route)]
        self._known: dict[str, tuple[Route, Mapping[str, str]]] = {}

    def find(self, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return a path's route and what the path names; raises NotFound. A slash at the end changes nothing for pages."""
        known = self._known.get(path)
        if known is not None:
            return known
        for each in (path, path.rstrip("/")) if path.endswith("/") else (path,):
            found = self._found(each)
            if found is not None and (each == path or found[0].door is None):
                if len(self._known) < MOST_KNOWN:
                    self._known[path] = found
                return found
        raise NotFound(f"no such path: {path[:200]}")

    def _found(self, path: str) -> tuple[Route, Mapping[str, str]] | None:
        if path in self._exact:
            return self._exact[path], {}
        for pattern, route in self._templates:
            if found := pattern.fullmatch(path):
                return route, found.groupdict()
        return None


def _is_template(route: Route) -> bool:
    # a route that Vertex AI names may have braces of its own
    return route in FIXED and "{" in route.path


def _pattern(template: str) -> re.Pattern[str]:
    """Return what matches a template's paths; a model's name may have slashes, a version has none."""
    escaped = re.escape(template)
    return re.compile(escaped.replace(r"\{model\}", "(?P<model>.+)").replace(r"\{version\}", "(?P<version>[^/]+)"), re.DOTALL)
