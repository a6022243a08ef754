"""The code names its own effects, all in one place, and says which of them each way to end completes."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from flows import effects
from flows.effects import Course, Ending, effects_of, intended_only
from flows.journal import POINTS, CrashPoint
from proof.cases import COURSES, OWN, boundaries

ROOT = Path(__file__).parents[2]
COURSE = Course(("us", "eu"), "sha256:new", "sha256:old", (20, 50))
FULL = replace(COURSE, shadowed=True, baked=True, measured=True, asked=True, approved=True, optimised=True)
LOST = Course(("us", "eu"), "sha256:new", lost=("eu",))


def effect_calls() -> list[tuple[str, ast.expr]]:
    """Return where flows do effects, and what they give as the key."""
    trees = [(file.name, ast.parse(file.read_text())) for file in sorted((ROOT / "flows").glob("*.py"))]
    calls = [(name, node) for name, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        (f"{name}:{call.lineno}", call.args[0])
        for name, call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "effect"
    ]


def name_of(key: ast.expr) -> str | None:
    """Return which name of flows/effects.py makes a key, None for anything else."""
    made_by = key.func if isinstance(key, ast.Call) else key
    of_module = isinstance(made_by, ast.Attribute) and isinstance(made_by.value, ast.Name) and made_by.value.id == "effects"
    return made_by.attr if of_module else None  # type: ignore[union-attr]


def declared() -> set[str]:
    """Return every name of flows/effects.py that is an effect or makes one."""
    constants = {name for name, value in vars(effects).items() if name.isupper() and isinstance(value, str)}
    makers = {
        name for name, value in vars(effects).items() if inspect.isfunction(value) and value.__annotations__.get("return") == "Effect"
    }
    return constants | makers


def test_no_flow_names_an_effect_by_a_text_of_its_own() -> None:
    calls = effect_calls()
    assert len(calls) >= 12
    assert [(where, ast.unparse(key)) for where, key in calls if name_of(key) not in declared()] == []


def test_every_declared_effect_is_done_by_a_flow_and_belongs_to_a_way_to_end() -> None:
    assert {name_of(key) for _, key in effect_calls()} == declared()
    kinds = {str(key).partition(":")[0] for ending in Ending for key in effects_of(ending, FULL)}
    assert kinds == {
        "resolve",
        "gates",
        "optimise",
        "package",
        "service",
        "attest",
        "replicate",
        "deploy",
        "golden",
        "shadow",
        "canary",
        "weight",
        "bake",
        "stable",
        "point",
        "alias",
        "count",
        "retire",
    }


def test_keys_keep_the_text_that_stands_in_old_ledgers() -> None:
    assert effects_of(Ending.PROMOTED, COURSE) == (
        "resolve",
        "gates",
        "package",
        "attest",
        "replicate:us",
        "replicate:eu",
        "deploy:us",
        "deploy:eu",
        "canary",
        "weight:20",
        "weight:50",
        "weight:100",
        "stable",
        "point:us",
        "point:eu",
        "alias:champion",
        "count",
        "retire:us:sha256:old",
        "retire:eu:sha256:old",
    )


def test_a_shadow_comes_before_the_canary_and_a_bake_after_it() -> None:
    tried = ("shadow", "shadow:seen", "canary", "weight:20", "weight:50", "bake", "weight:100", "stable")
    assert tuple(key for key in effects_of(Ending.PROMOTED, FULL) if key in tried) == tried
    at_once = effects_of(Ending.PROMOTED, replace(COURSE, weights=(), baked=True, once=True))
    assert [key for key in at_once if key in tried] == ["bake", "weight:100", "stable"]


def test_an_approval_is_attested_before_the_first_traffic() -> None:
    tried = ("deploy:eu", "attest:approval", "shadow", "canary", "weight:100")
    assert tuple(key for key in effects_of(Ending.APPROVED, FULL) if key in tried) == tried
    assert [key for key in effects_of(Ending.FIRST, FULL) if key in tried] == ["deploy:eu", "attest:approval", "weight:100"]


def test_a_release_that_leaves_after_its_shadow_takes_the_copies_back() -> None:
    left = effects_of(Ending.SUPERSEDED, Course(("us",), "sha256:new", "sha256:old", shadowed=True, once=True))
    assert left[-5:] == ("shadow", "shadow:seen", "weight:0", "count", "retire:us:sha256:new")


@pytest.mark.parametrize("course", [COURSE, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("ending", Ending)
def test_no_ending_names_an_effect_twice(ending: Ending, course: Course) -> None:
    named = effects_of(ending, course)
    assert len(named) == len(set(named))


def test_a_release_that_leaves_before_its_canary_takes_no_traffic_back() -> None:
    early = effects_of(Ending.SUPERSEDED, Course(("us",), "sha256:new", "sha256:old"))
    assert early == ("resolve", "gates", "package", "attest", "replicate:us", "deploy:us", "retire:us:sha256:new")


def test_the_service_is_measured_before_a_region_has_it_and_every_region_answers_before_it_gets_traffic() -> None:
    asked = Course(("us", "eu"), "sha256:new", "sha256:old", (20,), measured=True, asked=True)
    shipped = ("replicate:us", "replicate:eu", "deploy:us", "deploy:eu", "golden:us", "golden:eu")
    assert effects_of(Ending.MEASURED, asked)[:12] == ("resolve", "gates", "package", "service", "attest", *shipped, "canary")
    assert effects_of(Ending.UNFIT, asked) == ("resolve", "gates", "package", "service")
    assert effects_of(Ending.UNEQUAL, asked) == ("resolve", "gates", "optimise")
    assert effects_of(Ending.UNFIT, replace(asked, optimised=True)) == ("resolve", "gates", "optimise", "package", "service")
    retired = ("retire:us:sha256:new", "retire:eu:sha256:new")
    assert effects_of(Ending.UNLIKE, asked) == ("resolve", "gates", "package", "service", "attest", *shipped, *retired)


def test_a_region_that_never_became_ready_has_an_intent_alone() -> None:
    assert intended_only(Ending.FAILED, LOST) == ("deploy:eu",)
    assert "deploy:eu" not in effects_of(Ending.FAILED, LOST)
    assert {"deploy:us", "retire:eu:sha256:new"} <= set(effects_of(Ending.FAILED, LOST))


@pytest.mark.parametrize("ending", OWN)
def test_what_the_kill_sweep_names_of_an_ending_is_what_that_ending_does(ending: Ending) -> None:
    assert set(OWN[ending]) <= set(effects_of(ending, COURSES[ending]))
    assert {case.effect for case in boundaries({ending: COURSES[ending]})} == set(OWN[ending])


@pytest.mark.parametrize("point", POINTS)
def test_every_effect_can_be_named_as_the_place_of_a_crash(point: str) -> None:
    for key in effects_of(Ending.ROLLED_BACK, COURSE):
        assert CrashPoint.parse(f"{point} {key}") == CrashPoint(point, key)
