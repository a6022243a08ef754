"""A throw-away PostgreSQL server for the tests: real, on loopback, gone with its folder afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from fleet.settings import inherited_environment
from support.ports import free_port

MISSING = "PostgreSQL's server is not installed: sudo apt-get install postgresql"
USER, PASSWORD = "convoy", "p%7-s3cret;# x"
"""A password of everything that URLs, shells and INI files trip over; in a URL it must be quoted."""
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60")


@dataclass
class PostgresqlServer:
    """One running server; each `url()` is a new, empty database on it."""

    port: int
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self) -> str:
        """Create a database and return its URL."""
        name = f"ledger{next(self.numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def url_of(self, database: str, password: str = PASSWORD, user: str = USER) -> str:
        """Return the URL of a database by its name."""
        from sqlalchemy import URL

        made = URL.create("postgresql+psycopg", user, password, "127.0.0.1", self.port, database)
        return made.render_as_string(hide_password=False)

    def run(self, statement: str) -> None:
        """Run a statement as the server's owner."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)


def postgresql_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs, None where none is installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
    found = shutil.which("initdb")
    return debian[-1].parent if debian else Path(found).parent if found else None


@contextmanager
def running_postgresql() -> Iterator[PostgresqlServer | None]:
    """Start a server in a new folder and stop it at the end; gives None where PostgreSQL is not installed."""
    programs = postgresql_programs()
    if programs is None:
        yield None
        return
    # A socket lies in it, and its owner may not be we
    folder = Path(tempfile.mkdtemp(prefix="cv-pg-", dir="/tmp"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "nobody")
        port = free_port()
        _initialise(programs, folder)
        server = subprocess.Popen(_command(programs, folder, port), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **_owner(folder))
        try:
            _await(programs, port, server)
            yield PostgresqlServer(port)
        finally:
            # SIGQUIT: at once, and with its children; nothing here is to be kept
            server.send_signal(3)
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def _initialise(programs: Path, folder: Path) -> None:
    secret = folder / "password"
    secret.write_text(PASSWORD)
    command = [str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", USER, "--pwfile", str(secret)]
    command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, timeout=60, **_owner(folder))


def _command(programs: Path, folder: Path, port: int) -> list[str]:
    settings = ("listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", *FAST)
    return [str(programs / "postgres"), "-D", str(folder / "data"), *(part for each in settings for part in ("-c", each))]


def _owner(folder: Path) -> dict[str, object]:
    """PostgreSQL refuses to run as root."""
    as_nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    return {"cwd": folder, "env": inherited_environment(), **as_nobody}


def _await(programs: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    from support.waiting import wait_until

    asked = [str(programs / "pg_isready"), "--host", "127.0.0.1", "--port", str(port), "--quiet"]

    def ready() -> bool:
        assert server.poll() is None, f"postgres ended with {server.returncode}"
        return subprocess.run(asked, check=False).returncode == 0

    wait_until(ready, 30, what="PostgreSQL answers")
