"""What reconcile saw last, kept under the home, so that a plan can be shown without asking anybody."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from clouds.serving import State
from fleet.errors import InputError, OperationFailed
from fleet.home import Home
from flows.plan_values import Kept, Left, Observations, Place, Routed, Running, SeenEdges, SeenModel, SeenRegion, Unseen

T = TypeVar("T")
FORM = 1


def keep(home: Home, seen: Observations) -> None:
    """Write what was seen in the place of what was seen before; a reader meets the one or the other."""
    import orjson

    home.root.mkdir(parents=True, exist_ok=True)
    # Two may write at once: `convoy plan --apply` starts reconcile beside the scheduled one
    aside = home.observed_file.with_suffix(f".{uuid.uuid4().hex}.new")
    try:
        aside.write_bytes(orjson.dumps({"form": FORM, "at": seen.at.isoformat(), "models": seen.models, "left": seen.left}))
        aside.chmod(0o600)
        aside.replace(home.observed_file)
    finally:
        aside.unlink(missing_ok=True)


def kept(home: Home) -> Observations:
    """Return what was seen last; raises InputError where nothing was, OperationFailed where it cannot be read."""
    import orjson

    file = home.observed_file
    try:
        told = orjson.loads(file.read_bytes())
        if told["form"] != FORM:
            raise ValueError(f"has form {told['form']}, and this Convoy reads form {FORM}")
        left = tuple(Left(**each) for each in told.get("left", ()))
        return Observations(datetime.fromisoformat(told["at"]), tuple(map(_model, told["models"])), left)
    except FileNotFoundError as problem:
        raise InputError(
            str(file), "nothing was looked at yet", "Reconcile looks every minute; without --stored it is done now."
        ) from problem
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise OperationFailed(str(file), f"cannot be read ({problem})", "Reconcile writes it anew within a minute.") from problem


def _model(told: Any) -> SeenModel:
    regions = tuple(SeenRegion(each["region"], _or(_running, each["running"]), _or(_store, each["store"])) for each in told["regions"])
    edges = tuple(SeenEdges(tuple(each["names"]), _or(_routed, each["routed"])) for each in told["edges"])
    return SeenModel(told["model"], regions, edges, _or(_alias, told["champion"]), _or(_alias, told["candidate"]))


def _or(read: Callable[[Any], T], told: Any) -> T | Unseen:
    """Read what was seen, or why it was not."""
    return Unseen(told["why"], told["lasting"]) if type(told) is dict and "lasting" in told else read(told)


def _running(told: Any) -> tuple[Running, ...]:
    return tuple(Running(each["revision"], State(each["state"]), each["at"]) for each in told)


def _store(told: Any) -> Kept:
    return Kept(told["holds"], told["names"], told["epoch"])


def _routed(told: Any) -> Routed | None:
    if told is None:
        return None
    weights = tuple((digest, percent) for digest, percent in told["weights"])
    places = tuple(Place(each["revision"], each["region"], each["at"]) for each in told["places"])
    return Routed(weights, places, told["rules"], told["epoch"])


def _alias(told: Any) -> str | None:
    return None if told is None else str(told)
