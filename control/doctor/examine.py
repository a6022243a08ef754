"""The examination: all checks at once, each with a limit; one that raises is a finding as well."""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from control.doctor.case import Case, Need, open_case
from control.doctor.findings import Finding, from_error, problem, warning

LIMIT_SECONDS = 8.0
S, F, T, L, R = Need.SETTINGS, Need.FLEET, Need.STACK, Need.LEDGER, Need.RUNNING


Look = Callable[[Case], Iterable[Finding]]


def lazily(place: str) -> Look:
    """Return a look that is imported when it is taken, so that a library that is missing is a finding of its check alone."""

    def look(case: Case) -> Iterable[Finding]:
        found: Iterable[Finding] = resolved(place)(case)
        return found

    look.__name__ = place
    return look


def resolved(place: str) -> Look:
    """Return the function `name` of this package's `module`, written as `module.name`."""
    module, _, name = place.partition(".")
    found: Look = getattr(importlib.import_module(f"control.doctor.{module}"), name)
    return found


@dataclass(frozen=True, slots=True)
class Check:
    """One look at one thing, and what it cannot do without."""

    look: Look
    needs: tuple[Need, ...] = ()


CHECKS: Mapping[str, Check] = {
    "python": Check(lazily("installed.python")),
    "libraries": Check(lazily("installed.libraries")),
    "programs": Check(lazily("installed.programs")),
    "envoy": Check(lazily("installed.envoy")),
    "sandbox": Check(lazily("installed.sandbox")),
    "place": Check(lazily("configured.place"), (S,)),
    "room": Check(lazily("configured.room"), (S,)),
    "permissions": Check(lazily("configured.permissions"), (S,)),
    "others": Check(lazily("configured.others"), (T,)),
    "leftovers": Check(lazily("kept.leftovers"), (S,)),
    "orphans": Check(lazily("running.orphans"), (T,)),
    "ports": Check(lazily("running.strangers"), (T,)),
    "components": Check(lazily("running.stack_components"), (R,)),
    "telemetry": Check(lazily("running.telemetry"), (R,)),
    "regions": Check(lazily("running.regions"), (R, F, L)),
    "work pool": Check(lazily("reachable.work_pool"), (R,)),
    "deployments": Check(lazily("reachable.deployments"), (R,)),
    "triggers": Check(lazily("reachable.triggers"), (R,)),
    "schedules": Check(lazily("reachable.schedules"), (R,)),
    "webhook": Check(lazily("reachable.webhook"), (R,)),
    "edges": Check(lazily("routed.edges"), (R, F, L)),
    "clock": Check(lazily("kept.clock"), (F, L)),
    "stores": Check(lazily("kept.stores"), (F,)),
    "stored": Check(lazily("kept.stored"), (F, L)),
    "scrubbed": Check(lazily("scrubbed.scrubbed"), (F, L)),
    "copies": Check(lazily("kept.copies"), (F, L)),
    "scratch": Check(lazily("kept.scratch"), (L,)),
    "releases": Check(lazily("releases.unfinished_releases"), (F, L)),
    "drills": Check(lazily("releases.drills"), (L,)),
    "golden answers": Check(lazily("golden.golden_answers"), (F, L)),
    "aliases": Check(lazily("releases.aliases"), (R, F, L)),
}
"""Every check by its name, in the order in which findings of one level are told."""


def examine(checks: Mapping[str, Check] = CHECKS, limit: float = LIMIT_SECONDS) -> tuple[Case, tuple[Finding, ...]]:
    """Look at everything and return the case with all findings; raises nothing because something is broken.

    What lacks its needs is not looked at, and that is told once per reason. A check that gives no answer within `limit`
    seconds is a problem of its own.
    """
    case, opened = open_case()
    able = {name: check for name, check in checks.items() if case.lacks(check.needs) is None}
    answers = _all_at_once(case, able, limit)
    told = [finding for name in able for finding in answers[name]]
    return case, (*opened, *told, *_not_looked_at(case, checks))


def look(case: Case, name: str, check: Check) -> tuple[Finding, ...]:
    """Return what one check finds; whatever it raises is told behind what it had found by then."""
    found: list[Finding] = []
    try:
        found.extend(check.look(case))
    except Exception as error:  # noqa: BLE001 - whatever is broken is what the doctor is here to tell
        found.append(from_error(name, error))
    return tuple(finding.model_copy(update={"check": name}) for finding in found)


def _all_at_once(case: Case, checks: Mapping[str, Check], limit: float) -> dict[str, tuple[Finding, ...]]:
    done: queue.SimpleQueue[tuple[str, tuple[Finding, ...]]] = queue.SimpleQueue()

    def answer(name: str, check: Check) -> None:
        done.put((name, look(case, name, check)))

    for name, check in checks.items():
        # Daemons: one that hangs must not keep the command from ending
        threading.Thread(target=answer, args=(name, check), name=f"check-{name}", daemon=True).start()
    late = problem("", f"gave no answer within {limit:g} s: something that it asked hangs", "convoy status")
    answers: dict[str, tuple[Finding, ...]] = {name: (late.model_copy(update={"subject": name, "check": name}),) for name in checks}
    deadline = time.monotonic() + limit
    for _ in checks:
        try:
            name, found = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        answers[name] = found
    return answers


def _not_looked_at(case: Case, checks: Mapping[str, Check]) -> Iterable[Finding]:
    unable: dict[str, list[str]] = {}
    for name, check in checks.items():
        lacking = case.lacks(check.needs)
        if lacking is not None:
            unable.setdefault(case.missing[lacking], []).append(name)
    for why, names in unable.items():
        yield warning("not looked at", f"{', '.join(names)}: {why}").model_copy(update={"check": "needs"})
