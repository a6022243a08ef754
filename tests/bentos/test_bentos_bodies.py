"""The proof about hostile bodies itself: it sends what it says, and sees what is wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bentos_serving import Service, serving
from hostile_bodies import Hostile, fine, mutated

from proof.bodies import KINDS, Tally, Wire, _made, _send


@pytest.fixture(scope="module")
def service(echo_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log") as service:
        yield service


def test_a_sample_of_every_kind_is_answered_as_it_must(service: Service) -> None:
    tally = Tally()
    for kind, strategy in KINDS.items():
        _send(service, tally, kind, _made(strategy, 400, 1))

    assert tally.wrong == {kind: [] for kind in KINDS}
    assert tally.count == 1600


def test_good_requests_are_answered_and_their_damage_is_reproducible(service: Service) -> None:
    wire = Wire(service.port)

    assert [wire.ask(request) for request in fine()] == [200] * 4
    assert mutated(fine()[0], 50, 3) == mutated(fine()[0], 50, 3)
    assert len({request.body for request in mutated(fine()[0], 50, 3)}) > 45
    wire.close()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 x\r\ncontent-length: 1\r\n\r\nx", b""])
def test_a_5xx_or_no_answer_at_all_is_wrong(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        tally, (kind, *_) = Tally(), KINDS
        request = Hostile("/score", b"{")
        tally.take(kind, request, Wire(listening.getsockname()[1]).ask(request), 0.0)
        server.join(10)

    assert len(tally.wrong[kind]) == 1
