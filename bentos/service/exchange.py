"""One request and its answer, at the level of ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from .errors import ClientLeft, TooLarge, TooSlow
from .visits import Visit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Hold = Callable[[Visit, int], None]
"""Takes note of so many more bytes that a visit has in memory; raises a Problem where that is too much."""


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

    async def body(self, limit: int, seconds: float, hold: Hold) -> bytes:
        """Return the body, held piece by piece.

        Raises TooLarge over the limit, TooSlow past the time, ClientLeft when it breaks off, and what `hold` raises.
        """
        too_large = TooLarge(f"the body must not have more than {limit} bytes")
        if int(self.headers.get(b"content-length", b"0")) > limit:
            raise too_large
        try:
            async with asyncio.timeout(seconds):
                return await self._pieces(limit, too_large, hold)
        except TimeoutError as problem:
            raise TooSlow(f"the body must be there within {seconds:g} s") from problem

    async def _pieces(self, limit: int, too_large: TooLarge, hold: Hold) -> bytes:
        chunks, more = [], True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk: bytes = message.get("body", b"")
            chunks.append(chunk)
            self.visit.received += len(chunk)
            if self.visit.received > limit:
                raise too_large
            hold(self.visit, len(chunk))
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def answer(self, status: int, body: bytes, headers: Headers, content_type: str = "application/json") -> None:
        """Send the whole answer."""
        fixed = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": fixed + headers})
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})
