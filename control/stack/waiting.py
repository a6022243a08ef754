"""Waits until components are healthy, and says clearly which one does not get so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clouds.local.files import tail
from clouds.local.supervisor import ProcessState, Supervisor
from control.stack.components import Component, Site, log_of
from control.stack.view import ComponentView, Prober
from fleet.errors import OperationFailed

POLL_SECONDS = 0.2
TAIL_BYTES = 1500


class Waiting:
    """The wait for a stack's components: `seconds` from now for all of them; `report` is told of each that is well."""

    def __init__(self, site: Site, seconds: float, report: Callable[[str], None]) -> None:
        self.site = site
        self.seconds = seconds
        self.report = report
        self.began = time.monotonic()
        self.given_up = threading.Event()
        self.failure: OperationFailed | None = None

    def healthy(self, *wanted: Component) -> None:
        """Return once every one of these answers that it is well.

        Raises OperationFailed with the end of the log of one that gave up or was not well in time; all other waits
        then end the same way.
        """
        left = {component.name: component for component in wanted}
        with Prober() as prober:
            while left:
                for found in prober.ask(left.values()):
                    if found.healthy:
                        del left[found.name]
                        self.report(f"{found.name}: healthy after {self.passed():.1f} s, {found.url}")
                    else:
                        self._check(found)
                if left:
                    self.given_up.wait(POLL_SECONDS)

    def passed(self) -> float:
        """Return the seconds since this wait began."""
        return time.monotonic() - self.began

    def _check(self, found: ComponentView) -> None:
        if self.given_up.is_set():
            raise self.failure or self._failure(found, "was still starting when another step failed")
        if Supervisor.of(self.site.home).state(found.name) is ProcessState.FATAL:
            raise self._failure(found, "ends again and again")
        if self.passed() > self.seconds:
            raise self._failure(found, f"not healthy within {self.seconds:.0f} s: {found.reason}")

    def _failure(self, found: ComponentView, why: str) -> OperationFailed:
        log = log_of(self.site.home, found.name)
        said = tail(log, TAIL_BYTES) or "(it logged nothing)"
        self.failure = OperationFailed(found.name, f"{why}; its log ends:\n{said}\n", f"Read {log}, then `convoy up` again.")
        self.given_up.set()
        return self.failure
