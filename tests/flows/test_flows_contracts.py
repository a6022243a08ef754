"""Contracts learnt from pinned rows, and the lineage of every set that the gates look at."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest

from fleet.addresses import Reach
from fleet.declared import Model
from fleet.errors import InputError, Refused
from fleet.versions import ModelVersion
from flows.contracts import Rows, learn_from_file, learn_from_model, rows_named
from flows.gating import SOURCE_TAG, Source, pinned_rows, tag_lineage
from policies.learning import Slack
from registry.lineage import describe, read_tags, record_tags
from support.data import pinned_rows as pinned_repository

FILE = "data/golden.parquet"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = pandas.DataFrame({"age": range(18, 98), "city": ["Bonn", "Lyon"] * 40})
    return pinned_repository(tmp_path_factory.mktemp("contracts"), FILE, rows)


def declared(repository: Path) -> Model:
    golden = {"repository": str(repository), "path": FILE}
    return Model.model_validate(
        {
            "owner": "people",
            "on_call": "people-on-call",
            "runbook": "docs/runbook.md",
            "regions": ["here"],
            "slo": {"here": {"latency_ms": 100, "error_rate": 0.01}},
            "rto_seconds": 60,
            "rpo_releases": 0,
            "rollback": {"margin": 0.01},
            "contract": "contracts/people.json",
            "evaluation": golden | {"label": "city", "metric": "accuracy"},
            "gates": {"golden": golden},
        }
    )


def house(repository: Path, home: Path, tags: dict[str, str] | None = None) -> Any:
    models = SimpleNamespace(
        alias=lambda model, name: "3" if name == "champion" and tags is not None else None,
        version=lambda model, version: ModelVersion(model, version, "", None, tags or {}),
    )
    return SimpleNamespace(
        model=lambda name: declared(repository),
        models=models,
        reach=Reach(),
        fleet_file=home / "fleet.yaml",
    )


def test_a_contract_is_learnt_from_pinned_rows_into_the_file_that_fleet_yaml_names(repository: Path, tmp_path: Path) -> None:
    learnt = learn_from_model(house(repository, tmp_path), "people", Rows.GOLDEN, Slack(), None, force=False)
    assert learnt.file == tmp_path / "contracts" / "people.json"
    text = learnt.file.read_text()
    assert '"value_set": ["Bonn", "Lyon"]' in text
    assert '"sets": ["golden"]' in text


def test_what_a_version_learned_from_is_found_by_its_tags(repository: Path, tmp_path: Path) -> None:
    tags = record_tags(describe(str(repository), "HEAD", FILE))
    learnt = learn_from_model(house(repository, tmp_path, tags), "people", Rows.TRAINING, Slack(), tmp_path / "out.json", force=False)
    assert learnt.expectations > 4
    with pytest.raises(InputError, match="neither a candidate nor a champion"):
        learn_from_model(house(repository, tmp_path), "people", Rows.TRAINING, Slack(), tmp_path / "other.json", force=False)


def test_rows_that_are_not_declared_are_told_with_those_that_are(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"declares no validation rows in fleet.yaml \(declared: evaluation, golden\)"):
        learn_from_model(house(repository, tmp_path), "people", Rows.VALIDATION, Slack(), None, force=False)
    with pytest.raises(InputError, match="known: training, validation"):
        rows_named("trainign")


def test_a_contract_that_people_may_have_edited_is_replaced_only_by_force(tmp_path: Path) -> None:
    pandas.DataFrame({"age": range(60)}).to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "contract.json"
    out.write_text("edited")
    with pytest.raises(Refused, match="--force"):
        learn_from_file(tmp_path / "rows.csv", Rows.TRAINING, out, Slack(), force=False)
    assert out.read_text() == "edited"
    learn_from_file(tmp_path / "rows.csv", Rows.TRAINING, out, Slack(), force=True)
    assert '"expect_table_columns_to_match_set"' in out.read_text()


def test_every_set_is_pinned_by_hash_revision_and_remote_and_written_back_to_mlflow_once(repository: Path) -> None:
    pinned = pinned_rows(declared(repository), Reach())
    assert set(pinned) == {"evaluation", "golden"}
    lineage = pinned["golden"]
    assert len(lineage.commit) == 40
    assert lineage.remote.endswith("/remote")
    assert lineage.sha256.startswith("sha256:")
    assert lineage.dvc_hash.startswith("md5:")
    written: dict[str, str] = {}
    models: Any = SimpleNamespace(tag=lambda version, key, value: written.update({key: value}))
    tag_lineage(models, Source(ModelVersion("people", "3", ""), Path(), "sha256:files", None), pinned)
    assert read_tags(written, "golden") == lineage
    assert read_tags(written, "evaluation") == pinned["evaluation"]
    assert written[SOURCE_TAG] == "sha256:files"
    assert len(written) == 2 * len(asdict(lineage)) + 1
    again: dict[str, str] = {}
    models.tag = lambda version, key, value: again.update({key: value})
    tag_lineage(models, Source(ModelVersion("people", "3", "", None, written), Path(), "sha256:files", None), pinned)
    assert again == {}
