"""The stack as it is now: every component asked at once, each for a second at most."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from control.stack.components import Component, Site, components
from fleet.errors import OperationFailed
from fleet.home import Home
from fleet.settings import Settings
from fleet.stack import read_credentials, read_stack

PROBE_SECONDS = 1.0
MOST_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One component as it answered; `reason` says why it is not healthy, `version` is None where it tells none."""

    name: str
    url: str
    healthy: bool
    version: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StackView:
    """The stack of a home, component by component."""

    stack_id: str
    home: Path
    components: tuple[ComponentView, ...]

    @property
    def healthy(self) -> bool:
        """Whether every component is."""
        return all(component.healthy for component in self.components)


def view(settings: Settings) -> StackView:
    """Return the state of the stack that the settings name; raises InputError where none was ever started."""
    home = Home.of(settings)
    return view_of(Site(home, settings, read_stack(home), read_credentials(home)))


def view_of(site: Site) -> StackView:
    """Return the state of a stack."""
    with Prober() as prober:
        return StackView(site.stack.stack_id, site.home.root, prober.ask(components(site)))


class Prober:
    """Asks components for their health and version, all at once, over connections that it keeps."""

    def __init__(self) -> None:
        self.client = httpx.Client(timeout=PROBE_SECONDS, trust_env=False, verify=False)  # noqa: S501 - loopback HTTP only; loading certificates costs more than all probes
        self.pool = ThreadPoolExecutor(MOST_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()
        self.client.close()

    def ask(self, wanted: Iterable[Component]) -> tuple[ComponentView, ...]:
        """Return how each component is."""
        return tuple(self.pool.map(self._ask, tuple(wanted)))

    def _ask(self, component: Component) -> ComponentView:
        try:
            answer = self.client.get(component.health)
            if not answer.is_success:
                return _ill(component, f"answers {answer.status_code}")
            version = self._version(component, component.version_url) if component.version_url else None
        except httpx.HTTPError as problem:
            return _ill(component, f"does not answer ({type(problem).__name__})")
        except OperationFailed as problem:
            return _ill(component, problem.reason)
        return ComponentView(component.name, component.url, healthy=True, version=version)

    def _version(self, component: Component, url: str) -> str:
        answer = self.client.get(url)
        if not answer.is_success:
            raise OperationFailed(component.name, f"answers {answer.status_code} when asked for its version")
        try:
            return component.version(answer)
        except (ValueError, LookupError, TypeError) as problem:
            raise OperationFailed(component.name, f"its version answer is not what it should be: {answer.text[:80]}") from problem


def _ill(component: Component, reason: str) -> ComponentView:
    return ComponentView(component.name, component.url, healthy=False, reason=reason)
