"""HTTP as uvicorn reads it, but bounded, with every offer of another protocol declined, and an answer written in one go.

Neither uvicorn nor llhttp bounds a head, trailers or the size of a chunk: a caller that never ends them has memory without
limit. And where a request offers to go on in another protocol, as Java's client does with its first (`upgrade: h2c`),
httptools passes over its body, whose bytes would then be read as a request. Of several requests that are under way on one
connection uvicorn tells only the last one that its caller has left; the others would be written to nobody, which is an error.
It writes the head of an answer before there is a body, which makes two packets of each and two calls of the kernel. And
one that is told to stop waits for a connection that it took just then, on which nobody ever asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .exchange import UNDER_WAY, UnderWay

HEAD_BYTES = 64 << 10
"""As much as Envoy takes (`max_request_headers_kb`); counted by what arrived at once, so that a little more may pass."""
MOST_OFFERS = 8
"""In what arrived at once: each costs reading the rest once more."""
OFFERS = (b"upgrade", b"http2-settings")


LATE_SECONDS = 0.5
"""How long whoever connects to a server that is ending has to ask: it was let in before, and is answered."""
CONTINUE = b"HTTP/1.1 100"


class Whole:
    """A transport that keeps the head of an answer until its body is written: whoever sends the one sends the other next."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head = b""
        # asked with each answer: as an attribute it is found in a tenth of the time
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write a body with its head before it, or anything else at once."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(CONTINUE) and data.endswith(b"\r\n\r\n"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write a head to which there is no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Write what is left, and close."""
        self.flush()
        self._transport.close()


class Bounded(HttpToolsProtocol):
    """A connection whose requests have heads and trailers of HEAD_BYTES at most; one with more is told 400 and closed."""

    _without_end = 0
    _answering: RequestResponseCycle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        self._whole = Whole(transport)
        if getattr(self.config, "draining", False):
            self.loop.call_later(LATE_SECONDS, self._close_unasked)
        super().connection_made(self._whole)  # type: ignore[arg-type]  # it is one in all that uvicorn asks of it

    def _close_unasked(self) -> None:
        if getattr(self, "cycle", None) is None:
            self._whole.close()

    def data_received(self, data: bytes) -> None:
        """Read what arrived."""
        self._unset_keepalive_if_required()
        self._without_end += len(data)
        try:
            self._read(data)
        except httptools.HttpParserError:
            self._refuse("Invalid HTTP request received.")
        if self._without_end > HEAD_BYTES:
            self._refuse(f"The head must not have more than {HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """Begin a request: what arrived with its first byte may be the rest of the one before."""
        self._without_end = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End a head; one with an offer is read once more without it."""
        self._without_end = 0
        if not self._offers():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._without_end = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._without_end = 0
        if not self._offers():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer."""
        self._whole.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the caller has left."""
        self._nobody_waits()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        cycle.scope["extensions"] = {UNDER_WAY: UnderWay(cycle, self.tasks)}  # type: ignore[dict-item]  # it is our own
        super()._start_asgi_task(cycle, app)

    def _nobody_waits(self) -> None:
        under_way = [cycle for cycle, _ in self.pipeline] + ([] if self._answering is None else [self._answering])
        for cycle in under_way:
            cycle.disconnected = True
            cycle.message_event.set()

    def _offers(self) -> bool:
        """Say whether the head that was read offers another protocol; CONNECT does, and is refused as no request."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _read(self, data: bytes) -> None:
        for _ in range(MOST_OFFERS):
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = b"".join(self._without_offer()) + data[offer.args[0] :]
                # the one that has read the offer may take itself to be at the end of the connection
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._refuse("Too many offers of another protocol.")

    def _without_offer(self) -> Iterator[bytes]:
        """Yield the head that was read without its offer."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        yield b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in OFFERS)
            if name not in OFFERS:
                yield b"%b: %b\r\n" % (name, value)
        yield b"\r\n"

    def _refuse(self, message: str) -> None:
        if not self.transport.is_closing():
            self._nobody_waits()
            self.send_400_response(message)
