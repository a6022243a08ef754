"""Runs the tests of a bundle: every rule whose name begins with `test_`, and which lines of the rules they reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policies.rego.bundle import TEST, Bundle
from policies.rego.decision import canonical, look_through
from policies.rego.engine import EngineError, add_data, ask_rule, set_input, told

if TYPE_CHECKING:
    from regorus import Engine


@dataclass(frozen=True, slots=True)
class TestRun:
    """One test: `problem` is empty where it held."""

    __test__ = False

    file: str
    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many lines of a file of rules the tests reached, out of those that can be, and which ones they did not."""

    file: str
    reached: int
    of: int
    missed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TestReport:
    """What a bundle's tests came to."""

    __test__ = False

    policy_digest: str
    tests: tuple[TestRun, ...]
    coverage: tuple[Coverage, ...]

    @property
    def held(self) -> bool:
        """Whether every test held; no test at all holds nothing."""
        return bool(self.tests) and not any(test.problem for test in self.tests)

    @property
    def failed(self) -> tuple[TestRun, ...]:
        """The tests that did not hold."""
        return tuple(test for test in self.tests if test.problem)


def run_tests(bundle: Bundle, data: Mapping[str, Any]) -> TestReport:
    """Run every test of a bundle; each stands alone, and one that is undefined, false or fails did not hold.

    Raises InputError for a bundle that does not parse, or that calls what is forbidden.
    """
    engine, syntax = look_through(bundle)
    try:
        add_data(engine, canonical(data, "policy data").decode())
        set_input(engine, "{}")
        engine.set_enable_coverage(True)
        tests = tuple(TestRun(path, f"data.{package}.{name}", _problem(engine, package, name)) for path, package, name in syntax.tests())
        coverage = _coverage(engine)
    except EngineError as problem:
        return TestReport(bundle.rules.digest, (TestRun("", "the bundle", str(problem)),), ())
    return TestReport(bundle.rules.digest, tests, coverage)


def _problem(engine: Engine, package: str, name: str) -> str:
    try:
        answer = ask_rule(engine, f"data.{package}.{name}")
    except EngineError as problem:
        return str(problem)
    return "" if answer is True else "it did not hold"


def _coverage(engine: Engine) -> tuple[Coverage, ...]:
    try:
        found = json.loads(engine.get_coverage_report_as_json())
    except BaseException as problem:
        raise told(problem) from problem
    return tuple(
        Coverage(each["path"], len(each["covered"]), len(each["covered"]) + len(each["not_covered"]), tuple(sorted(each["not_covered"])))
        for each in sorted(found["files"], key=lambda each: str(each["path"]))
        if not each["path"].endswith(TEST)
    )
