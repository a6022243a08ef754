"""The ledger's database: transactions, their locks, and its errors translated; all that depends on the dialect is here.

Every writer first locks the one row of `head` (SQLite: the whole file, by BEGIN IMMEDIATE). That makes sequences
gapless, and lets an append and the lease that allows it be judged in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fleet.errors import Busy, ConvoyError, Denied, InputError, LedgerBroken, OperationFailed, Unreachable

BUSY_SECONDS = 15
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x636F6E766F79
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """One SQL database; nothing is opened before the first transaction."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
            self.sqlite = self.url.get_backend_name() == "sqlite"
            self._engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS} if self.sqlite else {})
        except (ArgumentError, NoSuchModuleError, ImportError) as problem:
            raise InputError(
                "ledger URL", str(problem), "Set CONVOY_LEDGER_URL to a SQLAlchemy URL whose driver is installed."
            ) from problem
        self.name = self.url.render_as_string(hide_password=True)
        if self.sqlite:
            event.listen(self._engine, "connect", _open_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database throughout."""
        options = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._translated(), self._engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose writes all count when the block ends, and none when it raises."""
        with self._translated(), self._engine.connect().execution_options(convoy_write=True) as connection, connection.begin():
            yield connection

    def migrate(self, revision: str) -> None:
        """Bring the tables to a revision of the migrations (`head`: the newest); two at once do it once."""
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        if self.sqlite and self.url.database:
            Path(self.url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.writing() as connection:
            if self.url.get_backend_name() == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, revision)
            except CommandError as problem:
                raise OperationFailed(
                    f"ledger {self.name}", f"cannot be migrated: {problem}", "Use the Convoy that wrote it, or a newer one."
                ) from problem

    def close(self) -> None:
        """Close the idle connections; the next transaction opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as problem:
            raise self._in_our_terms(problem) from problem
        except SQLAlchemyError as problem:
            raise OperationFailed(f"ledger {self.name}", f"the database failed ({type(problem).__name__})") from problem

    def _in_our_terms(self, problem: DBAPIError) -> ConvoyError:
        subject, reason = f"ledger {self.name}", str(problem.orig)
        code = (getattr(problem.orig, "sqlite_errorcode", None) or 0) & 0xFF
        state = str(getattr(problem.orig, "sqlstate", None) or "")
        if code in _SQLITE_BUSY or state[:2] in ("40", "55", "53"):
            return Busy(subject, reason, "Another process is writing; try again.")
        if code in _SQLITE_BROKEN:
            return LedgerBroken(subject, reason, "Keep a copy of the file and restore a backup.")
        if state.startswith("28") or state == "42501":
            return Denied(subject, reason, "Check the credentials in CONVOY_LEDGER_URL.")
        if state.startswith(("08", "57")) or (not self.sqlite and not state):
            return Unreachable(subject, reason, "Check CONVOY_LEDGER_URL and that the database runs.")
        if self._lacks_tables():
            return OperationFailed(subject, "has not been set up", "Run `convoy up`, which migrates it.")
        return OperationFailed(subject, reason, "Look at the database's own log.")

    def _lacks_tables(self) -> bool:
        try:
            return not inspect(self._engine).has_table("head")
        except SQLAlchemyError:
            # What cannot be opened at all is reported by its first error.
            return False


def _open_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN is deferred: two readers that both go on to write would deadlock.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("convoy_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
