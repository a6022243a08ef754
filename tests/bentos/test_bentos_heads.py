"""The head of an answer travels with its body."""

from __future__ import annotations

import asyncio

import pytest
from uvicorn.server import ServerState

from bentos.service import heads
from bentos.service.heads import Whole
from bentos.service.server import Configuration

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorded:
    def __init__(self) -> None:
        self.said: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def close(self) -> None:
        self.said.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.said


def test_a_head_waits_for_its_body_and_nothing_else_waits() -> None:
    kept = Recorded()
    whole = Whole(kept)
    whole.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    whole.write(HEAD)
    assert kept.said == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    whole.write(b"ok")
    whole.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad")
    assert kept.said[1:] == [HEAD + b"ok", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nbad"]


def test_a_body_of_nothing_and_a_close_let_the_head_go() -> None:
    kept = Recorded()
    whole = Whole(kept)
    whole.write(HEAD)
    whole.write(b"")
    whole.write(HEAD)
    whole.flush()
    whole.write(HEAD)
    whole.close()
    assert kept.said == [HEAD, HEAD, HEAD, "closed"]
    assert whole.is_closing()


class Connection(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("draining", [True, False])
def test_a_connection_that_a_server_takes_while_it_ends_is_closed_unless_somebody_asks(
    draining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "LATE_SECONDS", 0.0)

    async def story() -> bool:
        configuration = Configuration(app=None, lifespan="off", log_config=None)
        configuration.load()
        configuration.draining = draining
        connection = Connection()
        heads.Bounded(configuration, ServerState(), {}).connection_made(connection)
        for _ in range(3):
            await asyncio.sleep(0.001)
        return connection.closed

    assert asyncio.run(story()) is draining
