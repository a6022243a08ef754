"""One request and its answer, at the level of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sized
from typing import Any, NamedTuple

from .errors import ClientLeft, TooLarge, TooSlow
from .visits import Visit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Hold = Callable[[Visit, int], None]
"""Takes note of so many more bytes that a visit has in memory; raises a Problem where that is too much."""
UNDER_WAY = "convoy.under_way"
"""Under which of ASGI's extensions our own server tells how a request stands."""
NOTHING: Mapping[str, Any] = {}


class UnderWay(NamedTuple):
    """How a request stands: whether more of its body is to come, and which others are under way."""

    cycle: Any
    requests: Sized


class Exchange:
    """A request that is answered exactly once; every answer carries revision, region and request id."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # the server gives names in lower case; of a repeated header the first counts
        self.headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))
        self.visit = Visit(self.headers)
        self._receive = receive
        self._send = send
        # nothing is known of a server that is not ours
        self._server: UnderWay | None = scope.get("extensions", NOTHING).get(UNDER_WAY)

    @property
    def alone(self) -> bool:
        """Whether it is known that no other request is under way on the server."""
        return self._server is not None and len(self._server.requests) <= 1

    async def body(self, limit: int, seconds: float, hold: Hold) -> bytes:
        """Return the body, held piece by piece.

        Raises TooLarge over the limit, TooSlow past the time, ClientLeft when it breaks off, and what `hold` raises.
        """
        if int(self.headers.get(b"content-length", b"0")) > limit:
            raise _too_large(limit)
        if self._server is not None and not self._server.cycle.more_body:
            # all of it is here, so nothing is waited for
            return await self._pieces(limit, hold)
        # as asyncio.timeout does, in a third of its time
        task, up = asyncio.current_task(), False

        def give_up() -> None:
            nonlocal up
            up = True
            assert task is not None
            task.cancel()

        timer = asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            return await self._pieces(limit, hold)
        except asyncio.CancelledError as problem:
            if not up or task is None or task.uncancel() > 0:
                raise
            raise TooSlow(f"the body must be there within {seconds:g} s") from problem
        finally:
            timer.cancel()

    async def _pieces(self, limit: int, hold: Hold) -> bytes:
        chunks, more = [], True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk: bytes = message.get("body", b"")
            chunks.append(chunk)
            self.visit.received += len(chunk)
            if self.visit.received > limit:
                raise _too_large(limit)
            hold(self.visit, len(chunk))
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def answer(self, status: int, body: bytes, headers: Headers, content_type: str = "application/json") -> None:
        """Send the whole answer."""
        fixed = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": fixed + headers})
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body must not have more than {limit} bytes")
