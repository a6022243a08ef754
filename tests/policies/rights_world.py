"""What the tests of dependencies, licences, privacy and waivers share."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from policies_world import declared

from fleet.components import Component, Needs
from fleet.declared import Model
from fleet.declared_gates import Gates
from policies.candidate import Candidate

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CRITICAL_V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
HIGH_V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"
CRITICAL_V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"
THROUGH = ("the model", "mlflow")


def gated(**gates: Any) -> Model:
    """The declared model with other gates."""
    return declared().model_copy(update={"gates": Gates.model_validate(gates)})


def needs(*pins: str, **said: str) -> Needs:
    """What a model needs, each as NAME==VERSION; keyword arguments give a package's licence expression."""
    split = [pin.split("==") for pin in pins]
    return Needs(tuple(Component(name, version, said.get(name, ""), through=THROUGH) for name, version in split))


def candidate(folder: Path, **given: Any) -> Candidate:
    """A candidate about which only what is given is known."""
    plain = Candidate("employment", declared(), folder / "model", None, None, None, None, folder / "work", 10, now=NOW)
    return replace(plain, **given)


def advisory(name: str = "GHSA-1", package: str = "requests", **changed: Any) -> dict[str, Any]:
    """An OSV record about every version below 2.32.0 of a package, rated critical."""
    events = [{"introduced": "0"}, {"fixed": "2.32.0"}]
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    record = {
        "schema_version": "1.6.0",
        "id": name,
        "modified": "2026-11-20T08:00:00Z",
        "summary": "Sends passwords to strangers",
        "severity": [{"type": "CVSS_V3", "score": CRITICAL_V3}],
        "affected": [affected],
    }
    return {key: value for key, value in (record | changed).items() if value is not None}


def feed(file: Path, *records: Any) -> Path:
    """Write records as a JSON array."""
    file.write_text(json.dumps(list(records)))
    return file
