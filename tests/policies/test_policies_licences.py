"""The gate of licences: SPDX expressions of the model, its data and its packages against an allowlist."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from policies_world import declared
from rights_world import candidate, gated, needs

from fleet.components import Component
from fleet.declared import Drift
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import DataLineage
from policies.candidate import Candidate
from policies.licences.expressions import Right, expression_of, judged
from policies.licences.gate import LicencesAllowed
from policies.waived import Waived, Waivers

GATE = LicencesAllowed()
ALLOW = ["MIT", "BSD-3-Clause", "CC-BY-4.0"]
LINEAGE = DataLineage("repo", "a" * 40, "data/v1.parquet", "remote", "md5:1", "sha256:1")
EVALUATION = {"data": {"rows.parquet": "CC-BY-4.0", "data/v1.parquet": "CC-BY-4.0"}}


def given(tmp_path: Path, said: dict[str, str], **licences: Any) -> Candidate:
    rules = {"allow": ALLOW, "model": "MIT", **EVALUATION, **licences}
    pins = needs(*(f"{name}==1.0" for name in said), **said)
    return candidate(tmp_path, declared=gated(licences=rules), needs=pins, lineage=LINEAGE)


def asked(tmp_path: Path, said: dict[str, str], **licences: Any) -> GateResult:
    return GATE.evaluate(given(tmp_path, said, **licences))


@pytest.mark.parametrize(
    ("expression", "right"),
    [
        ("MIT", Right.ALLOWED),
        ("mit", Right.ALLOWED),
        ("MIT AND BSD-3-Clause", Right.ALLOWED),
        ("MIT AND GPL-3.0-only", Right.DENIED),
        ("GPL-3.0-only", Right.DENIED),
        ("GPL-3.0", Right.DENIED),
        ("MIT OR GPL-3.0-only", Right.ALLOWED),
        ("MIT OR Nobodys-1.0", Right.ALLOWED),
        ("MIT AND Nobodys-1.0", Right.UNKNOWN),
        ("GPL-3.0-only AND Nobodys-1.0", Right.DENIED),
        ("GPL-3.0-only OR Nobodys-1.0", Right.UNKNOWN),
        ("(MIT OR GPL-3.0-only) AND (BSD-3-Clause OR AGPL-3.0-only)", Right.ALLOWED),
        ("MIT WITH Classpath-exception-2.0", Right.ALLOWED),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Right.DENIED),
        ("LicenseRef-Ours", Right.UNKNOWN),
        ("MIT AND", Right.UNKNOWN),
        ("", Right.UNKNOWN),
        ("(" * 900, Right.UNKNOWN),
        ("MIT OR " * 400 + "MIT", Right.UNKNOWN),
    ],
)
def test_an_expression_is_allowed_denied_or_unknown(expression: str, right: Right) -> None:
    assert judged(expression, ALLOW) is right


def test_one_licence_with_one_exception_and_ones_own_can_be_allowed() -> None:
    allow = ["GPL-2.0-only WITH Classpath-exception-2.0", "LicenseRef-Ours"]
    assert judged("GPL-2.0-only WITH Classpath-exception-2.0", allow) is Right.ALLOWED
    assert judged("GPL-2.0-only", allow) is Right.DENIED
    assert judged("LicenseRef-Ours", allow) is Right.ALLOWED


@pytest.mark.parametrize(
    ("component", "expression"),
    [
        (Component("a", "1", "Apache-2.0 AND MIT", "BSD", ("License :: OSI Approved :: MIT License",)), "Apache-2.0 AND MIT"),
        (Component("a", "1", "", "MIT"), "MIT"),
        (Component("a", "1", "", "Apache License, Version 2.0"), "Apache-2.0"),
        (Component("a", "1", "", "3-Clause BSD License"), "BSD-3-Clause"),
        (Component("a", "1", "", "Dual License", ("License :: OSI Approved :: MIT License",)), "MIT"),
        (Component("a", "1", "", "", ("License :: OSI Approved :: BSD License",)), "BSD-2-Clause AND BSD-3-Clause"),
        (
            Component("a", "1", "", "", ("License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License")),
            "MIT AND Apache-2.0",
        ),
        (Component("a", "1", "", "Copyright 2018 Somebody\n" * 50, ("License :: OSI Approved :: MIT License",)), "MIT"),
        (Component("a", "1", "", "", ("License :: OSI Approved",)), ""),
        (Component("a", "1", "", "", ("License :: OSI Approved :: MIT License", "License :: Other/Proprietary License")), ""),
        (Component("a", "1", "", "see the file"), ""),
        (Component("a", "1"), ""),
    ],
)
def test_what_a_package_says_of_its_licence_is_read_against_it(component: Component, expression: str) -> None:
    assert expression_of(component) == expression


def test_allowed_licences_of_model_data_and_packages_pass(tmp_path: Path) -> None:
    result = asked(tmp_path, {"numpy": "BSD-3-Clause", "rich": "MIT"})
    assert result.outcome is GateOutcome.PASSED
    assert dict(result.figures) == {"looked at": "5", "allowed": "MIT, BSD-3-Clause, CC-BY-4.0"}
    assert ("data data/v1.parquet", "CC-BY-4.0", "allowed", "the model's training") in result.tables[0].rows


def test_denied_licences_fail_one_by_one_with_who_brings_them_in(tmp_path: Path) -> None:
    result = asked(tmp_path, {"ghost": "AGPL-3.0-only", "numpy": "BSD-3-Clause", "spirit": "GPL-3.0-or-later"})
    assert result.outcome is GateOutcome.FAILED
    assert [reason.split(",")[0] for reason in result.reasons] == [
        "ghost 1.0 (brought by the model through mlflow) is under AGPL-3.0-only",
        "spirit 1.0 (brought by the model through mlflow) is under GPL-3.0-or-later",
    ]


def test_what_says_nothing_is_inconclusive_until_somebody_says_it(tmp_path: Path) -> None:
    result = asked(tmp_path, {"huey": ""})
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert "huey 1.0 (brought by the model through mlflow) does not say" in result.reasons[0]
    assert asked(tmp_path, {"huey": ""}, packages={"huey": "MIT"}).outcome is GateOutcome.PASSED


def test_the_licence_of_the_data_must_be_said_too(tmp_path: Path) -> None:
    unsaid = asked(tmp_path, {"rich": "MIT"}, data={"rows.parquet": "CC-BY-4.0"})
    assert unsaid.outcome is GateOutcome.INCONCLUSIVE
    assert "data data/v1.parquet (brought by the model's training)" in unsaid.reasons[0]
    tagged = replace(given(tmp_path, {"rich": "MIT"}, data={"rows.parquet": "MIT"}), tags={"convoy.data.licence": "CC-BY-NC-4.0"})
    assert GATE.evaluate(tagged).outcome is GateOutcome.FAILED


def test_the_rows_that_a_model_is_watched_by_count_as_well(tmp_path: Path) -> None:
    found = given(tmp_path, {"rich": "MIT"})
    watched = Drift.model_validate({"reference": {"repository": "r", "path": "data/other.csv"}})
    result = GATE.evaluate(replace(found, declared=found.declared.model_copy(update={"drift": watched})))
    assert "data data/other.csv (brought by drift.reference in fleet.yaml)" in result.reasons[0]


def test_the_models_own_licence_comes_from_its_tag_its_metadata_or_fleet_yaml(tmp_path: Path) -> None:
    found = given(tmp_path, {"rich": "MIT"})
    assert GATE.evaluate(replace(found, tags={"convoy.licence": "AGPL-3.0-only"})).outcome is GateOutcome.FAILED
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("metadata: {licence: GPL-3.0-only}\n")
    assert "the model (brought by itself) is under GPL-3.0-only" in GATE.evaluate(found).reasons[0]
    (tmp_path / "model" / "MLmodel").write_text("metadata: [\n")
    assert GATE.evaluate(found).outcome is GateOutcome.PASSED
    silent = given(tmp_path, {"rich": "MIT"}, model=None)
    assert "the model (brought by itself) does not say" in GATE.evaluate(silent).reasons[0]


def test_a_waiver_lets_one_thing_go(tmp_path: Path) -> None:
    waived = Waivers((Waived("licences", "ghost 1.0", "w.json", ("anna", "ben"), "bought", "2026-12-01"),))
    assert GATE.evaluate(replace(given(tmp_path, {"ghost": "AGPL-3.0-only"}), waivers=waived)).outcome is GateOutcome.PASSED
    other = GATE.evaluate(replace(given(tmp_path, {"spirit": "AGPL-3.0-only"}), waivers=waived))
    assert other.outcome is GateOutcome.FAILED


def test_it_applies_where_an_allowlist_is_declared(tmp_path: Path) -> None:
    assert GATE.evaluate(candidate(tmp_path, declared=declared())).outcome is GateOutcome.NOT_APPLICABLE
    nobody = replace(given(tmp_path, {}), needs=None)
    assert GATE.evaluate(nobody).outcome is GateOutcome.INCONCLUSIVE
