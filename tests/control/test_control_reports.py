"""Reports open in a browser, and nothing else on the machine does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from control.api import make_app
from fleet.home import Home
from fleet.settings import Settings
from flows.house import House

URL = "http://127.0.0.1:7400"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    folder = home.reports / "drift" / "employment"
    folder.mkdir(parents=True)
    (folder / "20261122T120000Z.html").write_text("<p>Zürich</p>", encoding="utf-8")
    (folder / "20261122T120000Z.json").write_text('{"outcome": "stable"}')
    (folder / ".hidden.html").write_text("no")
    (folder / "run.sh").write_text("no")
    (folder / "folder.html").mkdir()
    (folder / "linked.html").symlink_to(home.credentials_file)
    (home.reports / "elsewhere").symlink_to(tmp_path)
    (home.reports / "top.json").write_text("{}")
    os.mkfifo(folder / "pipe.html")
    home.credentials_file.write_text('{"api_token": "secret"}')
    return home


@pytest.fixture
def client(home: Home) -> TestClient:
    return TestClient(make_app(House(Settings(home=home.root), home)), base_url=URL, raise_server_exceptions=False)


def test_a_report_opens_with_its_type_and_can_send_nothing_anywhere(client: TestClient) -> None:
    page, figures = (client.get(f"/reports/drift/employment/20261122T120000Z.{kind}") for kind in ("html", "json"))
    assert (page.status_code, page.text, page.headers["content-type"]) == (200, "<p>Zürich</p>", "text/html; charset=utf-8")
    assert (figures.json(), figures.headers["content-type"]) == ({"outcome": "stable"}, "application/json")
    policy = page.headers["content-security-policy"]
    for rule in ("sandbox allow-scripts", "default-src 'none'", "connect-src 'none'", "form-action 'none'", "script-src 'unsafe-inline'"):
        assert rule in policy
    assert "http" not in policy
    assert "allow-same-origin" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "drift/employment/nowhere.html",
        "drift/employment",
        "drift",
        "",
        "top.json",
        "drift/employment/.hidden.html",
        "drift/employment/run.sh",
        "drift/employment/folder.html",
        "drift/employment/linked.html",
        "drift/employment/pipe.html",
        "elsewhere/credentials.json",
        "%2e%2e/credentials.json",
        "drift/%2e%2e/%2e%2e/credentials.json",
        "drift/..%2f..%2fcredentials.json",
        "drift//employment/20261122T120000Z.html",
        "%2fetc/hosts.json",
        "drift/employment/20261122T120000Z.html%00.json",
        "drift\\employment\\20261122T120000Z.html",
        "x" * 5000 + "/a.html",
    ],
)
def test_everything_else_is_not_there(client: TestClient, path: str) -> None:
    answer = client.get(type(client.base_url)(f"{URL}/reports/{path}"))
    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert answer.json()


def test_a_report_cannot_be_changed(client: TestClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/reports/drift/employment/20261122T120000Z.html").status_code == 405


def test_a_page_whose_name_was_made_to_mean_this_machine_sees_no_report(home: Home) -> None:
    client = TestClient(make_app(House(Settings(home=home.root), home)), base_url="http://attacker.example:7400")
    answer = client.get("/reports/drift/employment/20261122T120000Z.html")
    assert (answer.status_code, answer.json()["error"]) == (403, "Refused")
