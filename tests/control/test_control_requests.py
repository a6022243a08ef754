"""What the doors do with a wish: one desire, an honest answer, and nothing believed that is not so."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from fastapi.testclient import TestClient

from control.api import make_app, receive
from control.doors import request_release, request_rollback
from control.release_commands import wait_for_end
from control.views import release_views
from fleet.errors import InputError, OperationFailed, UnknownName, Unreachable
from fleet.phases import ReleasePhase
from flows.desires import Desire, Why, alias_owed, desires, model_stream, observe_candidate
from flows.house import House
from flows.journal import Journal
from flows.rollback_request import observe
from registry import models
from registry.ledger import Event, Ledger, NewEvent
from registry.models import MlflowModels
from registry.rest import SECONDS
from support.stack import house_without_servers, toy_fleet, write_fleet


class Aliases:
    """What is needed of MLflow here: where the alias points, and that every version has a schema."""

    def __init__(self, version: str | None = None) -> None:
        self.named = version

    def alias(self, _model: str, _name: str) -> str | None:
        return self.named

    def set_alias(self, _model: str, _name: str, version: str) -> None:
        self.named = version

    def version(self, *_: object) -> None:
        """Every version is registered."""

    def download(self, *_: object) -> None:
        """Its files are not looked at."""

    def schema(self, _: Path) -> str:
        return "it has one"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


@pytest.fixture
def aliases(house: House) -> Aliases:
    found = Aliases()
    vars(house)["models"] = found
    return found


def finish(house: House, desire: Desire, phase: ReleasePhase = ReleasePhase.REJECTED) -> None:
    journal = Journal(house.ledger, desire, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    journal.enter(phase, "as the test wants it")


def make_stable(house: House, version: str) -> None:
    payload = {"version": version, "digest": f"sha256:{version}", "release": f"toy-{version}"}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", payload, "test", model="toy"))


def wanted(house: House, version: str) -> Desire:
    return request_release(house, "toy", version, again=False, actor="test").desire


def delivery(house: House, version: str, name: str = "d-1") -> tuple[dict[str, str], bytes]:
    data = {"name": "toy", "alias": "candidate", "version": version}
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()
    at = str(int(time.time()))
    digest = hmac.new(house.credentials.webhook_secret.encode(), f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    return {"x-mlflow-delivery-id": name, "x-mlflow-timestamp": at, "x-mlflow-signature": signature}, body


def test_a_rollback_while_a_release_is_under_way_goes_back_to_what_serves_and_to_nothing_older(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        make_stable(house, version)
    wanted(house, "3")
    desire = request_rollback(house, "toy", None, "test").desire
    assert (desire.version, desire.why, aliases.named) == ("2", Why.ROLLBACK, "2")
    finish(house, desires(house.ledger, "toy")[-2])
    finish(house, desire)
    assert request_rollback(house, "toy", None, "test").desire.version == "1"


def test_again_opens_one_desire_although_the_webhook_saw_the_alias_move_first(house: House, aliases: Aliases) -> None:
    finish(house, wanted(house, "1"))
    finish(house, wanted(house, "2"))

    class Watched(Aliases):
        def set_alias(self, _model: str, _name: str, version: str) -> None:
            self.named = version
            observe_candidate(house.ledger, "toy", version, "webhook")

    vars(house)["models"] = Watched(aliases.named)
    found = request_release(house, "toy", "1", again=True, actor="test").desire
    assert found == Desire("toy-3", "toy", "1", Why.ALIAS)
    assert len(desires(house.ledger, "toy")) == 3


def test_again_returns_the_release_that_is_still_running(house: House, aliases: Aliases) -> None:
    running = wanted(house, "1")
    assert request_release(house, "toy", "1", again=True, actor="test").desire == running
    finish(house, running)
    assert request_release(house, "toy", "1", again=True, actor="test").desire == Desire("toy-2", "toy", "1", Why.AGAIN)


def test_a_version_that_was_tried_is_told_and_not_answered_with_its_old_result(house: House, aliases: Aliases) -> None:
    finish(house, wanted(house, "1"))
    with pytest.raises(InputError, match="was released already: rejected") as caught:
        wanted(house, "1")
    assert "--again" in caught.value.remedy


def test_going_back_from_a_move_that_nobody_saw_yet_is_a_release_of_its_own(house: House, aliases: Aliases) -> None:
    old = wanted(house, "2")
    finish(house, old)
    aliases.named = "3"
    assert wanted(house, "2") == Desire("toy-3", "toy", "2", Why.ALIAS)
    assert [desire.version for desire in desires(house.ledger, "toy")] == ["2", "3", "2"]


def test_a_rollback_that_failed_can_be_asked_for_again(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        make_stable(house, version)
    failed = request_rollback(house, "toy", None, "test").desire
    assert (failed.version, failed.why, aliases.named) == ("1", Why.ROLLBACK, "1")
    finish(house, failed, ReleasePhase.FAILED)
    second = request_rollback(house, "toy", None, "test").desire
    assert (second.release, second.version, second.why) == ("toy-4", "1", Why.ROLLBACK)


def test_a_rollback_asked_for_twice_does_not_turn_round_when_its_version_is_stable_already(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        make_stable(house, version)
    first = request_rollback(house, "toy", None, "test").desire
    make_stable(house, "1")
    assert request_rollback(house, "toy", None, "test").desire == first


def test_a_rollback_to_a_version_that_mlflow_has_no_more_changes_nothing(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        make_stable(house, version)

    class Deleted(Aliases):
        def version(self, model: str, version: str) -> None:
            raise UnknownName(f"model '{model}' version {version}", "is not registered in MLflow")

    vars(house)["models"] = Deleted("2")
    before = house.ledger.verify()
    with pytest.raises(UnknownName, match="version 1"):
        request_rollback(house, "toy", None, "test")
    assert house.ledger.verify() == before


class Away(Aliases):
    """MLflow does not answer."""

    def alias(self, _model: str, _name: str) -> str | None:
        raise Unreachable("MLflow", "did not answer", "Run `convoy up`.")

    def set_alias(self, *_: str) -> None:
        raise Unreachable("MLflow", "did not answer", "Run `convoy up`.")

    def version(self, *_: object) -> None:
        raise Unreachable("MLflow", "did not answer", "Run `convoy up`.")


def two_stable_versions(house: House, tmp_path: Path) -> None:
    """Versions 1 and 2 were stable, 2 last; the revision of version 1 is stored."""
    (tmp_path / "bento").mkdir()
    (tmp_path / "bento" / "model").write_text("version 1")
    stored = house.origin.put_tree(tmp_path / "bento").digest
    for version, digest in (("1", stored), ("2", f"sha256:{2:064}")):
        finish(house, wanted(house, version))
        payload = {"version": version, "digest": digest, "release": f"toy-{version}"}
        house.ledger.append(NewEvent(model_stream("toy"), "stable.set", payload, "test", model="toy"))


def test_a_rollback_needs_no_mlflow_and_the_alias_follows_once_it_is_back(house: House, aliases: Aliases, tmp_path: Path) -> None:
    two_stable_versions(house, tmp_path)
    vars(house)["models"] = Away()
    answer = request_rollback(house, "toy", None, "test")
    assert (answer.desire.release, answer.desire.version, answer.desire.why) == ("toy-3", "1", Why.ROLLBACK)
    assert "version 1 within a minute of its return" in answer.missing
    assert request_rollback(house, "toy", None, "test").desire == answer.desire

    vars(house)["models"] = aliases
    assert aliases.named == "2"
    assert observe(house, "toy", "reconcile") is None
    assert aliases.named == "1"
    assert alias_owed(house.ledger, "toy") is None
    assert len(desires(house.ledger, "toy")) == 3


@pytest.mark.parametrize("hangs_from", ["version", "alias"])
def test_a_rollback_waits_once_and_shortly_for_an_mlflow_that_hangs(
    house: House, aliases: Aliases, tmp_path: Path, hangs_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_stable_versions(house, tmp_path)
    assert models.QUICK_SECONDS <= 3
    monkeypatch.setattr(models, "QUICK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = MlflowModels(f"http://127.0.0.1:{silent.getsockname()[1]}")
        if hangs_from == "alias":
            vars(hanging)["version"] = aliases.version
        vars(house)["models"] = hanging
        began = time.monotonic()
        answer = request_rollback(house, "toy", None, "test")
        assert time.monotonic() - began < SECONDS / 2
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert (answer.desire.version, answer.desire.why) == ("1", Why.ROLLBACK)
    assert desires(house.ledger, "toy")[-1] == answer.desire
    assert alias_owed(house.ledger, "toy") == "1"


def test_an_alias_that_somebody_moved_unseen_before_a_rollback_without_mlflow_is_a_move_as_ever(
    house: House, aliases: Aliases, tmp_path: Path
) -> None:
    two_stable_versions(house, tmp_path)
    vars(house)["models"] = Away()
    request_rollback(house, "toy", None, "test")
    vars(house)["models"] = Aliases("3")
    assert observe(house, "toy", "reconcile") == Desire("toy-4", "toy", "3", Why.ALIAS)


def test_a_second_rollback_without_mlflow_still_knows_what_the_alias_names(house: House, aliases: Aliases, tmp_path: Path) -> None:
    two_stable_versions(house, tmp_path)
    vars(house)["models"] = Away()
    finish(house, request_rollback(house, "toy", None, "test").desire, ReleasePhase.FAILED)
    assert request_rollback(house, "toy", "1", "test").desire.release == "toy-4"
    vars(house)["models"] = aliases
    assert observe(house, "toy", "reconcile") is None
    assert aliases.named == "1"


def test_an_alias_that_can_follow_no_rollback_any_more_keeps_no_newer_version_waiting(
    house: House, aliases: Aliases, tmp_path: Path
) -> None:
    class Lost(Aliases):
        def set_alias(self, _model: str, _name: str, version: str) -> None:
            if version == "1":
                raise UnknownName("model 'toy' version 1", "is not registered in MLflow")
            self.named = version

    two_stable_versions(house, tmp_path)
    vars(house)["models"] = Away()
    request_rollback(house, "toy", None, "test")
    vars(house)["models"] = Lost("2")
    assert wanted(house, "3") == Desire("toy-4", "toy", "3", Why.ALIAS)
    assert alias_owed(house.ledger, "toy") is None


def test_a_rollback_to_what_is_neither_stored_nor_in_mlflow_now_changes_nothing(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        payload = {"version": version, "digest": f"sha256:{version:0>64}", "release": f"toy-{version}"}
        house.ledger.append(NewEvent(model_stream("toy"), "stable.set", payload, "test", model="toy"))
    vars(house)["models"] = Away()
    before = house.ledger.verify()
    with pytest.raises(Unreachable, match="not stored any more"):
        request_rollback(house, "toy", None, "test")
    assert house.ledger.verify() == before


def test_a_release_after_a_rollback_that_was_cut_off_releases_what_is_asked_for(house: House, aliases: Aliases) -> None:
    for version in ("1", "2"):
        finish(house, wanted(house, version))
        make_stable(house, version)

    class Dies(Aliases):
        def set_alias(self, *_: str) -> None:
            raise KeyboardInterrupt

    vars(house)["models"] = Dies("2")
    with pytest.raises(KeyboardInterrupt):
        request_rollback(house, "toy", None, "test")
    vars(house)["models"] = aliases
    assert wanted(house, "2") == Desire("toy-4", "toy", "2", Why.ALIAS)


def test_prefect_away_is_told(house: House, aliases: Aliases) -> None:
    answer = request_release(house, "toy", "1", again=False, actor="test")
    assert not answer.woken
    assert "Prefect: does not answer" in answer.says
    headers = {"authorization": f"Bearer {house.credentials.api_token}"}
    told = TestClient(make_app(house)).post("/releases", json={"model": "toy", "version": "1"}, headers=headers)
    assert told.status_code == 202
    assert (told.json()["release"], told.json()["says"]) == ("toy-1", answer.says)


def test_waiting_has_a_limit_and_names_the_phase(house: House, aliases: Aliases) -> None:
    release = wanted(house, "1").release
    with pytest.raises(OperationFailed, match=r"has not ended within 0\.1 seconds, it is in phase 'requested'"):
        wait_for_end(house, "toy", release, quiet=True, seconds=0.1)


def test_a_late_webhook_does_not_bring_back_an_older_version(house: House, aliases: Aliases) -> None:
    aliases.named = "3"
    assert receive(house, *delivery(house, "3", "d-3")).release == "toy-1"
    assert receive(house, *delivery(house, "2", "d-2")).release is None
    assert [desire.version for desire in desires(house.ledger, "toy")] == ["3"]


def test_mlflow_away_is_a_503_and_the_same_delivery_is_taken_later(house: House) -> None:
    client = TestClient(make_app(house))
    headers, body = delivery(house, "1")
    assert client.post("/webhooks/mlflow", content=body, headers=headers).status_code == 503
    assert house.ledger.verify() == 0
    vars(house)["models"] = Aliases("1")
    assert client.post("/webhooks/mlflow", content=body, headers=headers).json()["release"] == "toy-1"


def test_a_broken_ledger_lets_no_door_act(house: House, aliases: Aliases) -> None:
    finish(house, wanted(house, "1"))
    make_stable(house, "1")
    with closing(sqlite3.connect(house.home.ledger_file)) as changed, changed:
        changed.execute("UPDATE events SET actor = 'somebody else' WHERE seq = 1")
    before = house.ledger.events()
    client = TestClient(make_app(house))
    token = {"authorization": f"Bearer {house.credentials.api_token}"}
    headers, body = delivery(house, "2")
    answers = (
        client.post("/releases", json={"model": "toy", "version": "2"}, headers=token),
        client.post("/rollbacks", json={"model": "toy", "version": "1"}, headers=token),
        client.post("/webhooks/mlflow", content=body, headers=headers),
    )
    for answer in answers:
        assert (answer.status_code, answer.json()["error"], answer.json()["subject"]) == (500, "LedgerBroken", "ledger event 1")
        assert "until a human has looked" in answer.json()["remedy"]
    assert (aliases.named, house.ledger.events()) == ("1", before)


def test_why_a_release_was_left_unfinished_is_shown_until_it_goes_on(house: House, aliases: Aliases) -> None:
    desire = wanted(house, "1")
    journal = Journal(house.ledger, desire, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    journal.interrupted(Unreachable("MLflow", "did not answer", "Check that it runs."))
    (view,) = release_views(house.ledger, "toy")
    assert (view.phase, view.reasons) == ("validating", ("left unfinished for now: MLflow: did not answer. Check that it runs.",))
    journal.enter(ReleasePhase.PACKAGING)
    assert release_views(house.ledger, "toy")[0].reasons == ()


class Growing:
    """A ledger in which somebody opens a release whenever a model's events were read."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._versions = itertools.count(2)

    def stream(self, name: str, *types: str) -> tuple[Event, ...]:
        found = self._ledger.stream(name, *types)
        if name == model_stream("toy"):
            observe_candidate(self._ledger, "toy", str(next(self._versions)), "test")
        return found


def test_a_release_that_is_opened_while_they_are_listed_breaks_no_listing(house: House, aliases: Aliases) -> None:
    wanted(house, "1")
    assert [view.version for view in release_views(cast("Ledger", Growing(house.ledger)), "toy")] == ["1"]


def test_a_model_that_is_declared_later_needs_no_restart(house: House, aliases: Aliases) -> None:
    client = TestClient(make_app(house))
    headers = {"authorization": f"Bearer {house.credentials.api_token}"}
    assert client.get("/releases", params={"model": "late"}, headers=headers).status_code == 404
    write_fleet(house.home, toy_fleet(("toy", "late")))
    assert client.get("/releases", params={"model": "late"}, headers=headers).json() == []


def test_a_large_body_is_refused_before_its_signature_is_looked_at(house: House) -> None:
    answer = TestClient(make_app(house)).post("/webhooks/mlflow", content=b"x" * (64 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
