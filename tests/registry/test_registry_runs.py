"""What of a training run may stand in the ledger: bounded, without floats, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.canonical import canonical_json
from fleet.errors import UnknownName
from registry.events import plain
from registry.runs import LONGEST, MOST, looks_secret, read_run


class Told:
    """MLflow, as it answers to one run's id."""

    def __init__(self, run: dict) -> None:
        self.run = run

    def get(self, _path, answer, query):
        if query["run_id"] == "gone":
            raise UnknownName("MLflow", "no such run")
        return answer.model_validate({"run": self.run})


def told(tmp_path: Path, **data):
    return read_run(Told({"info": {"status": "FINISHED"}, "data": data}), "a", tmp_path)


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "dbPassword", "DB-PASSWD", "client_secret", "api_key", "apiKey", "APIKey", "aws.access.key.id", "HF_TOKEN",
     "auth", "storageAccountKey", "AZURE_SAS", "session.cookie", "ssh_key", "private-keys", "sentry_dsn"],
)  # fmt: skip
def test_a_name_like_a_credentials_is_withheld(name: str) -> None:
    assert looks_secret(name, "7")


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "tokenizer", "sort_key", "key", "author", "n_estimators", "learning_rate", "passes", "secretary_problem", "keyword"],
)  # fmt: skip
def test_a_name_that_only_sounds_like_one_is_recorded(name: str) -> None:
    assert not looks_secret(name, "7")


@pytest.mark.parametrize(
    "value",
    ["postgresql://u:p@host/db", "-----BEGIN RSA PRIVATE KEY-----", "AKIA" + "A" * 16, "ghp_" + "a" * 36, "eyJhbGciOiJI.eyJzdWIiOiIx.x",
     "AccountName=x;AccountKey=abc", "https://x.blob.net/c?sv=1&sig=abc", "host=db password=abc"],
)  # fmt: skip
def test_a_value_like_a_credential_is_withheld_whatever_its_name(value: str, tmp_path: Path) -> None:
    run = told(tmp_path, params=[{"key": "source", "value": value}, {"key": "depth", "value": "7"}])
    assert (run.parameters, run.withheld) == ((("depth", "7"),), ("source",))
    assert value.encode() not in canonical_json(run.as_json())


@pytest.mark.parametrize("value", ["https://host/path?x=1", "s3://bucket/key", "user@example.org", "a:b@c", "design=2"])
def test_an_address_without_a_password_is_recorded(value: str) -> None:
    assert not looks_secret("source", value)


def test_more_than_can_be_recorded_is_counted(tmp_path: Path) -> None:
    many = [{"key": f"p{number:04}", "value": "x" * (LONGEST + 1)} for number in range(MOST + 7)]
    run = told(tmp_path, params=many, metrics=[{"key": f"m{number}", "value": 0.5} for number in range(MOST + 5)])
    assert (len(run.parameters), len(run.metrics), run.left_out) == (MOST, MOST, 12)
    assert run.parameters[0] == ("p0000", "x" * (LONGEST - 1) + "…")


@settings(deadline=None)
@given(st.floats())
def test_a_metric_is_text_that_reads_back_as_the_same_number(value: float) -> None:
    run = told(Path("/nowhere"), metrics=[{"key": "m", "value": value}])
    text = dict(run.metrics)["m"]
    assert isinstance(text, str)
    assert float(text) == value or value != value


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_whatever_a_run_says_the_ledger_can_take_it(params: dict[str, str]) -> None:
    run = told(Path("/nowhere"), params=[{"key": key, "value": value} for key, value in params.items()])
    assert plain(run.as_json(), "payload") == run.as_json()


def test_a_run_that_mlflow_deleted_for_good_is_recorded_as_gone(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("mlflow\n")
    run = read_run(Told({}), "gone", tmp_path)
    assert run.gone
    assert [name for name, _ in run.environment] == ["requirements.txt"]
