"""The head of an answer travels with its body."""

from __future__ import annotations

from bentos.service.heads import Whole

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
