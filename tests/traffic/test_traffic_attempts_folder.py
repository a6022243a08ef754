"""A folder of logs is counted exactly once, whatever happens to its files, to the clock and to the process that counts."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from test_traffic_attempts_lines import CANARY, START, attempt_line, request_line

from fleet.errors import Busy, OperationFailed, UnknownName, Unreachable
from fleet.settings import inherited_environment
from traffic.attempts.callers import mask_with
from traffic.attempts.folder import DEFAULT_LIMITS, Folder, Limits
from traffic.attempts.formats import ACCESS_LOG, ATTEMPTS_LOG
from traffic.attempts.store import CountStore
from traffic.attempts.terms import Terms

ROOT = Path(__file__).parents[2]
TERMS = Terms(50)
SHADOW = "sha256:" + "c" * 64
ANSWERED: dict[str, object] = {"answer": "0.250000;0123456789abcdef"}


class Rig:
    """A folder with a clock and an Envoy that only reopens its logs."""

    def __init__(self, path: Path, keep_raw: bool = False, limits: Limits = DEFAULT_LIMITS, terms: Terms = TERMS) -> None:
        self.path, self.now, self.reopened, self.up = path, START / 1000, 0, True
        self._keep_raw, self._limits, self._terms = keep_raw, limits, terms
        self.folder = self.start()

    def start(self) -> Folder:
        self.folder = Folder(
            self.path, "edge-1", {"employment": self._terms}.__getitem__, self._keep_raw, lambda: self.now, self.reopen, self._limits
        )
        return self.folder

    def restart(self) -> None:
        self.folder.close()
        self.start()

    def reopen(self) -> None:
        self.reopened += 1
        if not self.up:
            raise Unreachable("envoy", "down")
        for name in (ACCESS_LOG, ATTEMPTS_LOG):
            (self.path / name).touch()

    def write(self, log: str, text: bytes) -> None:
        with (self.path / log).open("ab") as file:
            file.write(text)

    def answer(self, number: int = 1, **fields: object) -> None:
        for key in range(number):
            self.write(ATTEMPTS_LOG, attempt_line(str(key), **fields) + b"\n")

    def counted(self) -> tuple[int, int]:
        """Attempts and bad ones, once everything is complete."""
        for _ in range(20):
            self.now += 0.25
            self.folder.turn()
        found = self.folder.attempts("employment", 0, 2**40)
        return found.total(), found.bad()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_counts_carry_the_edge_the_full_digest_and_the_second_of_the_end(rig: Rig) -> None:
    rig.answer(2, start=START + 990, duration_ms=60)
    rig.answer(1, start=START + 20, code=500)
    rig.now += 4
    rig.folder.turn()
    found = rig.folder.attempts("employment", START // 1000, START // 1000 + 100)
    assert [(count.second - START // 1000, count.attempts, count.bad, count.slow) for count in found.counts] == [(0, 1, 1, 0), (1, 2, 0, 2)]
    assert {(count.edge, count.revision, count.region, count.traffic) for count in found.counts} == {("edge-1", CANARY, "r1", "live")}
    assert found.complete_to == START // 1000 + 3


def test_a_second_is_shown_only_when_the_delay_has_passed_it(rig: Rig) -> None:
    rig.answer()
    for offset, complete in ((0.9, -1), (1.99, 0), (2.0, 1)):
        rig.now = START / 1000 + offset
        rig.folder.turn()
        found = rig.folder.attempts("employment", 0, 2**40)
        assert (found.total(), found.complete_to - START // 1000) == (complete == 1, complete)


def test_what_was_asked_for_is_complete_no_further_than_asked(rig: Rig) -> None:
    rig.now += 60
    rig.folder.turn()
    assert rig.folder.attempts("employment", 0, START // 1000 + 5).complete_to == START // 1000 + 5
    assert rig.folder.attempts("another", 0, 2**40).counts == ()


def test_a_clock_set_back_does_not_take_back_a_complete_second(rig: Rig) -> None:
    rig.now += 10
    rig.folder.turn()
    before = rig.folder.attempts("employment", 0, 2**40).complete_to
    rig.now -= 3600
    rig.answer(3, start=START - 3_600_000)
    rig.folder.turn()
    assert rig.folder.attempts("employment", 0, 2**40).complete_to == before
    rig.now += 3700
    assert rig.counted() == (3, 0)
    assert rig.folder.troubles.late == 3


def test_half_a_line_waits_for_its_other_half(rig: Rig) -> None:
    line = attempt_line() + b"\n"
    for part in (line[:1], line[1:150], line[150:-1], line[-1:]):
        rig.write(ATTEMPTS_LOG, part)
        rig.folder.turn()
    assert rig.counted() == (1, 0)
    assert rig.folder.malformed == 0


def test_torn_lines_are_told_and_remembered(rig: Rig) -> None:
    rig.write(ATTEMPTS_LOG, attempt_line()[:90] + b"\n" + attempt_line() + b"\n")
    rig.write(ACCESS_LOG, b"not json\n" + request_line() + b"\n")
    assert rig.counted() == (1, 0)
    rig.restart()
    assert rig.folder.malformed == 2


def test_a_line_without_end_is_passed_over_in_bounded_memory(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(piece=4096))
    rig.write(ATTEMPTS_LOG, b"x" * 10_000 + b"\n" + attempt_line() + b"\n")
    assert rig.counted() == (1, 0)
    assert rig.folder.malformed >= 1


@pytest.mark.parametrize("regrown", [2, 10])
def test_a_truncated_log_is_told_and_read_from_its_start(rig: Rig, regrown: int) -> None:
    rig.answer(5)
    assert rig.counted() == (5, 0)
    (rig.path / ATTEMPTS_LOG).write_bytes(b"")
    rig.answer(regrown, code=500)
    assert rig.counted() == (5 + regrown, regrown)
    assert rig.folder.troubles.truncated == 1


def test_killed_right_after_deleting_a_segment_its_inode_may_come_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(segment_size=2000))
    rig.answer(7)
    rig.folder.turn()
    rig.folder.turn()
    rig.folder.close()
    with closing(sqlite3.connect(tmp_path / "attempts.sqlite")) as database, database:
        inode = (tmp_path / ATTEMPTS_LOG).stat().st_ino
        database.execute("DELETE FROM marks WHERE NOT done")
        database.execute("UPDATE marks SET inode = ? WHERE done AND log = ?", (inode, ATTEMPTS_LOG))
        assert database.execute("SELECT inode, offset > 0 FROM marks").fetchall() == [(inode, 1)]
    rig.answer(9)
    rig.start()
    assert rig.counted() == (16, 0)


def test_a_log_replaced_behind_our_back_is_read_whole(rig: Rig) -> None:
    rig.answer(5)
    assert rig.counted() == (5, 0)
    (rig.path / ATTEMPTS_LOG).unlink()
    rig.answer(7, caller="198.51.100.7")
    assert rig.counted() == (12, 0)


def test_catching_up_completes_seconds_only_as_far_as_the_logs_were_read(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(piece=4096))
    for second in range(60):
        rig.write(ATTEMPTS_LOG, attempt_line(str(second), START + second * 1000) + b"\n")
    rig.now += 3600
    seen = []
    for _ in range(40):
        rig.folder.turn()
        found = rig.folder.attempts("employment", 0, 2**40)
        seen.append(found.total())
        assert all(count.second < found.complete_to for count in found.counts)
    assert seen[-1] == 60
    assert 0 < seen[3] < 60
    assert rig.folder.troubles.late == 0


def test_what_waits_for_its_other_half_survives_a_restart(rig: Rig) -> None:
    rig.answer(1, code=0)
    rig.folder.turn()
    rig.restart()
    rig.write(ACCESS_LOG, request_line("0", code=0, flags="DC") + b"\n")
    assert rig.counted() == (0, 0)
    assert [row.abandoned for row in rig.folder.seconds("employment", 0, 2**40)] == [1]
    assert rig.folder.troubles.unjoined == 0


def test_large_files_are_closed_read_to_their_end_and_deleted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(segment_size=2000))
    for _ in range(10):
        rig.answer(7)
        rig.folder.turn()
    assert rig.counted() == (70, 0)
    assert rig.reopened >= 5
    assert [path.name for path in sorted(tmp_path.glob("*.log*"))] == [ACCESS_LOG, ATTEMPTS_LOG]
    assert rig.folder.troubles.truncated == 0


def test_old_raw_lines_are_deleted_even_where_there_is_little_traffic(rig: Rig) -> None:
    rig.answer(1)
    rig.write(ACCESS_LOG, request_line() + b"\n")
    rig.folder.turn()
    rig.now += DEFAULT_LIMITS.segment_age
    assert rig.counted() == (1, 0)
    assert all(b"192.0.2.1" not in path.read_bytes() for path in rig.path.iterdir())


def test_raw_files_are_kept_where_asked_and_never_counted_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, keep_raw=True, limits=Limits(segment_size=2000))
    for _ in range(3):
        rig.answer(7)
        assert rig.counted()[0] % 7 == 0
    rig.restart()
    assert rig.counted() == (21, 0)
    kept = sorted(tmp_path.glob(f"{ATTEMPTS_LOG}.*"))
    assert [path.suffix for path in kept] == [".000001", ".000002", ".000003"]
    assert sum(path.read_bytes().count(b"\n") for path in kept) == 21


def test_an_envoy_that_is_down_goes_on_in_the_closed_file_until_it_hears(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(segment_size=2000))
    rig.up = False
    rig.answer(7)
    rig.folder.turn()
    with (tmp_path / f"{ATTEMPTS_LOG}.000001").open("ab") as still_open:
        still_open.write(attempt_line("late", code=500) + b"\n")
    rig.restart()
    assert rig.counted() == (8, 1)
    assert (tmp_path / f"{ATTEMPTS_LOG}.000001").exists()
    rig.up = True
    rig.now += 10
    assert rig.counted() == (8, 1)
    assert rig.reopened < 10
    assert not list(tmp_path.glob(f"{ATTEMPTS_LOG}.0*"))


def test_while_an_envoy_is_down_every_closed_file_is_read_on_to_the_one_it_writes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(segment_size=2000, piece=4096))
    rig.answer(20)
    rig.folder.turn()
    rig.up = False
    rig.answer(20)
    rig.folder.turn()
    assert sorted(path.suffix for path in tmp_path.glob(f"{ATTEMPTS_LOG}*")) == [".000001", ".000002"]
    assert rig.counted() == (40, 0)
    with (tmp_path / f"{ATTEMPTS_LOG}.000002").open("ab") as still_open:
        still_open.write(attempt_line("late", code=500) + b"\n")
    rig.restart()
    assert rig.counted() == (41, 1)
    assert [path.suffix for path in tmp_path.glob(f"{ATTEMPTS_LOG}*")] == [".000002"]


def test_a_turn_that_fails_is_not_counted_and_the_next_one_counts_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.answer(5)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(CountStore, "commit", full)
        with pytest.raises(sqlite3.OperationalError):
            rig.folder.turn()
    assert rig.counted() == (5, 0)


def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.answer(5)
    with closing(sqlite3.connect(tmp_path / "attempts.sqlite")) as database:
        database.execute("CREATE TRIGGER no BEFORE INSERT ON marks BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(sqlite3.IntegrityError):
            rig.folder.turn()
        assert database.execute("SELECT count(*) FROM counts").fetchone() == (0,)
        database.execute("DROP TRIGGER no")
    assert rig.counted() == (5, 0)


def test_one_folder_has_one_writer(rig: Rig) -> None:
    with pytest.raises(Busy, match="already being counted"):
        Folder(rig.path, "edge-1", lambda model: Terms(50), False, time.time, lambda: None)
    rig.restart()


def test_a_database_of_another_layout_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "counts.sqlite")) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(OperationFailed, match="layout 9"):
        CountStore(tmp_path / "counts.sqlite")


@pytest.mark.parametrize("error", [UnknownName("employment", "no table"), KeyError("employment")])
def test_a_model_whose_table_is_gone_has_no_limit(tmp_path: Path, error: Exception) -> None:
    def unknown(model: str) -> Terms:
        raise error

    now = START / 1000
    folder = Folder(tmp_path, "edge-1", unknown, False, lambda: now, lambda: None)
    (tmp_path / ATTEMPTS_LOG).write_bytes(attempt_line(duration_ms=60_000, start=START - 60_000) + b"\n")
    folder.turn()
    now += 5
    folder.turn()
    assert [count.slow for count in folder.attempts("employment", 0, 2**40).counts] == [0]


def test_old_counts_are_forgotten(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(keep=100))
    rig.answer(5)
    assert rig.counted() == (5, 0)
    rig.now += 7200
    assert rig.counted() == (0, 0)


def test_callers_are_counted_by_a_key_that_stays_here_and_stand_nowhere(rig: Rig) -> None:
    for caller in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        rig.answer(1, code=500, caller=caller)
    rig.write(ATTEMPTS_LOG, attempt_line("unclear", code=0, caller="192.0.2.77") + b"\n")
    rig.folder.turn()
    key = rig.path / "callers.key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    stored = [path.read_bytes() for path in rig.path.iterdir() if not path.name.endswith(".log")]
    assert not any(b"192.0.2." in text for text in stored)
    rig.counted()
    assert sum(row.bad_bursts for row in rig.folder.seconds("employment", 0, 2**40)) == 3


def test_two_edges_mark_a_caller_differently_and_one_edge_always_the_same(tmp_path: Path) -> None:
    one, again, other = mask_with(tmp_path / "one.key"), mask_with(tmp_path / "one.key"), mask_with(tmp_path / "other.key")
    assert one("192.0.2.1") == again("192.0.2.1") != other("192.0.2.1")


COUNTING = """
import sys, threading, time
from pathlib import Path
from traffic.attempts.folder import Folder, Limits
from traffic.attempts.terms import Terms
path = Path(sys.argv[1])
def reopen():
    (path / "reopen").touch()
