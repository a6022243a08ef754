from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from control.demo.pace import FAST, WHOLE
from fleet.declared import Model
from fleet.declared_gates import Gates
from fleet.declared_policy import PolicyFiles
from fleet.declared_region import Region
from fleet.errors import InputError
from fleet.evidence import GateOutcome
from fleet.reading import read_fleet
from fleet.versions import DataLineage
from flows.gate_report import as_payload
from policies.candidate import Candidate
from policies.gates import STAGES
from policies.policy import PolicyAllows, document_of
from policies.rego.bundle import shipped_bundle
from policies.rego.decision import decide

ROOT = Path(__file__).parents[2]
GATE = PolicyAllows()
OWN = 'package main\n\nimport rego.v1\n\ndeny contains "models.employment: no" if input.release.tags.ticket != "A-1"\n'
LINEAGE = DataLineage("data", "abc", "rows.parquet", "/remote", "md5:1", "sha256:2")


def told(candidate: Candidate, folder: Path, rules: str = "", data: str = "") -> Candidate:
    """The candidate with policies of its own in a folder."""
    (folder / "policy").mkdir(exist_ok=True)
    if rules:
        (folder / "policy/own.rego").write_text(rules)
    if data:
        (folder / "policy/data.yaml").write_text(data)
    files = PolicyFiles(rules=Path("policy") if rules else None, data=Path("policy/data.yaml") if data else None)
    declared = candidate.declared.model_copy(update={"gates": Gates(policy=files)})
    return replace(candidate, declared=declared, fleet_folder=folder)


def test_the_gate_stands_in_the_second_stage() -> None:
    assert "policy" in [gate.name for gate in STAGES[1]]


def test_a_release_that_the_shipped_policy_allows_passes_with_its_record(candidate: Candidate) -> None:
    result = GATE.evaluate(candidate)
    assert result.outcome is GateOutcome.PASSED
    figures = dict(result.figures)
    assert figures["Convoy's policy"] == "allowed"
    assert figures["Convoy's policy: policy digest"] == shipped_bundle().rules.digest
    assert figures["Convoy's policy: input digest"].startswith("sha256:")
    assert as_payload(result)["figures"] == figures  # type: ignore[index,call-overload]


def test_the_same_release_has_the_same_record_and_another_one_another(candidate: Candidate) -> None:
    first, again = GATE.evaluate(candidate), GATE.evaluate(candidate)
    assert first.figures == again.figures
    for changed in (replace(candidate, actor="somebody"), replace(candidate, version="4"), replace(candidate, tags={"a": "b"})):
        other = dict(GATE.evaluate(changed).figures)
        assert other["Convoy's policy: input digest"] != dict(first.figures)["Convoy's policy: input digest"]
        assert other["Convoy's policy: policy digest"] == dict(first.figures)["Convoy's policy: policy digest"]


def test_a_policy_sees_the_model_its_regions_who_releases_it_and_where_its_rows_are_from(candidate: Candidate) -> None:
    elsewhere = {"far": Region(target="aws", provider="aws", place="x", jurisdiction="US")}
    regions = {**candidate.regions, **elsewhere}
    document = document_of(replace(candidate, regions=regions, tags={"ticket": "A-1"}, lineage=LINEAGE))
    assert list(document["regions"]) == ["here"], "regions that the model does not use are none of its policy's business"
    assert document["models"]["employment"]["owner"] == "people"
    assert document["release"] == {
        "model": "employment",
        "version": "3",
        "actor": "release-team",
        "tags": {"ticket": "A-1"},
        "lineage": {
            "repository": "data",
            "commit": "abc",
            "path": "rows.parquet",
            "remote": "/remote",
            "dvc_hash": "md5:1",
            "sha256": "sha256:2",
        },
    }


def test_a_region_that_nothing_is_known_of_is_refused(candidate: Candidate) -> None:
    result = GATE.evaluate(replace(candidate, regions={}))
    assert result.outcome is GateOutcome.FAILED
    assert "its region here is not declared" in result.reasons[0]


def test_rules_of_ones_own_refuse_beside_the_shipped_ones(candidate: Candidate, tmp_path: Path) -> None:
    asked = told(replace(candidate, tags={"ticket": "B-2"}), tmp_path, OWN)
    result = GATE.evaluate(asked)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons == ("own policy: models.employment: no",)
    assert dict(result.figures)["Convoy's policy"] == "allowed"
    assert GATE.evaluate(replace(asked, tags={"ticket": "A-1"})).outcome is GateOutcome.PASSED


