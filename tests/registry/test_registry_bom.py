"""Bills of materials are CycloneDX by its own schema, say where nothing is known, and are the same for the same content."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest

from fleet.canonical import digest_of
from fleet.errors import InputError, OperationFailed
from fleet.versions import Revision
from registry.bom import SCHEMAS, Data, ModelCard, Package, environment_bom, model_bom, packages_of, problems

REVISION = Revision("employment", "3", digest_of(b"revision"))
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
CARD = ModelCard(
    task="classification",
    datasets=(Data("employment 2015", digest_of(b"rows"), "data/train.csv at 0000"),),
    metrics=(("accuracy", "0.825"),),
    inputs=("tabular",),
    outputs=("probability",),
    users=("The employment office",),
    use_cases=("Deciding who is asked first",),
    limitations=("Trained on one state's answers of 2015",),
    ethical=("Sex is among the inputs",),
)


def installed(name: str) -> str:
    return f"{name}=={metadata.version(name)}"


def test_the_environment_of_this_process_is_a_valid_bill() -> None:
    lines = [installed(name) for name in ("numpy", "pandas", "mlflow", "pydantic", "httpx")]
    bom = json.loads(environment_bom(REVISION, packages_of(lines), AT))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": REVISION.digest.removeprefix("sha256:")}]
    found = {component["name"]: component for component in bom["components"]}
    assert found["pandas"]["purl"] == f"pkg:pypi/pandas@{metadata.version('pandas')}"
    assert all(component["licenses"] for component in found.values())
    needs = {entry["ref"]: entry["dependsOn"] for entry in bom["dependencies"]}
    assert found["numpy"]["purl"] in needs[found["pandas"]["purl"]]


def test_the_whole_lock_of_convoy_is_a_valid_bill_with_its_hashes() -> None:
    packages = packages_of((ROOT / "requirements.lock").read_text().splitlines())
    assert len(packages) > 100
    assert all(package.hashes for package in packages)
    assert problems(environment_bom(REVISION, packages, AT)) == ()


def test_what_is_not_installed_is_told_and_not_guessed() -> None:
    (package,) = packages_of(["no-such-package==1.0"])
    assert (package.known, package.licence, package.needs) == (False, "", ())
    (component,) = json.loads(environment_bom(REVISION, (package,), AT))["components"]
    assert "licenses" not in component
    assert component["properties"] == [
        {"name": "convoy:metadata", "value": "not installed where this was written: licence and needs are not known"}
    ]
    (other,) = packages_of(["numpy==0.0.1"])
    assert not other.known


def test_one_hash_is_the_files_and_several_are_those_that_may_be() -> None:
    one, two = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()
    lines = [f"a==1 --hash=sha256:{one}", "b==1 \\", f"    --hash=sha256:{one} \\", f"    --hash=sha256:{two}", "# a comment", ""]
    first, second = json.loads(environment_bom(REVISION, packages_of(lines), AT))["components"]
    assert first["hashes"] == [{"alg": "SHA-256", "content": one}]
    assert "hashes" not in second
    assert second["properties"][0] == {"name": "convoy:allowed-sha256", "value": " ".join(sorted([one, two]))}


def test_a_package_that_a_bento_names_twice_is_told_once() -> None:
    packages = packages_of(["bentoml==1.4.1", "attrs==25.1.0", f"BentoML==1.4.1 --hash=sha256:{'a' * 64}"])
    assert [(package.name, package.hashes) for package in packages] == [("attrs", ()), ("bentoml", ("a" * 64,))]
    assert problems(environment_bom(REVISION, packages, AT)) == ()
    assert len(packages_of(["bentoml==1.4.1", "bentoml==1.4.2"])) == 2


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.*", "numpy==2,<3", "-r other.txt", "not a requirement"])
def test_what_is_not_locked_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="lock"):
        packages_of([line])


def test_a_model_with_its_data_is_a_valid_bill() -> None:
    bom = json.loads(model_bom(REVISION, CARD, AT))
    subject, (data,) = bom["metadata"]["component"], bom["components"]
    assert subject["type"] == "machine-learning-model"
    card = subject["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    assert data["hashes"] == [{"alg": "SHA-256", "content": digest_of(b"rows").removeprefix("sha256:")}]
    assert card["considerations"]["technicalLimitations"] == list(CARD.limitations)
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "accuracy", "value": "0.825"}]
    assert problems(model_bom(REVISION, ModelCard(), AT)) == ()


def test_the_same_content_is_the_same_document_and_other_content_another() -> None:
    assert model_bom(REVISION, CARD, AT) == model_bom(REVISION, CARD, AT)
    names = {json.loads(bom)["serialNumber"] for bom in (model_bom(REVISION, CARD, AT), model_bom(REVISION, ModelCard(), AT))}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"specVersion": 1.6}, "specVersion"),
        ({"bomFormat": "SPDX"}, "bomFormat"),
        ({"colour": "blue"}, "colour"),
        ({"components": [{"name": "x", "type": "model"}]}, "components/0/type"),
        ({"components": [{"name": "x", "type": "library", "licenses": [{"license": {"id": "No-Such-Licence"}}]}]}, "components/0/licenses"),
        ({"components": [{"name": "x", "type": "data", "hashes": [{"alg": "SHA-256", "content": "zz"}]}]}, "components/0/hashes/0/content"),
        ({"components": []}, "is referred to and not there"),
        ({"components": [{"name": "x", "type": "data", "bom-ref": "a"}] * 2}, "non-unique"),
        ({"components": [{"name": name, "type": "data", "bom-ref": "a"} for name in "xy"]}, "'a' stands 2 times"),
    ],
)
def test_what_is_not_cyclonedx_is_told_with_its_place(change: dict, told: str) -> None:
    document = json.loads(model_bom(REVISION, CARD, AT)) | change
    assert told in " ".join(problems(json.dumps(document).encode()))
    assert problems(b"{") == ("it is no JSON",)


def test_a_bill_that_would_be_wrong_is_not_given() -> None:
    with pytest.raises(OperationFailed, match=r"is not CycloneDX 1\.6"):
        model_bom(REVISION, ModelCard(task="guessing", datasets=(Data("rows", "md5:00"),)), AT)
    with pytest.raises(OperationFailed, match=r"is not CycloneDX 1\.6"):
        environment_bom(REVISION, (Package("a", "1"), Package("a", "1", "MIT")), AT)


def test_the_schemas_are_those_that_were_published() -> None:
    text = (SCHEMAS / "README.md").read_text()
    for file in sorted(SCHEMAS.glob("*.gz")):
        with gzip.open(file) as content:
            assert f"| `{file.name}` | {hashlib.sha256(content.read()).hexdigest()} |" in text