folder = Folder(path, "edge-1", lambda model: Terms(50), False, time.time, reopen, Limits(segment_size=20_000))
while True:
    folder.turn()
    threading.Event().wait(0.001)
"""


class Writer:
    """Writes both logs as Envoy does: in pieces that end anywhere, going on in a renamed file until told to reopen."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._path, self._chance = path, chance
        self._files = {name: (path / name).open("ab", buffering=0) for name in (ACCESS_LOG, ATTEMPTS_LOG)}
        self._waiting = {ACCESS_LOG: b"", ATTEMPTS_LOG: b""}
        self.attempts = self.bad = 0

    def burst(self) -> None:
        with suppress(FileNotFoundError):
            (self._path / "reopen").unlink()
            for name, file in self._files.items():
                self._end_line(name)
                file.close()
                self._files[name] = (self._path / name).open("ab", buffering=0)
        now = int(time.time() * 1000)
        for _ in range(self._chance.randrange(1, 20)):
            self._request(f"request-{self.attempts}", now)
        self._write(everything=False)

    def finish(self) -> None:
        self._write(everything=True)

    def _end_line(self, name: str) -> None:
        """Envoy may be seen in the middle of a line, but goes over to a new file only between two."""
        line, end, self._waiting[name] = self._waiting[name].partition(b"\n")
        self._files[name].write(line + end)

    def _request(self, key: str, now: int) -> None:
        kind = self._chance.choice(["good", "good", "good", "timeout", "retried"])
        first = {"good": {}, "timeout": {"code": 0}, "retried": {"code": 0, "flags": "UC"}}[kind]
        second: dict[str, dict[str, object]] = {"good": {}, "timeout": {"code": 504, "flags": "UT"}, "retried": {"tries": 2}}
        self._waiting[ATTEMPTS_LOG] += attempt_line(key, now, **first) + b"\n"
        if kind == "retried":
            self._waiting[ATTEMPTS_LOG] += attempt_line(key, now) + b"\n"
        self._waiting[ACCESS_LOG] += request_line(key, now, **second[kind]) + b"\n"
        self.attempts += 1 + (kind == "retried")
        self.bad += kind != "good"

    def _write(self, everything: bool) -> None:
        for name, waiting in self._waiting.items():
            cut = len(waiting) if everything else self._chance.randrange(len(waiting) + 1)
            self._files[name].write(waiting[:cut])
            self._waiting[name] = waiting[cut:]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"


