"""The doors of a running stack: what they show, and that wrong input changes nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.desires import CANDIDATE, observe_candidate

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
MODEL = "refused"


@pytest.fixture(scope="module")
def served(stack: TestStack) -> TestStack:
    """The stack with version 1 of a model released by the command."""
    version = stack.register(MODEL)
    done = stack.convoy("release", MODEL, "--version", version, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["phase"] == "promoted"
    return stack


def delivery(stack: TestStack, body: dict[str, Any], secret: str | None = None, name: str | None = None) -> httpx.Response:
    """Deliver a webhook as MLflow does."""
    text, name, at = json.dumps(body).encode(), name or str(uuid.uuid4()), str(int(time.time()))
    key = (secret or stack.house.credentials.webhook_secret).encode()
    digest = hmac.new(key, f"{name}.{at}.".encode() + text, hashlib.sha256).digest()
    headers = {
        "x-mlflow-delivery-id": name,
        "x-mlflow-timestamp": at,
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }
    return httpx.post(f"{stack.house.stack.control_url}/webhooks/mlflow", content=text, headers=headers, timeout=10)


def alias_set(model: str, version: str) -> dict[str, Any]:
    """Return the body of MLflow's webhook."""
    return {"entity": "model_version_alias", "action": "created", "data": {"name": model, "alias": "candidate", "version": version}}


def test_a_forged_webhook_changes_nothing(served: TestStack) -> None:
    before = served.snapshot(MODEL)
    answer = delivery(served, alias_set(MODEL, "7"), secret="guess")
    assert (answer.status_code, answer.json()["reason"]) == (403, "its signature is not ours")
    assert served.snapshot(MODEL) == before


def test_a_replayed_webhook_changes_nothing(served: TestStack) -> None:
    name = str(uuid.uuid4())
    assert delivery(served, alias_set(MODEL, "1"), name=name).status_code == 202
    before = served.snapshot(MODEL)
    answer = delivery(served, alias_set(MODEL, "1"), name=name)
    assert answer.status_code == 403
    assert "was received before" in answer.json()["reason"]
    assert served.snapshot(MODEL) == before


def test_a_late_webhook_of_another_version_opens_nothing_for_the_alias_is_what_counts(served: TestStack) -> None:
    before = served.releases(MODEL)
    answer = delivery(served, alias_set(MODEL, "7"))
    assert (answer.status_code, answer.json()["release"]) == (202, None)
    assert served.releases(MODEL) == before


def test_a_body_that_is_larger_than_any_webhook_is_refused_unread(served: TestStack) -> None:
    before = served.snapshot(MODEL)
    answer = delivery(served, alias_set(MODEL, "1") | {"padding": "x" * 65536})
    assert answer.status_code == 413
    assert served.snapshot(MODEL) == before


