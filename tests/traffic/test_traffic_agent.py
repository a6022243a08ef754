"""The agent as a process: what it refuses to start with, and when it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fleet.errors import Busy
from traffic.agent import main
from traffic.chores import Chores


def arguments(folder: Path, token: str) -> list[str]:
    file = folder / "token"
    file.write_text(token)
    ports = ["--port", "1", "--listener-port", "2", "--admin-port", "3"]
    return ["--edge", "edge-1", "--folder", str(folder), "--token-file", str(file), *ports]


@pytest.mark.parametrize("token", ["", "short", "ünïcödé-and-long-enough"])
def test_an_agent_wants_a_token_worth_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], token: str) -> None:
    assert main(arguments(tmp_path, token)) == 2
    assert "must hold at least 16 ASCII characters" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"schema":2,"held":[]}'])
def test_an_agent_does_not_start_over_a_state_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (tmp_path / "agent.json").write_bytes(content)
    assert main(arguments(tmp_path, "a-token-for-the-tests-only")) == 5
    assert "agent.json" in capsys.readouterr().err
    assert (tmp_path / "agent.json").read_bytes() == content


def test_a_chore_goes_on_after_an_error_of_ours() -> None:
    turns = threading.Semaphore(0)

    def chore() -> None:
        turns.release()
        raise Busy("chore", "somebody else does it")

    with Chores({chore: 0.01}, stop=lambda: pytest.fail("must go on")) as running:
        assert all(turns.acquire(timeout=5) for _ in range(3))
    assert not running.failed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_chore_that_breaks_ends_the_agent() -> None:
    stopped = threading.Event()

    def chore() -> None:
        raise ZeroDivisionError

    with Chores({chore: 0.01}, stop=stopped.set) as running:
        assert stopped.wait(5)
    assert running.failed
