from __future__ import annotations

import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fleet.errors import InputError
from policies.rego.asking import Guard, ask, ask_tests
from policies.rego.bundle import Bundle, read_bundle, shipped_bundle, shipped_data
from policies.rego.decision import Decision, Policy, decide, look_through
from policies.rego.testing import run_tests

HEAD = "package main\n\nimport rego.v1\n\n"
ALLOWS = HEAD + 'deny contains "it is bad" if input.bad\n'


def policy(text: str, package: str = "main", **data: Any) -> Policy:
    return Policy.of(Bundle((("own.rego", text),)), data, package)


def said(text: str, document: Any = None, **data: Any) -> Decision:
    return decide(policy(text, **data), {} if document is None else document)


def test_a_set_of_messages_refuses_and_an_empty_one_allows() -> None:
    refused = said(ALLOWS, {"bad": True})
    assert (refused.allowed, refused.reasons) == (False, ("it is bad",))
    assert said(ALLOWS, {"bad": False}).allowed


def test_rules_are_named_as_conftest_names_them_and_warnings_do_not_refuse() -> None:
    text = HEAD + 'deny_a contains "a" if true\nviolation contains {"msg": "b", "more": 1} if true\nwarn_c contains "c" if true\n'
    decision = said(text)
    assert (decision.reasons, decision.warnings) == (("a", "b"), ("c",))
    only_warns = said(HEAD + 'deny contains "x" if false\nwarn contains "c" if true\n')
    assert (only_warns.allowed, only_warns.warnings) == (True, ("c",))


FORBIDDEN = {
    "call": 'http.send({"method": "get", "url": "http://example.org"}).status_code == 200',
    "brackets": 'http["send"]({"method": "get"}).status_code == 200',
    "escapes": 'time["\\u006eow_ns"]() > 0',
    "raw string": "time[`now_ns`]() > 0",
    "output argument": "time.now_ns(now)\n\tnow > 0",
    "runtime": "opa.runtime().env.HOME",
    "lookup": 'net.lookup_ip_addr("example.org")',
    "network arithmetic": 'net.cidr_contains("10.0.0.0/8", "10.0.0.1")',
    "parser": 'rego.parse_module("a", "package a")',
    "metadata": "rego.metadata.chain()",
    "chance": 'rand.intn("a", 3) == 1',
    "uuid": 'uuid.rfc4122("a") != ""',
    "trace": 'trace("a")',
    "print": "print(input)",
    "unknown": "made.up(1)",
    "unknown here": 'crypto.sha256("a") != ""',
    "in a comprehension": "count([x | x := time.now_ns()]) == 1",
    "nested": "abs(floor(time.now_ns())) > 0",
    "negated": 'not http.send({"method": "get"})',
    "every": "every x in [1] { time.now_ns() > x }",
    "replaced by with": "abs(1) == 1 with abs as time.now_ns",
    "replaced itself": 'http.send({}) == 1 with http.send as {"a": 1}',
    "over lines": "time.now_ns(\n\t) > 0",
}


