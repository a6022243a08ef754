"""`convoy plan`: what reconcile would do now, for people to read first; and having it done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from rich.markup import escape

from control.printing import out, print_json, print_table, progress
from control.stack.components import Site
from control.stack.prefect_runs import run_now
from fleet.canonical import short
from fleet.errors import ExitCode, OperationFailed
from flows.adopting import adopt
from flows.house import House
from flows.left_behind import left_behind
from flows.observing import observe_models
from flows.plan import plan_model
from flows.plan_stored import kept
from flows.plan_values import Doubt, Left, Observations, Of, Plan, Verb, Wanted, joined
from flows.wanting import wanted_of_all

COLUMNS = ("what", "model", "where", "to", "why")
COLOURS = {Verb.RELEASE: "cyan", Verb.RETIRE: "red", Verb.ROUTE: "yellow"}
POLL_SECONDS = 1.0
ACTOR = "convoy command"


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, when what it was made from was seen, whether that was looked up and not looked at, and what is left behind."""

    plan: Plan
    at: datetime
    stored: bool
    left: tuple[Left, ...] = ()

    @property
    def code(self) -> ExitCode:
        """PENDING where there is something to do, FAILED where nobody knows whether there is."""
        if self.plan.actions:
            return ExitCode.PENDING
        return ExitCode.FAILED if self.plan.doubts else ExitCode.DONE


def show_plan(model: str | None, stored: bool, as_json: bool) -> ExitCode:
    """Print what is to be done about one model or all, and return whether that is anything; changes nothing."""
    found = planned(House.open(), model, stored)
    show(found, as_json)
    return found.code


def apply_plan(model: str | None, seconds: float, as_json: bool) -> ExitCode:
    """Print the plan, start reconcile, and follow it until a look finds nothing to do any more.

    A reconcile that fails has started all the same whatever it could: what keeps one model keeps no other. Raises
    OperationFailed that says model by model what is still to do after `seconds`.
    """
    house = House.open()
    found = planned(house, model, stored=False)
    if not found.plan.actions:
        show(found, as_json)
        return found.code
    if not as_json:
        show(found, as_json)
    deadline = time.monotonic() + seconds
    failed = _reconciled(house, seconds)
    told = len(found.plan.actions)
    while found.plan.actions:
        if time.monotonic() > deadline:
            left = "; ".join(f"{each.model}, {each}" for each in found.plan.actions)
            raise OperationFailed(
                "the plan", f"is not done after {seconds:g} seconds: {left}{failed}", "Reconcile goes on with it by itself."
            )
        time.sleep(POLL_SECONDS)
        found = planned(house, model, stored=False)
        if len(found.plan.actions) != told:
            told = len(found.plan.actions)
            progress.print(f"{told} to do", markup=False)
    show(found, as_json)
    return found.code


def _reconciled(house: House, seconds: float) -> str:
    """Have reconcile run once; returns what to add to a plan that is not done where it failed, and says it now."""
    try:
        run_now(Site(house.home, house.settings, house.stack, house.credentials), "reconcile", {}, seconds)
    except OperationFailed as problem:
        progress.print(f"reconcile failed, and goes on with what it can: {problem}", markup=False)
        return f" ({problem.subject} {problem.reason})"
    return ""


def adopt_revision(model: str, region: str, digest: str | None, reason: str, as_json: bool) -> None:
    """Let what runs by hand go on running, and say until when; raises InputError and Refused where nothing was done."""
    told = adopt(House.open(), model, region, digest, reason, ACTOR).payload
    if as_json:
        print_json({"model": model, **told})
        return
    what = f"{short(str(told['digest']))} (version {told['version']})"
    out.print(f"{model} in {region}: {what} goes on running, without requests, until the next promotion.", markup=False)


def planned(house: House, model: str | None, stored: bool) -> Planned:
    """Return the plan for one model or all, from a look at them now, or from what reconcile saw last."""
    if model is not None:
        house.model(model)
    wanted = wanted_of_all(house, (model,) if model is not None else house.fleet.models)
    seen = kept(house.home) if stored else observe_models(house, wanted)
    left = (seen.left if stored else left_behind(house)) if model is None else ()
    return Planned(plan_of(wanted, seen), seen.at, stored, left)


def plan_of(wanted: dict[str, Wanted], seen: Observations) -> Plan:
    """Return the plan for models; one that was declared since the last look is not known."""
    looked_at = {found.model: found for found in seen.models}
    plans = (plan_model(each, looked_at[model]) for model, each in wanted.items() if model in looked_at)
    why = "it was not looked at yet"
    return joined((*plans, Plan(doubts=tuple(Doubt(Of.REGION, model, "everywhere", why) for model in wanted if model not in looked_at))))


def show(found: Planned, as_json: bool) -> None:
    """Print a plan for people or machines."""
    plan = found.plan
    if as_json:
        forbidden = plan.doubts_of(Of.FORBIDDEN)
        unknown = [doubt for doubt in plan.doubts if doubt not in forbidden]
        told = {"at": found.at.isoformat(), "stored": found.stored, "actions": plan.actions, "left": found.left}
        print_json(told | {"unknown": unknown, "forbidden": forbidden})
        return
    if plan.actions:
        rows = [
            (_coloured(each.verb), *map(escape, (each.model, each.where, short(each.what) if ":" in each.what else each.what, each.why)))
            for each in plan.actions
        ]
        print_table(escape(f"Plan, as seen {found.at:%Y-%m-%d %H:%M:%S} UTC"), COLUMNS, rows)
    for doubt in plan.doubts:
        label = "not allowed" if doubt.of is Of.FORBIDDEN else "not known"
        out.print(f"[yellow]{label}[/] {escape(f'{doubt.model}, {doubt}')}")
    for left in found.left:
        out.print(f"[yellow]left behind[/] {escape(f'{left}. {left.remedy}')}")
    if not plan.actions and not plan.doubts:
        out.print(f"Nothing to do, as seen {found.at:%Y-%m-%d %H:%M:%S} UTC.", markup=False)


def _coloured(verb: Verb) -> str:
    colour = COLOURS.get(verb)
    return f"[{colour}]{verb.value}[/]" if colour else verb.value
