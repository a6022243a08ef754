"""What the flows hand to the gates of rights, and what these then say, out of a real folder beside fleet.yaml."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.declared import Model
from fleet.declared_gates import Gates
from fleet.declared_image import Image
from fleet.declared_optimise import Optimise
from fleet.errors import InputError
from fleet.evidence import GateOutcome
from fleet.settings import Settings
from flows.rights import advisories_of, build_options, needs_for, waivers_for
from policies.candidate import Candidate
from policies.dependencies.gate import DependenciesSound
from policies.signing import new_key, sign
from policies.waivers import SignedWaiver, Subject, Waiver
from support.rights import a_model

NOW = datetime.now(UTC)
SUBJECT = Subject("toy", "3", "sha256:" + "a" * 64)
FLAW = {
    "id": "CVE-2026-1",
    "modified": NOW.isoformat(),
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [{"package": {"ecosystem": "PyPI", "name": "mlflow"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "waivers").mkdir()
    (tmp_path / "osv.json").write_text(json.dumps([FLAW]))
    return tmp_path


def keyed(folder: Path) -> Model:
    keys = {name: new_key(folder / f"{name}.pem") for name in ("anna", "ben")}
    return a_model(gates=Gates.model_validate({"waivers": {"folder": "waivers", "keys": keys}}))


def candidate(folder: Path, declared: Model, subject: Subject = SUBJECT, now: datetime = NOW) -> Candidate:
    settings = Settings(advisories=folder / "osv.json")
    return Candidate(
        subject.model,
        declared,
        folder / "source",
        None,
        None,
        None,
        None,
        folder / "work",
        10,
        needs=needs_for(declared, settings, folder / "source"),
        advisories=advisories_of(settings),
        now=now,
        waivers=waivers_for(declared, folder, subject, now),
    )


def waive(folder: Path, *people: str) -> None:
    """Waive what the gate itself called it, signed by some people."""
    refused = DependenciesSound().evaluate(candidate(folder, a_model())).reasons[0]
    thing = refused.split(" (")[0]
    told = Waiver(
        gate="dependencies",
        thing=thing,
        model="toy",
        model_version="3",
        reason="being replaced",
        expires=f"{NOW + timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}",
    )
    signed = SignedWaiver(waiver=told)
    for name in people:
        signed = sign(signed, folder / f"{name}.pem")
    (folder / "waivers" / "mlflow.json").write_bytes(signed.to_json())


def test_a_flaw_of_what_really_serves_fails_until_two_people_waive_it_for_this_version(folder: Path) -> None:
    gate, declared = DependenciesSound(), keyed(folder)
    assert gate.evaluate(candidate(folder, declared)).outcome is GateOutcome.FAILED
    waive(folder, "anna")
    refused = gate.evaluate(candidate(folder, declared))
    assert refused.outcome is GateOutcome.FAILED
    assert "mlflow.json is signed by anna of the declared people" in refused.reasons[0]
    waive(folder, "ben", "anna")
    assert gate.evaluate(candidate(folder, declared)).outcome is GateOutcome.PASSED
    assert gate.evaluate(candidate(folder, declared, replace(SUBJECT, version="4"))).outcome is GateOutcome.FAILED
    assert gate.evaluate(candidate(folder, declared, now=NOW + timedelta(days=3))).outcome is GateOutcome.FAILED
    assert gate.evaluate(candidate(folder, a_model())).outcome is GateOutcome.FAILED, "where nobody may waive"


def test_what_nobody_asks_for_is_not_looked_up(folder: Path) -> None:
    assert needs_for(a_model(), Settings(), folder / "source") is None
    assert advisories_of(Settings()) is None
    asked = a_model(gates=Gates.model_validate({"licences": {"allow": ["MIT"]}}))
    assert needs_for(asked, Settings(), folder / "source") is not None


def test_a_bento_is_built_with_the_declared_image_and_the_locks_hashes(folder: Path) -> None:
    image = Image(base_image="python@sha256:" + "a" * 64, system_packages=("libgomp1",))
    declared = a_model(gates=Gates.model_validate({"dependencies": {"lock": "lock.txt"}}), image=image)
    with pytest.raises(InputError, match=r"lock\.txt"):
        build_options(declared, folder)
    (folder / "lock.txt").write_text("rich==15.0.0 --hash=sha256:" + "b" * 64)
    options = build_options(declared, folder)
    assert (options.base_image, options.system_packages) == (image.base_image, ("libgomp1",))
    assert list(options.pins or ()) == ["rich"]


def test_a_bento_is_told_that_its_model_is_compiled_only_where_that_is_declared(folder: Path) -> None:
    said = [build_options(a_model(**more), folder).compile for more in ({}, {"optimise": Optimise()}, {"optimise": Optimise(compile=True)})]
    assert said == [False, False, True]