def test_killed_again_and_again_while_counting_and_rotating_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    chance = random.Random(7)
    writer = Writer(tmp_path, chance)
    errors = (tmp_path / "errors").open("wb")
    environment = inherited_environment() | {"PYTHONPATH": str(ROOT)}
    for _ in range(8):
        written = writer.attempts
        child = subprocess.Popen([sys.executable, "-c", COUNTING, str(tmp_path)], cwd=ROOT, env=environment, stderr=errors)

        def working(child: subprocess.Popen[bytes] = child, enough: int = written + chance.randrange(500, 1500)) -> bool:
            assert child.poll() is None, (tmp_path / "errors").read_text()
            writer.burst()
            threading.Event().wait(0.002)
            return counted_so_far(tmp_path) >= enough

        wait_until(working)
        child.kill()
        child.wait(10)
    writer.finish()
    final = Folder(tmp_path, "edge-1", lambda model: Terms(50), False, lambda: time.time() + 10, lambda: None)
    last_written = int(time.time())

    def everything_read() -> bool:
        final.turn()
        # The clock is ahead of what was written: only a turn that read both logs to their end completes seconds beyond it
        return final.attempts("employment", 0, 2**40).complete_to > last_written + 1

    wait_until(everything_read)
    found = final.attempts("employment", 0, 2**40)
    assert (found.total(), found.bad()) == (writer.attempts, writer.bad)
    assert (final.malformed, final.troubles.truncated, final.troubles.unjoined) == (0, 0, 0)