@pytest.mark.parametrize("body", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_reaches_beyond_input_and_data_is_refused_however_it_is_written(body: str) -> None:
    decision = said(HEAD + 'deny contains "x" if {\n\tinput.never\n\t' + body + "\n}\n")
    assert not decision.allowed
    assert "is forbidden" in decision.failure or "does not parse" in decision.failure


@pytest.mark.parametrize(
    "text",
    [
        "package main\nimport rego.v1\nimport data.http\ndeny contains 1 if http.send({})\n",
        "package main\nimport rego.v1\nimport data.other as time\ndeny contains 1 if time.now_ns()\n",
        HEAD + "count(x) := 0\ndeny contains 1 if count([1]) > 0\n",
        HEAD + "http.send(x) := 0\ndeny contains 1 if http.send(1) > 0\n",
        HEAD + "trace(x) := x\ndeny contains 1 if trace(1)\n",
    ],
    ids=["an import", "an import as", "a function's name", "a dotted function", "a function that is forbidden"],
)
def test_nothing_may_be_called_what_a_built_in_function_is_called(text: str) -> None:
    decision = said(text)
    assert not decision.allowed
    assert decision.failure


def test_a_comment_a_string_and_a_name_that_only_look_alike_are_allowed() -> None:
    text = HEAD + (
        '# http.send({}) and opa.runtime()\ntold := "http.send({})"\nhttp_send(x) := x\n'
        "deny contains `time.now_ns()` if {\n\tinput.http.send # net.lookup_ip_addr\n\thttp_send(input.time) == told\n}\n"
    )
    assert said(text, {"http": {"send": True}, "time": 1}).allowed
    refused = said(text, {"http": {"send": True}, "time": "http.send({})"})
    assert refused.reasons == ("time.now_ns()",)


def test_a_comment_hides_nothing() -> None:
    decision = said(HEAD + "# fine\ndeny contains 1 if { # fine\n\ttime.now_ns() > 0 # fine\n}\n")
    assert "own.rego, line 7: time.now_ns is forbidden: it reads the clock; hand the time in with the input" in decision.failure


def test_functions_of_the_bundle_may_be_called_from_anywhere_in_it() -> None:
    files = (
        ("lib.rego", "package lib.deep\n\nimport rego.v1\n\ntwice(x) := 2 * x\n"),
        ("main.rego", HEAD + "import data.lib.deep as d\n\nlocal(x) := d.twice(x)\n\n"
         'deny contains "six" if local(input.n) == 6\n\ndeny contains "also" if data.lib.deep.twice(input.n) == 8\n'),
    )  # fmt: skip
    made = Policy.of(Bundle(files), {})
    assert decide(made, {"n": 3}).reasons == ("six",)
    assert decide(made, {"n": 4}).reasons == ("also",)
    assert decide(made, {"n": 5}).allowed


BROKEN = {
    "does not parse": HEAD + "deny contains {",
    "of before v1": 'package main\ndeny[msg] { msg := "x" }\n',
    "another package": "package other\nimport rego.v1\ndeny contains 1 if false\n",
    "no rule": HEAD + "allow := true\n",
    "warnings only": HEAD + 'warn contains "x" if true\n',
    "no set": HEAD + "deny := false\n",
    "no set but a default": HEAD + "default deny := false\n",
    "a map": HEAD + "deny[x] := 1 if some x in input.none\n",
    "a function": HEAD + 'deny(x) := "a"\n',
    "a number for a message": HEAD + "deny contains 1 if true\n",
    "an object without a message": HEAD + 'deny contains {"message": "x"} if true\n',
    "an empty message": HEAD + 'deny contains " " if true\n',
    "an exception": HEAD + 'deny contains "x" if false\nexception contains ["deny"] if true\n',
    "recursion": HEAD + "a if b\nb if a\ndeny contains 1 if a\n",
    "unsafe": HEAD + "deny contains x if true\n",
    "division by zero": HEAD + 'deny contains "x" if 1 / input.zero > 1\n',
    "a wrong type": HEAD + 'deny contains "x" if startswith(input.zero, "a")\n',
    "a conflict": HEAD + 'f := 1\nf := 2\ndeny contains "x" if f == 3\n',
    "a line without end": HEAD + 'deny contains "x" if input.a == "' + "a" * 2000 + '"\n',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_policy_that_is_broken_gives_no_answer_and_allows_nothing(text: str) -> None:
    decision = said(text, {"zero": 0})
    assert not decision.allowed
    assert decision.failure.startswith("the policy could not be evaluated: ")
    assert "\n" not in decision.failure
    assert "Stack backtrace" not in decision.failure


def test_data_may_not_hide_a_package() -> None:
    assert "which is a package of rules" in said(ALLOWS, main={"deny": []}).failure


@settings(max_examples=60, deadline=None)
@given(some.randoms(use_true_random=False), some.integers(1, 4))
def test_no_damage_turns_a_refusal_into_a_pass_unless_what_is_left_is_a_policy(chance: random.Random, often: int) -> None:
    """Bytes of a policy that refuses everything are changed; whatever then allows must still parse and name deny."""
    text = HEAD + 'deny contains "never" if true\n'
    for _ in range(often):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "{", "}", "\x00", '"', "#", "\n", "x", "é", "[", "("]) + text[at + chance.randrange(2) :]
    decision = said(text)
    if decision.allowed:
        engine, syntax = look_through(Bundle((("own.rego", text),)))
        assert any(name.startswith(("deny", "violation")) for name in syntax.deciding("main"))
        assert engine.eval_rule_as_json(f"data.main.{syntax.deciding('main')[0]}").split() == ["[]"]
    else:
        assert decision.reasons or decision.failure


