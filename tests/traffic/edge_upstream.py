"""A tiny model server for the edge's tests: healthy, names its revision and region, and can be slow or reset connections.

How slow it is can be changed while it runs (`/delay/<milliseconds>`).

What it tells of its answers (`--answer`) is one text, or what the request's body says (`body`). One that `--drains` ends on SIGTERM
as our servers do: it listens no more, lets go of whoever asks nothing, and answers what it has begun.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import struct
from collections import Counter

LABELS = ("x-convoy-traffic:", "x-convoy-drill:", "x-convoy-residency:", "x-convoy-pair:")


def traffic_of(head: str) -> str:
    """Return the label with which a request came."""
    return next((line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("x-convoy-traffic:")), "")


async def serve(options: argparse.Namespace) -> None:
    counter = {"requests": 0}
    seen_by_traffic: Counter[str] = Counter()
    talks: set[asyncio.Task[None] | None] = set()
    idle: set[asyncio.StreamWriter] = set()
    ending = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        try:
            while not ending.is_set():
                idle.add(writer)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                idle.discard(writer)
                length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0)
                body = await reader.readexactly(length)
                if "/v2/health/" in head.split("\r\n")[0]:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                if head.split(" ")[1] == "/seen":
                    counts = json.dumps(seen_by_traffic).encode()
                    writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(counts)}\r\n\r\n".encode() + counts)
                    continue
                if head.split(" ")[1].startswith("/delay/"):
                    options.delay_ms = float(head.split(" ")[1].removeprefix("/delay/"))
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    continue
                seen_by_traffic[traffic_of(head)] += 1
                counter["requests"] += 1
                if options.reset_every and counter["requests"] % options.reset_every == 0:
                    abort(writer)
                    return
                await asyncio.sleep(options.delay_ms / 1000)
                seen = [line.lower() for line in head.split("\r\n") if line.lower().startswith(LABELS)]
                answer = json.dumps({"received": len(body), "labels": seen}).encode()
                writer.write(
                    f"HTTP/1.1 {options.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n"
                    f"x-convoy-revision: {options.revision}\r\nx-convoy-region: {options.region}\r\n"
                    f"{'connection: close' if ending.is_set() else 'x-keeps: 1'}\r\n"
                    f"{'x-convoy-not-ready: 1' if options.starting else 'x-ready: 1'}\r\n{told(options.answer, body)}\r\n".encode()
                    + answer
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            idle.discard(writer)
            talks.discard(asyncio.current_task())
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", options.port, limit=1 << 24)
    if options.drains:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    server.close()
    for writer in idle:
        writer.close()
    if talks:
        await asyncio.wait(talks)


def told(answer: str, body: bytes) -> str:
    said = body.decode("latin-1") if answer == "body" else answer
    return f"x-convoy-answer: {said}\r\n" if said else ""


def abort(writer: asyncio.StreamWriter) -> None:
    """Reset the connection instead of closing it."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--reset-every", type=int, default=0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--starting", type=int, default=0)
    parser.add_argument("--answer", default="")
    parser.add_argument("--drains", type=int, default=0)
    asyncio.run(serve(parser.parse_args()))