def test_a_webhook_for_an_undeclared_model_changes_nothing(served: TestStack) -> None:
    before = served.snapshot(MODEL)
    answer = delivery(served, alias_set("stranger", "1"))
    assert answer.status_code == 404
    assert "known: " in answer.json()["reason"]
    assert served.snapshot(MODEL) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("release", "stranger", "--version", "1"), "is not in fleet.yaml"),
        (("release", MODEL, "--version", "99"), "99"),
        (("release", MODEL, "--version", "one"), "one"),
        (("release", MODEL, "--version", "1"), "was released already: promoted"),
        (("rollback", MODEL), "no earlier stable version"),
        (("rollback", MODEL, "--version", "8"), "Once stable: 1"),
        (("predict", MODEL, "--input", "/nowhere.json"), "cannot be read"),
        (("ledger", "show", "--sream", "x"), "No such option"),
        (("ledger", "show", "--stream", "release/stranger-1"), "nothing was ever written to it"),
    ],
)
def test_wrong_input_is_told_with_exit_code_2_and_changes_nothing(served: TestStack, arguments: tuple[str, ...], says: str) -> None:
    before = served.snapshot(MODEL)
    done = served.convoy(*arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert served.snapshot(MODEL) == before


def test_a_version_without_schema_is_refused_before_anything_is_changed(served: TestStack) -> None:
    version = served.register(MODEL, schema=False)
    before = served.snapshot(MODEL)
    done = served.convoy("release", MODEL, "--version", version)
    assert done.returncode == 2
    assert "has no schema" in done.stderr
    assert "infer_signature" in done.stderr
    assert served.snapshot(MODEL) == before


def test_a_half_written_fleet_file_stops_every_command_and_changes_nothing(served: TestStack, tmp_path: Path) -> None:
    half = tmp_path / "fleet.yaml"
    text = served.house.home.fleet_file.read_text()
    half.write_text(text[: len(text) // 2])
    before = served.snapshot(MODEL)
    for command in (("up",), ("release", MODEL, "--version", "1", "--again"), ("status",)):
        done = served.convoy(*command, CONVOY_FLEET=str(half))
        assert done.returncode == 2, done.stderr
        assert str(half) in done.stderr
    assert served.snapshot(MODEL) == before


def test_status_shows_components_and_regions(served: TestStack) -> None:
    served.convoy("predict", MODEL, "--input", str(rows(served)))
    done = served.convoy("status", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {each["name"]: each["healthy"] for each in found["components"]}.items() >= dict.fromkeys(
        ("edge", "control", "prefect", "mlflow"), True
    ).items()
    assert set(found["regions"]) == set(served.house.fleet.regions)
    region = found["regions"]["europe-west4"]
    assert (region["provider"], region["place"]) == ("gcp", "europe-west4")
    model = region["models"][MODEL]
    assert (model["mlflow_version"], model["intended_weight"], model["state"]) == ("1", 100, "ready")
    assert model["revision"].startswith("sha256:")
    assert model["canary"] is None


def test_predict_answers_rows_and_names_the_wrong_column(served: TestStack, tmp_path: Path) -> None:
    done = served.convoy("predict", MODEL, "--input", str(rows(served)))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["answer"]["outputs"][0]["data"] == [2.0, 5.0]
    assert found["revision"].startswith("sha256:")
    assert found["region"] in served.house.fleet.regions
    wrong = tmp_path / "wrong.json"
    wrong.write_text('[{"y": 1.0}]')
    refused = served.convoy("predict", MODEL, "--input", str(wrong))
    assert refused.returncode == 2
    assert "y" in refused.stderr
    assert "x" in refused.stderr


def rows(stack: TestStack) -> Path:
    """Return a file with two rows."""
    file = stack.house.home.root / "rows.json"
    file.write_text('[{"x": 1.0}, {"x": 2.5}]')
    return file


def test_the_api_asks_for_its_token_and_shows_releases(served: TestStack) -> None:
    url = served.house.stack.control_url
    assert httpx.get(f"{url}/releases").status_code == 403
    assert httpx.get(f"{url}/releases", headers={"authorization": "Bearer wrong"}).status_code == 403
    headers = {"authorization": f"Bearer {served.house.credentials.api_token}"}
    found = httpx.get(f"{url}/releases", params={"model": MODEL}, headers=headers).json()
    assert [(each["version"], each["phase"]) for each in found] == [("1", "promoted")]
    assert httpx.get(f"{url}/releases/nothing", headers=headers).status_code == 404
    assert httpx.get(f"{url}/releases", params={"model": "stranger"}, headers=headers).status_code == 404
    unknown = httpx.post(f"{url}/releases", json={"model": MODEL, "version": "1", "force": True}, headers=headers)
    assert unknown.status_code == 422
    assert httpx.get(f"{url}/healthz").json()["status"] == "ok"
    assert "/webhooks/mlflow" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_a_version_that_a_gate_refuses_ends_with_exit_code_3_and_no_revision(served: TestStack) -> None:
    version = served.register(MODEL, schema=False)
    stores = served.snapshot(MODEL)["stores"]
    observe_candidate(served.house.ledger, MODEL, version, "test")
    served.house.models.set_alias(MODEL, CANDIDATE, version)
    assert served.flow(f"release({MODEL!r})").returncode == 0
    view = served.releases(MODEL)[-1]
    assert (view.phase, view.digest) == ("rejected", None)
    assert served.snapshot(MODEL)["stores"] == stores


def test_a_ledger_that_was_changed_is_told_with_exit_code_6_and_nothing_acts(served: TestStack, tmp_path: Path) -> None:
    copy = tmp_path / "ledger.db"
    with sqlite3.connect(served.house.home.ledger_file) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    with sqlite3.connect(copy) as changed:
        changed.execute("UPDATE events SET actor = 'somebody else' WHERE seq = 3")
    before = served.snapshot(MODEL)
    for command in (("ledger", "verify"), ("release", MODEL, "--version", "1", "--again"), ("rollback", MODEL)):
        done = served.convoy(*command, CONVOY_LEDGER_URL=f"sqlite:///{copy}")
        assert done.returncode == 6, done.stderr
        assert "event 3" in done.stderr
    assert served.snapshot(MODEL) == before
    good = served.convoy("ledger", "verify", "--json")
    assert json.loads(good.stdout)["verified"] is True
