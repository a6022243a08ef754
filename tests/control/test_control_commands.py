"""What the commands do with text that is not ours, and with answers that are not as they should be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from control import release_commands, stack_commands
from control.ledger_commands import show
from control.predict_command import ask, read_rows
from control.stack import orchestrator
from control.stack.components import Site, components
from control.stack.records import ensure_credentials, record_stack
from control.stack.view import ComponentView, Prober
from fleet.errors import InputError, OperationFailed, UnknownName
from fleet.home import Home
from fleet.phases import ReleasePhase
from fleet.settings import Settings
from flows.desires import observe_candidate
from flows.house import House
from flows.journal import Journal
from support.stack import toy_fleet, write_fleet

LIKE_MARKUP = "connection refused: [/v2/health] [bold] :boom:"


@contextmanager
def answering(status: int, body: str) -> Iterator[int]:
    """A server that gives one answer to everything; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    home = Home(tmp_path / "home")
    write_fleet(home, toy_fleet(("toy",)))
    ensure_credentials(home)
    monkeypatch.setenv("CONVOY_HOME", str(home.root))
    found = House(Settings(home=home.root), home)
    found.ledger.migrate()
    return found


def csv(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    return file


def test_rows_of_a_csv_file_are_numbers_where_they_are_written_so(tmp_path: Path) -> None:
    assert read_rows(csv(tmp_path, "a,b,c\n1,2.5,x\n\n-3,1e3,y y\n")) == [{"a": 1, "b": 2.5, "c": "x"}, {"a": -3, "b": 1000.0, "c": "y y"}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2\n3\n", "line 3"),
        ("a,b\n1,2,3\n", "line 2"),
        ("a,b\n1,nan\n", "line 2, column b"),
        ("a,b\n1,NaN\n", "line 2, column b"),
        ("a,b\n1,2\n1,-inf\n", "line 3, column b"),
        ("a,b\n1_000,2\n", "line 2, column a"),
        ("a,b\n", "rows.csv"),
    ],
)
def test_a_csv_line_that_cannot_be_sent_is_named(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        read_rows(csv(tmp_path, text))
    assert caught.value.subject.endswith(line)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_json_rows_with_what_is_no_number_are_refused(tmp_path: Path, number: str) -> None:
    file = tmp_path / "rows.json"
    file.write_text(f'[{{"x": {number}}}]')
    with pytest.raises(InputError, match="no number in JSON"):
        read_rows(file)


@pytest.mark.parametrize("request_", ["a\n1\n", '{"inputs": []}'])
def test_a_model_that_is_not_served_yet_is_not_the_fault_of_the_rows(house: House, tmp_path: Path, request_: str) -> None:
    file = tmp_path / ("request.json" if request_.startswith("{") else "rows.csv")
    file.write_text(request_)
    with answering(404, "") as port:
        record_stack(house.home, port - 3)
        with pytest.raises(OperationFailed, match="is not served yet"):
            ask("toy", file)


def test_an_unknown_stream_is_told(house: House) -> None:
    with pytest.raises(UnknownName, match="release/typo"):
        show("release/typo", as_json=False)


def test_reasons_are_printed_as_they_are(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    assert desire is not None
    journal = Journal(house.ledger, desire, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    journal.enter(ReleasePhase.REJECTED, LIKE_MARKUP)
    answer = release_commands.Answer(desire, LIKE_MARKUP, woken=False)
    release_commands._follow(house, answer, release_commands.Following(wait=True, seconds=1, as_json=False))
    printed = capsys.readouterr()
    assert LIKE_MARKUP in printed.out
    assert f"warning {LIKE_MARKUP}" in printed.err


def test_why_a_component_is_ill_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    ill = ComponentView("edge", "http://here", healthy=False, reason="refused [/x]")
    stack_commands._show_components(stack_commands.StackView("id", Path("/home/[/y]"), (ill,)))
    printed = capsys.readouterr().out
    assert "refused [/x]" in printed
    assert "[/y]" in printed


def test_the_actor_of_the_command_names_no_person() -> None:
    assert release_commands.ACTOR == "convoy command"


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"version": "1.2"}'])
def test_a_version_answer_that_is_not_as_expected_makes_the_component_ill(house: House, body: str) -> None:
    site = Site(house.home, house.settings, record_stack(house.home, 21300), ensure_credentials(house.home))
    edge = next(component for component in components(site) if component.name == "edge")
    with answering(200, body) as port, Prober() as prober:
        url = f"http://127.0.0.1:{port}/"
        (found,) = prober.ask([replace(edge, health=url, version_url=url)])
    assert not found.healthy
    assert found.reason == f"its version answer is not what it should be: {body}"


def test_deployments_that_take_too_long_are_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orchestrator, "DEPLOY_SECONDS", 0.05)
    site = Site(house.home, house.settings, record_stack(house.home, 21300), ensure_credentials(house.home))
    with pytest.raises(OperationFailed, match=r"prefect deploy --all.*took longer than 0\.05 seconds"):
        orchestrator._deploy(site)
