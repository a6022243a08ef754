"""HTTP as uvicorn reads it, but bounded, and with every offer of another protocol declined.

Neither uvicorn nor llhttp bounds a head, trailers or the size of a chunk: a caller that never ends them has memory without
limit. And where a request offers to go on in another protocol, as Java's client does with its first (`upgrade: h2c`),
httptools passes over its body, whose bytes would then be read as a request. Of several requests that are under way on one
connection uvicorn tells only the last one that its caller has left; the others would be written to nobody, which is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES = 64 << 10
"""As much as Envoy takes (`max_request_headers_kb`); counted by what arrived at once, so that a little more may pass."""
MOST_OFFERS = 8
"""In what arrived at once: each costs reading the rest once more."""
OFFERS = (b"upgrade", b"http2-settings")


class Bounded(HttpToolsProtocol):
    """A connection whose requests have heads and trailers of HEAD_BYTES at most; one with more is told 400 and closed."""

    _without_end = 0
    _answering: RequestResponseCycle | None = None

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

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the caller has left."""
        self._nobody_waits()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
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
