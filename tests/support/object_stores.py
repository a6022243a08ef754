"""Real object stores on loopback: SeaweedFS speaks S3's interface, Azurite Azure's; a proxy before them loses and alters."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from fleet.declared_store import StorePlace, place_of
from fleet.settings import inherited_environment
from support.ports import HOST, free_port
from support.waiting import wait_until

S3_KEYS = {"AWS_ACCESS_KEY_ID": "convoy-tests", "AWS_SECRET_ACCESS_KEY": "a-secret-of-nobody"}
AZURITE_ACCOUNT = "devstoreaccount1"
# The one that Azurite's documentation gives to everybody
AZURITE_KEYS = {"AZURE_STORAGE_ACCOUNT_KEY": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="}
CONTAINER = "convoy-tests"
NO_SEAWEEDFS = "SeaweedFS (`weed`) is not installed: make setup, on Linux for x86_64"
NO_AZURITE = "Azurite is not installed: npm install --global azurite"


def s3_place(endpoint: str, prefix: str = "", bucket: str = CONTAINER) -> StorePlace:
    """Return a place on SeaweedFS."""
    return place_of(f"s3://{bucket}/{prefix}", endpoint)


def azure_place(endpoint: str, prefix: str = "", container: str = CONTAINER) -> StorePlace:
    """Return a place on Azurite."""
    return place_of(f"https://{AZURITE_ACCOUNT}.blob.core.windows.net/{container}/{prefix}", f"{endpoint}/{AZURITE_ACCOUNT}")


@contextmanager
def running_seaweedfs() -> Iterator[str | None]:
    """Start SeaweedFS with one pair of keys and stop it at the end; gives its endpoint, None where it is not installed."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        yield None
        return
    names = ("s3", "master", "volume", "filer", "admin")
    ports = dict(zip(names, (free_port() for _ in names), strict=True))
    with tempfile.TemporaryDirectory(prefix="cv-weed-") as folder:
        options = [f"-{name}.port={port}" for name, port in ports.items()] + [f"-{name}.port.grpc={free_port()}" for name in names]
        off = ("-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0")
        command = [str(weed), "mini", f"-ip={HOST}", f"-ip.bind={HOST}", f"-dir={folder}", *options, *off]
        endpoint = f"http://{HOST}:{ports['s3']}"
        with _running(command, S3_KEYS, endpoint, Path(folder) / "log"):
            # It answers before it has a volume to write to
            wait_until(lambda: _made(endpoint), 60, what="SeaweedFS takes a bucket")
            yield endpoint


@contextmanager
def running_azurite() -> Iterator[str | None]:
    """Start Azurite with a container and stop it at the end; gives its endpoint, None where it is not installed."""
    azurite = shutil.which("azurite-blob")
    if azurite is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cv-azurite-") as folder:
        options = ("--skipApiVersionCheck", "--silent", "--disableTelemetry")
        command = [azurite, "--blobHost", HOST, "--blobPort", str(port), "-l", folder, *options]
        endpoint = f"http://{HOST}:{port}"
        with _running(command, {}, endpoint, Path(folder) / "log"):
            _make_container(f"{endpoint}/{AZURITE_ACCOUNT}")
            yield endpoint


@contextmanager
def _running(command: list[str], environment: dict[str, str], endpoint: str, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=inherited_environment() | environment, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or _answers(endpoint), 60, what=f"{command[0]} answers at {endpoint}")
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _answers(endpoint: str) -> bool:
    try:
        return httpx.get(endpoint, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


def _made(endpoint: str) -> bool:
    keys = {name.removeprefix("AWS_").lower(): value for name, value in S3_KEYS.items()}
    store = S3Store(CONTAINER, endpoint=endpoint, region="us-east-1", client_options={"allow_http": True}, **keys)
    try:
        obstore.put(store, "ready", b"ready")
    except BaseError:
        return False
    return True


def _make_container(account_url: str) -> None:
    from azure.storage.blob import BlobServiceClient

    credential = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEYS["AZURE_STORAGE_ACCOUNT_KEY"]}
    with BlobServiceClient(account_url, credential=credential) as client:
        client.create_container(CONTAINER)


@dataclass
class Meddler:
    """A proxy before a store. `lose` so many answers of what was written, `spoil` what is sent or what is read, or say nothing at all."""

    target: str
    endpoint: str = ""
    lose: int = 0
    spoil_sent: bool = False
    spoil_read: bytes | None = None
    """What every blob that is read is answered with, under its own e-tag."""
    sent: list[dict[str, str]] = field(default_factory=list)
    """The headers of every upload, their names in small letters."""

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the store itself, as whoever signed the request had asked it."""
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


@contextmanager
def meddling(target: str) -> Iterator[Meddler]:
    """Run a proxy before a store."""
    meddler = Meddler(target)
    server = ThreadingHTTPServer((HOST, 0), _handler(meddler))
    server.daemon_threads = True
    meddler.endpoint = f"http://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield meddler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(meddler: Meddler) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _through(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "PUT":
                meddler.sent.append({name.lower(): value for name, value in self.headers.items()})
                if meddler.spoil_sent and body:
                    body = bytes([body[0] ^ 1]) + body[1:]
            status, headers, data = meddler.forward(self.command, self.path, dict(self.headers.items()), body)
            if self.command == "PUT" and status < 300 and meddler.lose:
                meddler.lose -= 1
                self.close_connection = True
                return
            if self.command == "GET" and "/blobs/" in self.path and status < 300 and meddler.spoil_read is not None:
                data = meddler.spoil_read
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = next((value for name, value in headers if name.lower() == "content-length"), "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _through  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler
