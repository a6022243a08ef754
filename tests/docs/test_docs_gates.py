"""Every key below `gates` is documented where settings are, and every gate where gates are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.declared_contract import ContractSets
from fleet.declared_quality import Calibration, Quality, Slice
from fleet.declared_robustness import Missing, Noise, OutOfRange, Robustness, Search, Unseen
from fleet.declaring import Declared
from policies.candidate import AnyGate
from policies.contract import DataContract
from policies.quality import QualityAgainstChampion
from policies.robustness import DisturbedRequests

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS: dict[str, type[Declared]] = {
    "gates.contract": ContractSets,
    "gates.quality": Quality,
    "slices": Slice,
    "calibration": Calibration,
    "gates.robustness": Robustness,
    "noise": Noise,
    "missing": Missing,
    "unseen": Unseen,
    "out_of_range": OutOfRange,
    "search": Search,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_a_gate_is_documented(section: str) -> None:
    text = (DOCS / "settings.md").read_text()
    assert [name for name in SECTIONS[section].model_fields if f"`{section}.{name}`" not in text] == []


@pytest.mark.parametrize("gate", [DataContract(), QualityAgainstChampion(), DisturbedRequests()], ids=lambda gate: gate.name)
def test_every_gate_has_a_part_of_its_own(gate: AnyGate) -> None:
    assert f"\n## The gate `{gate.name}`\n" in (DOCS / "gates.md").read_text()
