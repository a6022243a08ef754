"""Takes callers' requests for a container of a model's owner: bounded, counted, handed on, and answered whole or with an error.

It runs in the container's network namespace, so the container needs no network of the machine, and no caller waits for ever.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 - loaded before the machine's files are gone
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, StreamReader, TCPConnector, web
from aiohttp.resolver import ThreadedResolver
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from clouds.local.told import HEADER, told_of
from fleet.headers import NOT_READY, REVISION_HEADER, TRAFFIC_HEADER

REQUEST_BYTES, ANSWER_BYTES, WAITING_BYTES = 8 << 20, 32 << 20, 256 << 20
ANSWER_SECONDS = 60.0
SLOTS = 512
READY_PATH = "/v2/health/ready"
CHUNK = 64 << 10
HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "expect")
)
"""Of one connection, not of the message (RFC 9110, 7.6.1)."""
OURS, EDGES = frozenset(("content-length", HEADER, NOT_READY)), "x-envoy-"
"""What a container's answers have of these is dropped: the front says them, or the edges."""
Count = Callable[[str, int, int, int], None]


@dataclass(slots=True)
class Front:
    """Hands requests on to a port of its own loopback; `count` is told of each answer: traffic, status, bytes in and out.

    `room` is how many bytes of requests and answers may wait at once, `revision` the digest that answers may name.
    """

    listening: socket.socket
    host: str
    port: int
    count: Count
    room: int = WAITING_BYTES
    revision: str = ""
    waiting: int = 0

    def run(self) -> None:
        """Answer until SIGTERM, then what was begun."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        connector = TCPConnector(limit=SLOTS, resolver=ThreadedResolver())
        timeout = ClientTimeout(total=ANSWER_SECONDS, sock_connect=2)
        async with ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=DummyCookieJar(), trust_env=False
        ) as session:
            server = web.Server(lambda request: self._answer(session, request), auto_decompress=False)
            runner = web.ServerRunner(server, access_log=None, handle_signals=False, shutdown_timeout=ANSWER_SECONDS)
            await runner.setup()
            told = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
            await web.SockSite(runner, self.listening).start()
            await told.wait()
            await runner.cleanup()

    async def _answer(self, session: ClientSession, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request as the container does, or say why it did not."""
        body = await self._read(request.content, REQUEST_BYTES)
        if body is None:
            answer, size = _refused(413, f"the body is larger than {REQUEST_BYTES} bytes, or too much is waiting"), 0
        else:
            size = len(body)
            try:
                answer = await self._asked(session, request, body)
            finally:
                self.waiting -= size
        told = len(answer.body) if isinstance(answer.body, bytes) else 0
        self.count(request.headers.get(TRAFFIC_HEADER, ""), answer.status, size, told)
        return answer

    async def _asked(self, session: ClientSession, request: web.BaseRequest, body: bytes) -> web.Response:
        url = URL(f"http://{self.host}:{self.port}{request.path_qs if request.path_qs.startswith('/') else '/'}", encoded=True)
        try:
            async with session.request(
                request.method, url, headers=_kept(request.headers), data=body or None, allow_redirects=False
            ) as found:
                said = await self._read(found.content, ANSWER_BYTES)
                self.waiting -= len(said or b"")
                if said is None or not 200 <= found.status <= 599:
                    return _refused(502, f"the container gave no answer: more than {ANSWER_BYTES} bytes, or a status that is none")
                headers = _kept(found.headers)
                # Of readiness whoever placed it judges itself, and says what it found
                if request.path != READY_PATH and headers.get(REVISION_HEADER, self.revision) != self.revision:
                    return _refused(502, "the container names another revision than the one that is served")
                for name in [each for each in headers if each.lower() in OURS or each.lower().startswith(EDGES)]:
                    headers.popall(name, None)
                if found.status == 200 and request.path.endswith("/infer") and (told := told_of(said)) is not None:
                    headers[HEADER] = told
                return web.Response(status=found.status, body=said, headers=headers)
        except TimeoutError:
            return _refused(504, f"the container gave no answer within {ANSWER_SECONDS:g} s")
        except (ClientError, OSError, ValueError) as problem:
            answer = _refused(503, f"the container does not answer ({type(problem).__name__})")
            answer.headers[NOT_READY] = "1"
            return answer

    async def _read(self, source: StreamReader, most: int) -> bytes | None:
        """Return a body whole and count it as waiting; None for one that is too large, or where too much waits already."""
        parts: list[bytes] = []
        size = 0
        whole = False
        try:
            async for chunk in source.iter_chunked(CHUNK):
                size += len(chunk)
                self.waiting += len(chunk)
                if size > most or self.waiting > self.room:
                    return None
                parts.append(chunk)
            whole = True
            return b"".join(parts)
        finally:
            # Whoever gets a body gives its room back
            self.waiting -= 0 if whole else size


def _kept(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    found = CIMultiDict(headers)
    named = {word.strip().lower() for value in found.getall("connection", []) for word in value.split(",")}
    for name in {*HOP, *named}:
        found.popall(name, None)
    return found


def _refused(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
