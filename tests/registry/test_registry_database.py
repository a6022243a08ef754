"""What may go wrong with the ledger's database: its URL, its server, and writers that die or stand still."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.event import listen

from fleet.errors import Busy, Denied, ExitCode, InputError, NotSupported, Unreachable
from fleet.settings import inherited_environment
from registry import database
from registry.leases import Leases
from registry.ledger import Ledger, NewEvent
from support.postgresql import PASSWORD, PostgresqlServer

ROOT = str(Path(__file__).parents[2])
ON_POSTGRESQL = pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
DIES_WITHIN = """
import os, signal, sys
from registry.ledger import Ledger, NewEvent, utc_now
def die():
    os.kill(os.getpid(), signal.SIGKILL)
    return utc_now()
Ledger(sys.argv[1], now=die).append(NewEvent("release/toy-1", "t", {}, "killed"))
"""
OPENS_AT_ONCE = """
import multiprocessing, sys
from registry.database import Database
def opens(barrier):
    for number in range(100):
        barrier.wait()
        try:
            with Database(f"sqlite:///{sys.argv[1]}/{number}.db").writing():
                pass
        except Exception as problem:
            print(problem, flush=True)
fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(4)
all_four = [fork.Process(target=opens, args=(barrier,)) for _ in range(4)]
for each in all_four:
    each.start()
for each in all_four:
    each.join()
"""
STANDS_STILL_WITHIN = """
import os, signal, sys
from fleet.settings import inherited_environment
from registry import database
from registry.ledger import Ledger, NewEvent, utc_now
database.STALLED_SECONDS = 1
def stand_still():
    os.kill(os.getpid(), signal.SIGSTOP)
    return utc_now()
