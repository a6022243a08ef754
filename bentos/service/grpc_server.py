"""The gRPC server beside the one for HTTP: GRPCInferenceService on a port of its own, on the same event loop and desk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from . import SERVICE_VERSION
from .answered import HEADER
from .desk import RETRY_AFTER, Desk
from .doors import Call
from .errors import Problem, SettingsWrong, told
from .exchange import Headers
from .grpc_door import Grpc
from .grpc_messages import SERVICE, message, parsed_message
from .visits import Visit

CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
"""gRPC's names of a problem's status; what is not among them is INTERNAL."""
PUSHBACK = "grpc-retry-pushback-ms"
"""In how many milliseconds gRPC's own retries may come: https://github.com/grpc/proposal/blob/master/A6-client-retries.md."""
MOST_METADATA = 16 << 10
MOST_DETAILS = 2000
"""Of a refusal's text: clients take 8 KiB of trailers, and what is over it is told them as another error."""
Method = Callable[[bytes, Any], Awaitable[bytes]]


class Service:
    """The methods of GRPCInferenceService; each takes a message's bytes and returns those of its answer."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._door = Grpc()

    async def server_live(self, body: bytes, context: Any) -> bytes:
        """Say that the process listens."""
        await context.send_initial_metadata(_metadata(self._marks(context)))
        return _answer("ServerLiveResponse", live=True)

    async def server_ready(self, body: bytes, context: Any) -> bytes:
        """Say whether the model answers."""
        await context.send_initial_metadata(_metadata(self._marks(context)))
        return _answer("ServerReadyResponse", ready=self._desk.readiness.scorer is not None)

    async def model_ready(self, body: bytes, context: Any) -> bytes:
        """Say whether a model answers; one that is not here is NOT_FOUND."""
        if self._desk.readiness.scorer is None:
            await context.send_initial_metadata(_metadata(self._marks(context)))
            return _answer("ModelReadyResponse", ready=False)
        return await self._read(context, lambda: self._named("ModelReadyRequest", body) and _answer("ModelReadyResponse", ready=True))

    async def server_metadata(self, body: bytes, context: Any) -> bytes:
        """Name the server."""
        await context.send_initial_metadata(_metadata(self._marks(context)))
        return _answer("ServerMetadataResponse", name="convoy_service", version=SERVICE_VERSION)

    async def model_metadata(self, body: bytes, context: Any) -> bytes:
        """Describe the model's inputs and outputs."""

        def described() -> bytes:
            document = self._named("ModelMetadataRequest", body).metadata()
            # the message has neither properties nor parameters
            document.pop("properties")
            for tensor in document["inputs"]:
                tensor.pop("parameters", None)
            return _answer("ModelMetadataResponse", **document)

        return await self._read(context, described)

    async def model_infer(self, body: bytes, context: Any) -> bytes:
        """Ask the model."""
        visit = Visit(_headers(context))
        visit.received = len(body)
        marks = self._desk.marks(visit.request_id)
        try:
            self._desk.model()
            deadline = visit.deadline(self._desk.settings.deadline_ms, context.time_remaining())
            reply = await self._desk.ask(self._door, Call(body, visit.headers), visit, deadline)
        except Problem as problem:
            self._desk.count(visit, problem.status, 0)
            return await self._refused(context, problem, marks)
        except Exception:
            self._desk.count(visit, 500, 0)
            raise
        self._desk.count(visit, 200, len(reply.body))
        await context.send_initial_metadata(_metadata([*marks, (HEADER, reply.told)]))
        self._desk.keep(visit, reply)
        return reply.body

    def _named(self, kind: str, body: bytes) -> Any:
        """Return the model that a request names; raises a Problem."""
        request = parsed_message(kind, body)
        return self._desk.model(request.name, request.version or None)

    async def _read(self, context: Any, make: Callable[[], bytes]) -> bytes:
        marks = self._marks(context)
        try:
            answer = make()
        except Problem as problem:
            return await self._refused(context, problem, marks)
        await context.send_initial_metadata(_metadata(marks))
        return answer

    async def _refused(self, context: Any, problem: Problem, marks: Headers) -> bytes:
        import grpc

        more = self._desk.refusal(problem, dict(marks)[b"x-request-id"])
        await context.send_initial_metadata(_metadata(marks + more))
        if seconds := dict(more).get(RETRY_AFTER):
            context.set_trailing_metadata(((PUSHBACK, str(1000 * int(seconds))),))
        code = getattr(grpc.StatusCode, CODES.get(problem.status, "INTERNAL"))
        await context.abort(code, str(problem).encode("ascii", "backslashreplace").decode()[:MOST_DETAILS])
        raise problem

    def _marks(self, context: Any) -> Headers:
        return self._desk.marks(Visit(_headers(context)).request_id)


METHODS: dict[str, Callable[[Service], Method]] = {
    "ServerLive": lambda service: service.server_live,
    "ServerReady": lambda service: service.server_ready,
    "ModelReady": lambda service: service.model_ready,
    "ServerMetadata": lambda service: service.server_metadata,
    "ModelMetadata": lambda service: service.model_metadata,
    "ModelInfer": lambda service: service.model_infer,
}


async def listen_beside(desk: Desk, shared: bool) -> Any:
    """Return a started `grpc.aio.Server`; raises SettingsWrong when the address cannot be listened on.

    Where several processes have the port, each listens by itself and the kernel gives each connection to one of them.
    """
    import grpc

    settings, most = desk.settings, desk.settings.body_bytes
    options = [
        ("grpc.so_reuseport", int(shared)),
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", MOST_METADATA),
    ]
    server = grpc.aio.server(options=options)
    service = Service(desk)
    # without (de)serialisers the methods get bytes, and a message of megabytes is not read on the event loop
    handlers = {name: grpc.unary_unary_rpc_method_handler(bound(service)) for name, bound in METHODS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"{settings.host}:{settings.grpc_port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as problem:
        raise SettingsWrong(f"cannot listen on {address} for gRPC ({told(problem)})") from problem
    await server.start()
    return server


def _answer(kind: str, /, **fields: Any) -> bytes:
    written: bytes = message(kind)(**fields).SerializeToString()
    return written


def _headers(context: Any) -> dict[bytes, bytes]:
    pairs = context.invocation_metadata() or ()
    return {key.encode(): value if isinstance(value, bytes) else value.encode("utf-8", "replace") for key, value in reversed(pairs)}


def _metadata(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Return headers as metadata, which is printable ASCII."""
    return tuple((name.decode(), value.decode("ascii", "replace").replace("\ufffd", "?")) for name, value in headers)