def test_rules_of_ones_own_cannot_take_the_shipped_ones_back(candidate: Candidate, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/environments.rego").write_text('package convoy.environments\n\nimport rego.v1\n\ndeny contains "x" if false\n')
    asked = told(replace(candidate, regions={}), tmp_path, 'package main\n\nimport rego.v1\n\ndeny contains "x" if false\n')
    result = GATE.evaluate(asked)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0].startswith("Convoy's policy: models.employment: its region here is not declared")


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("package main\n\ndeny contains {", "does not parse"),
        ('package main\n\ndeny contains "x" if time.now_ns() > 0\n', "time.now_ns is forbidden"),
        ("package other\n\ndeny contains 1 if false\n", "is not in the bundle (there are other)"),
        ('package main\n\ndeny contains "x" if 1 / input.version > 5 / (input.version - 1)\n', "divide by zero"),
    ],
)
def test_a_policy_that_gives_no_answer_is_inconclusive_and_passes_nothing(
    candidate: Candidate, tmp_path: Path, rules: str, why: str
) -> None:
    result = GATE.evaluate(told(candidate, tmp_path, rules))
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert why in result.reasons[0]
    assert dict(result.figures)["own policy"] == "no answer"


def test_data_of_ones_own_tells_the_shipped_rules(candidate: Candidate, tmp_path: Path) -> None:
    grants = (
        "rights: {tiers: {}, default_tier: standard, grants: [{who: [night-shift], models: ['*'], tiers: ['*'], environments: ['*']}]}\n"
    )
    asked = told(candidate, tmp_path, data=grants)
    result = GATE.evaluate(asked)
    assert result.outcome is GateOutcome.FAILED
    assert "'release-team' may not release it (tier standard) into any (region here)" in result.reasons[0]
    assert GATE.evaluate(replace(asked, actor="night-shift")).outcome is GateOutcome.PASSED


def test_data_that_lacks_a_key_or_has_one_that_nothing_reads_is_no_permission(candidate: Candidate, tmp_path: Path) -> None:
    lacking = GATE.evaluate(told(candidate, tmp_path, data="budgets: {per_day: {}}\n"))
    assert "data.budgets.forecast_required: is missing" in lacking.reasons[0]
    with pytest.raises(InputError, match="has budgte, which no rule reads"):
        GATE.evaluate(told(candidate, tmp_path, data="budgte: {}\n"))


def test_policy_files_that_are_not_there_are_wrong_input(candidate: Candidate, tmp_path: Path) -> None:
    asked = told(candidate, tmp_path, OWN)
    (tmp_path / "policy/own.rego").unlink()
    with pytest.raises(InputError, match=r"holds no \*\.rego file"):
        GATE.evaluate(asked)
    with pytest.raises(InputError, match="not known here"):
        GATE.evaluate(replace(asked, fleet_folder=None))


def test_warnings_are_shown_and_do_not_refuse(candidate: Candidate, tmp_path: Path) -> None:
    rules = OWN.replace('"A-1"', '"B-2"') + '\nwarn contains "look at it" if true\n'
    result = GATE.evaluate(told(replace(candidate, tags={"ticket": "B-2"}), tmp_path, rules))
    assert result.outcome is GateOutcome.PASSED
    assert result.tables[0].rows == (("own policy", "look at it"),)


@pytest.mark.parametrize("name", ["examples/fleet.yaml", "whole demo", "fast demo"])
def test_the_fleets_that_convoy_brings_pass(name: str, candidate: Candidate, tmp_path: Path) -> None:
    file = ROOT / name
    if "demo" in name:
        file = tmp_path / "fleet.yaml"
        text = (ROOT / "control/demo/fleet.yaml").read_text()
        file.write_text((FAST if "fast" in name else WHOLE).fill(text).replace("{data-repository}", str(tmp_path)))
    fleet = read_fleet(file)
    for model, declared in fleet.models.items():
        result = GATE.evaluate(replace(candidate, model=model, declared=declared, regions=fleet.regions, actor="convoy command"))
        assert (result.outcome, result.tables) == (GateOutcome.PASSED, ())


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "policy needs rules, data or both"),
        ({"rules": "../elsewhere"}, "must be a path below the folder of fleet.yaml"),
        ({"rules": "p", "package": "main; x"}, "String should match pattern"),
        ({"rule": "p"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_declared_is_checked(candidate: Candidate, files: dict[str, str], why: str) -> None:
    document = candidate.declared.model_dump(mode="json") | {"gates": {"policy": files}}
    with pytest.raises(ValidationError, match=why):
        Model.model_validate(document)


def test_the_gates_own_decision_is_that_of_decide(candidate: Candidate) -> None:
    from policies.rego.chosen import Own, policies

    ((name, policy),) = policies(Own())
    (asked_name, decision), *_ = GATE.gather(candidate).decisions
    assert (asked_name, decision) == (name, decide(policy, document_of(candidate)))