@settings(max_examples=60, deadline=None)
@given(some.recursive(some.none() | some.booleans() | some.integers(-9, 9) | some.text(max_size=5),
                      lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from(
                          ["models", "regions", "release", "apiVersion", "kind", "metadata", "labels", "resource", "spec", "containers",
                           "image", "env", "aws_s3_bucket", "tags", "forecast", "a"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_document_makes_the_shipped_policy_raise_or_allow_without_knowing_its_kind(document: Any) -> None:
    decision = decide(Policy.of(shipped_bundle(), shipped_data()), document)
    blocks = {"resource"}
    known = isinstance(document, dict) and (
        {"models", "regions"} <= set(document) or {"apiVersion", "kind"} <= set(document) or set(document) <= blocks
    )
    assert decision.allowed is (not decision.reasons and not decision.failure)
    assert not decision.allowed or known


def test_a_decision_can_be_given_again_and_names_the_bytes_it_was_about() -> None:
    document, made = {"bad": False, "a": [1, 2]}, policy(ALLOWS, limit="3")
    first = decide(made, document)
    assert decide(policy(ALLOWS, limit="3"), {"a": [1, 2], "bad": False}) == first, "the order of keys is nothing"
    for digest in (first.policy_digest, first.data_digest, first.input_digest):
        assert len(digest) == len("sha256:") + 64
    assert decide(made, document | {"c": None}).input_digest != first.input_digest
    assert decide(policy(ALLOWS, limit="4"), document).data_digest != first.data_digest


@pytest.mark.parametrize("at", range(0, len(ALLOWS), 7))
def test_any_byte_of_a_policy_changes_its_digest_and_so_does_its_path(at: int) -> None:
    one = Bundle((("own.rego", ALLOWS),))
    flipped = ALLOWS[:at] + chr(ord(ALLOWS[at]) ^ 1) + ALLOWS[at + 1 :]
    assert Bundle((("own.rego", flipped),)).digest != one.digest
    assert Bundle((("other.rego", ALLOWS),)).digest != one.digest


def test_tests_decide_nothing_and_are_not_in_the_digest_of_what_decides() -> None:
    files = (("own.rego", ALLOWS), ("own_test.rego", HEAD + 'deny contains "of a test" if true\n'))
    decision = decide(Policy.of(Bundle(files), {}), {})
    assert decision.allowed
    assert decision.policy_digest == Bundle(files[:1]).digest


def test_a_document_that_has_no_canonical_bytes_is_wrong_input() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for document in (2**60, float("nan"), {"a": object()}, deep, "\ud800"):
        with pytest.raises(InputError, match="is no JSON that has canonical bytes"):
            decide(policy(ALLOWS), document)


def test_a_document_too_deep_for_the_engine_is_refused() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert "recursion limit" in said(ALLOWS, deep).failure


def test_every_thread_decides_although_an_engine_cannot_leave_its_own() -> None:
    made, found = policy(ALLOWS), []
    decide(made, {})
    threads = [threading.Thread(target=lambda: found.append(decide(made, {"bad": True}).reasons)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [("it is bad",)] * 4


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(tmp_path / "work", 30)


def test_a_policy_of_ones_own_is_decided_in_a_worker_with_the_same_record(guard: Guard) -> None:
    made = policy(ALLOWS, limit="3")
    documents = [{"bad": True}, {"bad": False}]
    assert ask(made, documents, guard) == tuple(decide(made, document) for document in documents)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + 'deny contains "x" if { some a in numbers.range(1, 1000000); some b in numbers.range(1, 1000000); a + b == -1 }\n',
        HEAD + "deep := " + "[" * 60 + "]" * 60 + '\ndeny contains "x" if false\n',
        HEAD + 'deny contains "x" if count(numbers.range(1, 10000000000)) == 1\n',
    ],
    ids=["an endless rule", "brackets that keep the parser busy", "a rule that takes all memory"],
)
def test_a_policy_that_does_not_end_is_stopped_and_refuses(text: str, tmp_path: Path) -> None:
    (decision,) = ask(policy(text), [{}], Guard(tmp_path, 1.5))
    assert not decision.allowed
    assert "its worker: it " in decision.failure
    assert decision.policy_digest == policy(text).bundle.digest


def test_a_forbidden_call_is_refused_in_the_worker_too(guard: Guard) -> None:
    (decision,) = ask(policy(HEAD + "deny contains 1 if time.now_ns() > 0\n"), [{}], guard)
    assert "time.now_ns is forbidden" in decision.failure


def test_tests_hold_fail_and_reach_lines(guard: Guard) -> None:
    tests = HEAD + (
        'test_bad if deny["it is bad"] with input as {"bad": true}\ntest_false if 1 == 2\ntest_no_boolean := "true"\n'
        "test_fails if 1 / 0 == 1\n"
    )
    report = ask_tests(
        Bundle((("own.rego", ALLOWS + 'deny contains "rare" if {\n\tinput.rare\n\tinput.x == 1\n}\n'), ("own_test.rego", tests))), {}, guard
    )
    assert {test.name.rpartition(".")[2]: test.problem for test in report.tests} == {
        "test_bad": "",
        "test_false": "it did not hold",
        "test_no_boolean": "it did not hold",
        "test_fails": "own_test.rego:8:17: divide by zero",
    }
    assert not report.held
    (coverage,) = report.coverage
    assert (coverage.file, coverage.missed) == ("own.rego", (6, 8))


def test_a_bundle_without_tests_holds_nothing() -> None:
    assert not run_tests(Bundle((("own.rego", ALLOWS),)), {}).held


def test_the_shipped_rules_keep_their_tests_and_every_line_is_reached() -> None:
    report = run_tests(shipped_bundle(), shipped_data())
    assert [test.name for test in report.failed] == []
    assert len(report.tests) >= 77
    assert [file for file in report.coverage if file.missed] == []


RULE = re.compile(r"^(?:deny|warn) contains .*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
REFUSALS = [(path, found.span()) for path, text in shipped_bundle().rules.files for found in RULE.finditer(text)]


@pytest.mark.parametrize(("path", "span"), REFUSALS, ids=[f"{path}-{number}" for number, (path, _) in enumerate(REFUSALS)])
def test_without_any_one_rule_that_refuses_or_warns_the_tests_do_not_hold(path: str, span: tuple[int, int]) -> None:
    less = tuple((name, text[: span[0]] + text[span[1] :] if name == path else text) for name, text in shipped_bundle().files)
    assert not run_tests(Bundle(less), shipped_data()).held


def test_a_bundle_that_leads_elsewhere_is_empty_or_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_bundle(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \*\.rego file"):
        read_bundle(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "out.rego").write_text(ALLOWS)
    (tmp_path / "in/link.rego").symlink_to(tmp_path / "out.rego")
    with pytest.raises(InputError, match="leads out of its folder"):
        read_bundle(tmp_path / "in")