def counted_so_far(path: Path) -> int:
    """What the child has committed, complete or not."""
    if not (path / "attempts.sqlite").exists():
        return 0
    with closing(sqlite3.connect(path / "attempts.sqlite", timeout=10)) as database, suppress(sqlite3.OperationalError):
        return int(database.execute("SELECT coalesce(sum(attempts), 0) FROM counts").fetchone()[0])
    return 0


def test_three_thousand_lines_a_second_take_far_less_than_half_a_core(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in range(1500):
        caller = f"198.51.100.{number % 200}"
        rig.write(ATTEMPTS_LOG, attempt_line(str(number), code=500 if number % 5 == 0 else 200, caller=caller, **ANSWERED) + b"\n")
        rig.write(ACCESS_LOG, request_line(str(number), tries=2 if number % 5 == 0 else 1) + b"\n")
    before = time.process_time()
    rig.folder.turn()
    assert time.process_time() - before < 0.5
    assert rig.counted() == (1500, 300)


def test_a_shadow_of_every_request_takes_as_little(tmp_path: Path) -> None:
    rig = Rig(tmp_path, terms=Terms(50, (0.0, 1.0), 0.05))
    for number in range(1500):
        rig.write(ATTEMPTS_LOG, attempt_line(str(number), join=f"7-{number}", **ANSWERED) + b"\n")
        mirrored = {"traffic": "shadow", "cluster_revision": SHADOW, "host_revision": SHADOW, "connection": 0}
        rig.write(ATTEMPTS_LOG, attempt_line(str(number), join=f"7-{number}", **mirrored, **ANSWERED) + b"\n")
    before = time.process_time()
    rig.folder.turn()
    assert time.process_time() - before < 0.5
    assert rig.counted() == (3000, 0)
    assert [(pair.pairs, pair.disagreed) for pair in rig.folder.attempts("employment", 0, 2**40).pairs] == [(1500, 0)]
