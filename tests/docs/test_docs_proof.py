"""What `make proof` needs to be worth its time: mutants that can be applied, a page that shows the committed results."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.form import RESULTS, ROOT
from flows.effects import Ending
from proof import mutants
from proof.cases import Case
from proof.mutants import Judged, mutated
from proof.mutations import MUTANTS, Mutant
from proof.results import PAGE, PARTS, page
from proof.sweep import kept, key_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_changes_the_code_and_names_tests_that_exist(mutant: Mutant) -> None:
    whole = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutated(whole, mutant) != whole
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file()
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


def test_a_mutant_whose_text_is_gone_is_an_error() -> None:
    with pytest.raises(AssertionError, match="0 times"):
        mutated("nothing of it", MUTANTS[0])


def test_the_page_shows_the_committed_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("file", sorted(RESULTS.glob("proof-*.json")), ids=lambda file: file.stem)
def test_a_committed_result_is_of_a_known_part_and_of_a_committed_tree(file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    assert file.stem.removeprefix("proof-") in PARTS
    assert document["rows"]
    assert "with changes" not in document["convoy"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_proof_has_a_result(part: str) -> None:
    assert (RESULTS / f"proof-{part}.json").is_file()


def test_the_rest_of_the_mutants_are_those_that_are_new_made_otherwise_or_survived() -> None:
    first, second = MUTANTS[:2]
    ran = {"convoy": "abc", "cases": [Judged(first, 1, "a_test", 1.0).as_json(), Judged(second, 0, "", 1.0).as_json()]}
    found = mutants.kept(ran)
    assert list(found) == [mutants.key_of(first)]
    assert found[mutants.key_of(first)]["convoy"] == "abc"
    assert mutants.key_of(replace(first, instead="pass")) not in found
    assert mutants.kept(None) == {}


def test_the_rest_of_a_sweep_is_what_is_missing_or_was_wrong_and_says_of_which_commit_the_others_are() -> None:
    right = {"ending": "promoted after its canary", "point": "acted", "effect": "package", "right": True}
    wrong, unkilled = right | {"point": "after", "right": False}, right | {"point": "never", "effect": ""}
    found = kept({"convoy": "abc", "cases": [right, wrong, unkilled]})
    assert list(found.values()) == [right | {"convoy": "abc"}]
    assert list(kept({"convoy": "def", "cases": list(found.values())}).values()) == [right | {"convoy": "abc"}]
    assert kept(None) == {}
    assert key_of(asdict(Case(Ending.PROMOTED, "acted", "package"))) in found