Ledger(sys.argv[1], now=stand_still).append(NewEvent("release/toy-1", "t", {}, "woken"))
"""


def event(number: int = 0) -> NewEvent:
    return NewEvent("release/toy-1", "t", {"number": number}, "flow")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("no url with s3cret", InputError),
        ("nosuchbase://x:s3cret@y/z", InputError),
        ("mysql+nosuchdriver://x:s3cret@y/z", NotSupported),
        ("mysql://x:s3cret@y/z", NotSupported),
        ("postgresql+asyncpg://x:s3cret@y/z", NotSupported),
        ("sqlite+aiosqlite:///s3cret.db", NotSupported),
    ],
)
def test_a_url_that_can_hold_no_ledger_is_refused_without_showing_it(url: str, kind: type[InputError]) -> None:
    with pytest.raises(kind, match="ledger URL") as refused:
        Ledger(url)
    assert refused.value.remedy
    assert refused.value.exit_code is ExitCode.BAD_INPUT
    assert "s3cret" not in str(refused.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(NotSupported, match=r"needs psycopg.*Install convoy\[postgresql\]"):
        Ledger("postgresql+psycopg://convoy@127.0.0.1/ledger")


@pytest.mark.parametrize(
    "where", ["postgresql+psycopg://convoy:s3cret@127.0.0.1:1/ledger", "postgresql+psycopg://127.0.0.1:1/l?password=s3cret"]
)
def test_a_server_that_is_away_is_unreachable_and_no_password_is_shown(where: str) -> None:
    with pytest.raises(Unreachable, match="CONVOY_LEDGER_URL") as refused:
        Ledger(where).verify()
    assert "s3cret" not in str(refused.value)
    assert "127.0.0.1:1" in refused.value.subject
    assert refused.value.exit_code is ExitCode.FAILED


@pytest.mark.parametrize(
    ("query", "own"), [("", set()), ("?tcp_user_timeout=900&keepalives_idle=60", {"tcp_user_timeout", "keepalives_idle"})]
)
def test_a_server_gone_dark_is_noticed_in_seconds_unless_the_url_says_otherwise(query: str, own: set[str]) -> None:
    asked: dict[str, object] = {}

    def connect(_dialect: object, _record: object, _args: object, options: dict[str, object]) -> None:
        asked.update(options)
        raise KeyboardInterrupt

    made = database.Database(f"postgresql+psycopg://convoy@127.0.0.1:1/ledger{query}")
    listen(made._engine, "do_connect", connect)
    with pytest.raises(KeyboardInterrupt), made.reading():
        pass
    wanted = {"tcp_user_timeout": 15_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3}
    assert {option for option in wanted if asked[option] == wanted[option]} == set(wanted) - own
    assert not own or (asked["tcp_user_timeout"], asked["keepalives_idle"]) == ("900", "60")


def test_a_wrong_password_says_where_to_look(postgresql: PostgresqlServer) -> None:
    with pytest.raises(Unreachable, match="password authentication failed") as refused:
        Ledger(postgresql.url_of("postgres", "wrong one")).verify()
    assert "name, password" in refused.value.remedy
    assert "wrong one" not in str(refused.value)


def test_the_password_may_stand_in_a_file_of_its_own(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    passfile = tmp_path / "passfile"
    passfile.write_text(f"127.0.0.1:*:*:convoy:{PASSWORD}\n")
    passfile.chmod(0o600)
    name = postgresql.url().rpartition("/")[2]
    ledger = Ledger(f"postgresql+psycopg://convoy@127.0.0.1:{postgresql.port}/{name}?passfile={passfile}")
    ledger.migrate()
    ledger.append(event())
    assert ledger.verify() == 1
    ledger.close()


def test_a_database_that_cannot_hold_every_text_is_refused(postgresql: PostgresqlServer) -> None:
    postgresql.run("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(InputError, match="encoding is LATIN1"):
        Ledger(postgresql.url_of("narrow")).migrate()


@ON_POSTGRESQL
def test_a_role_that_may_not_read_is_denied(ledger: Ledger, ledger_url: str, postgresql: PostgresqlServer) -> None:
    postgresql.run("CREATE ROLE stranger LOGIN PASSWORD 's3cret'")
    with pytest.raises(Denied, match="permission denied") as refused:
        Ledger(postgresql.url_of(ledger_url.rpartition("/")[2], "s3cret", "stranger")).verify()
    assert "s3cret" not in str(refused.value)


@ON_POSTGRESQL
def test_connections_that_the_server_dropped_are_made_anew(ledger: Ledger, ledger_url: str, postgresql: PostgresqlServer) -> None:
    ledger.append(event(1))
    name = ledger_url.rpartition("/")[2]
    postgresql.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    ledger.append(event(2))
    assert ledger.verify() == 2


@ON_POSTGRESQL
def test_a_database_that_is_gone_is_unreachable(ledger: Ledger, ledger_url: str, postgresql: PostgresqlServer) -> None:
    ledger.append(event())
    postgresql.run(f"DROP DATABASE {ledger_url.rpartition('/')[2]} WITH (FORCE)")
    with pytest.raises(Unreachable, match="does not exist"):
        ledger.append(event())


def test_a_writer_that_is_killed_within_its_transaction_leaves_nothing(ledger: Ledger, ledger_url: str, start_python) -> None:
    ledger.append(event(1))
    killed = start_python(DIES_WITHIN, ledger_url)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    ledger.append(event(2))
    assert [found.payload for found in ledger.events()] == [{"number": 1}, {"number": 2}]
    assert ledger.verify() == 2


@ON_POSTGRESQL
def test_a_writer_that_stands_still_keeps_nobody_and_its_event_is_refused_when_it_wakes(
    ledger: Ledger, ledger_url: str, start_python
) -> None:
    stopped = start_python(STANDS_STILL_WITHIN, ledger_url)
    try:
        # Waits at most for the stalled writer's session to be ended
        wait_for_stop(stopped.pid)
        ledger.append(event(1))
        stopped.send_signal(signal.SIGCONT)
        _, said = stopped.communicate(timeout=60)
    finally:
        stopped.kill()
    assert "Unreachable" in said
    assert PASSWORD not in said
    assert [found.actor for found in ledger.events()] == ["flow"]
    assert ledger.verify() == 1


def test_a_lock_that_is_never_let_go_is_told_as_busy(ledger: Ledger, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.append(event())
    monkeypatch.setattr(database, "BUSY_SECONDS", 1)
    impatient = Ledger(ledger_url)
    with ledger.database.writing() as connection:
        connection.exec_driver_sql("UPDATE head SET id = id")
        with pytest.raises(Busy, match="try again"):
            impatient.append(event())
    assert impatient.verify() == 1
    impatient.close()


def test_of_many_that_expect_the_same_position_one_gets_it(ledger: Ledger, ledger_url: str) -> None:
    writers, together = [Ledger(ledger_url) for _ in range(6)], threading.Barrier(6)

    def write(writer: Ledger) -> bool:
        together.wait()
        try:
            writer.append(event(), expected=0)
        except Busy:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(write, writers)) == [False] * 5 + [True]
    for writer in writers:
        writer.close()
    assert ledger.verify() == 1


@ON_POSTGRESQL
def test_a_server_whose_default_isolation_differs_changes_nothing(ledger: Ledger, ledger_url: str, postgresql: PostgresqlServer) -> None:
    postgresql.run(f"ALTER DATABASE {ledger_url.rpartition('/')[2]} SET default_transaction_isolation = 'serializable'")
    writers = [Ledger(ledger_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(writer.append, event(number)) for number in range(5) for writer in writers]:
            each.result()
    assert [bool(Leases(writer).take("toy", f"holder {number}", 60)) for number, writer in enumerate(writers)].count(True) == 1
    for writer in writers:
        writer.close()
    assert ledger.verify() == 20


def test_processes_that_open_a_new_database_at_the_same_moment_wait_for_one_another(tmp_path: Path) -> None:
    """Of two that turn its journal into a write-ahead log at once, SQLite tells one that it is locked, without waiting."""
    command = [sys.executable, "-c", OPENS_AT_ONCE, str(tmp_path)]
    environment = inherited_environment() | {"PYTHONPATH": ROOT}
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""


def test_two_that_migrate_at_once_make_one_ledger(ledger_url: str) -> None:
    both = [Ledger(ledger_url) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(ledger.migrate) for ledger in both]:
            each.result()
    assert both[0].verify() == 0
    engine = create_engine(ledger_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM head").scalar_one() == 1
    engine.dispose()
    for ledger in both:
        ledger.close()


def wait_for_stop(pid: int) -> None:
    import psutil

    from support.waiting import wait_until

    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 60, what="the writer stands still")
