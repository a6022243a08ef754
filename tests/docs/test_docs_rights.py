"""Every key of the gates of rights is documented where settings are, and every gate where gates are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.declared_image import Image, Resources
from fleet.declared_rights import Dependencies, Licences, Privacy, WaiverKeys
from fleet.declared_signature import Signature
from fleet.declaring import Declared
from policies.candidate import AnyGate
from policies.dependencies.gate import DependenciesSound
from policies.licences.gate import LicencesAllowed
from policies.privacy import NAMES, PREFIX, PrivacyPromised
from policies.signed import ModelSigned

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS: dict[str, type[Declared]] = {
    "gates.dependencies": Dependencies,
    "gates.licences": Licences,
    "gates.privacy": Privacy,
    "gates.waivers": WaiverKeys,
    "gates.signature": Signature,
    "image": Image,
    "resources": Resources,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented(section: str) -> None:
    text = (DOCS / "settings.md").read_text()
    assert [name for name in SECTIONS[section].model_fields if f"`{section}.{name}`" not in text] == []
    assert "`gates.reproducible`" in text


@pytest.mark.parametrize("gate", [ModelSigned(), DependenciesSound(), LicencesAllowed(), PrivacyPromised()], ids=lambda gate: gate.name)
def test_every_gate_has_a_part_of_its_own(gate: AnyGate) -> None:
    assert f"## The gate `{gate.name}`" in (DOCS / "gates.md").read_text()


def test_every_tag_of_privacy_is_documented() -> None:
    text = (DOCS / "gates.md").read_text()
    assert [name for name in NAMES if f"`{PREFIX}{name}`" not in text] == []
