"""The ledger's database: transactions, their locks, and its errors translated; all that depends on the dialect is here.

Every writer first locks the one row of `head` (SQLite: the whole file, by BEGIN IMMEDIATE). That makes sequences
gapless, and lets an append and the lease that allows it be judged in one transaction.

A URL may hold a password, and so may its query and the driver's errors: `name` is what messages call the database, and
nothing else of the URL is ever shown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fleet.errors import Busy, ConvoyError, Denied, InputError, LedgerBroken, NotSupported, OperationFailed, Unreachable
from registry.tables import METADATA

BUSY_SECONDS = 15
CONNECT_SECONDS = 10
DARK_MILLISECONDS = 15_000
"""How long what was sent to PostgreSQL may stay without an acknowledgement before the connection is given up."""
STALLED_SECONDS = 30
"""How long a writer may stand still within its transaction; PostgreSQL then ends it, or all others would wait for it."""
PATIENCE = {
    "connect_timeout": CONNECT_SECONDS,
    "tcp_user_timeout": DARK_MILLISECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""libpq's options that notice a server gone dark, which closes no connection, within some 20 s; the URL may say otherwise."""
DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg"}
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x636F6E766F79
_SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Database:
    """One SQL database; nothing is opened before the first transaction."""

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.name = self.url.set(query={}).render_as_string(hide_password=True)
        try:
            self._engine = _sqlite(self.url) if self.sqlite else _postgresql(self.url)
        except ImportError as problem:
            raise NotSupported(
                f"ledger {self.name}", f"needs {problem.name}, which is not installed", "Install convoy[postgresql]."
            ) from problem

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
            if not self.sqlite:
                # Within the transaction, so that a pooler in between, which shares sessions, passes it on
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'; SET LOCAL idle_in_transaction_session_timeout = '{STALLED_SECONDS}s'"
                )
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
            if not self.sqlite:
                self._check_encoding(connection)
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

    def _check_encoding(self, connection: Connection) -> None:
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise InputError(
                f"ledger {self.name}", f"the database's encoding is {encoding}", "Create it with ENCODING 'UTF8' TEMPLATE template0."
            )

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
        if code == sqlite3.SQLITE_FULL or state == "53100":
            return OperationFailed(subject, reason, "Make room on its disk; what was recorded so far is safe.")
        if code in _SQLITE_BUSY or state[:2] in ("40", "55", "53"):
            return Busy(subject, reason, "Another process is writing; try again.")
        if code in _SQLITE_BROKEN:
            return LedgerBroken(subject, reason, "Keep a copy of the file and restore a backup.")
        if state.startswith("28") or state == "42501":
            return Denied(subject, reason, "Check the credentials in CONVOY_LEDGER_URL.")
        # The driver has no code for a connection that was never made, a wrong password included
        if state.startswith(("08", "57")) or state == "25P03" or (not self.sqlite and not state):
            return Unreachable(subject, reason, "Check CONVOY_LEDGER_URL (host, name, password) and that the database runs.")
        if self._lacks_tables():
            return OperationFailed(subject, "has not been set up", "Run `convoy up`, which migrates it.")
        return OperationFailed(subject, reason, "Look at the database's own log.")

    def _lacks_tables(self) -> bool:
        try:
            return not METADATA.tables.keys() <= set(inspect(self._engine).get_table_names())
        except SQLAlchemyError:
            # What cannot be opened at all is reported by its first error.
            return False


def _checked(url: str) -> URL:
    """Return a URL that names a database which holds ledgers; raises InputError that shows nothing of it."""
    try:
        found = make_url(url)
        backend, driver = found.get_backend_name(), found.get_driver_name()
    except (ArgumentError, NoSuchModuleError, ImportError) as problem:
        raise InputError(
            "ledger URL", f"is no URL of a database that is known here ({type(problem).__name__})", "Correct CONVOY_LEDGER_URL."
        ) from problem
    if DRIVERS.get(backend) != driver:
        raise NotSupported(
            "ledger URL",
            f"{backend} with the driver {driver} holds no ledger",
            "Write sqlite:///FILE, or postgresql+psycopg://USER@HOST/NAME with convoy[postgresql] installed.",
        )
    return found


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _open_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: URL) -> Engine:
    """Make an engine that asks whether a connection still lives before it is used: servers are restarted."""
    patience = {option: value for option, value in PATIENCE.items() if option not in url.query}
    return create_engine(url, connect_args=patience, pool_pre_ping=True, isolation_level="READ COMMITTED", hide_parameters=True)


def _open_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN is deferred: two readers that both go on to write would deadlock.
    connection.isolation_level = None
    _keep_a_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _keep_a_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Have a database keep its write-ahead log; raises sqlite3.OperationalError when others hold it for too long.

    SQLite does not wait here for one that opens a new database at the same moment, whatever the timeout.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

    def busy(problem: BaseException) -> bool:
        return isinstance(problem, sqlite3.OperationalError) and problem.sqlite_errorcode & 0xFF in _SQLITE_BUSY

    patient = Retrying(retry=retry_if_exception(busy), stop=stop_after_delay(BUSY_SECONDS), wait=wait_random(0.005, 0.05), reraise=True)
    patient(connection.execute, "PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("convoy_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
