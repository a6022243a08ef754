"""The doctor: it finds what is wrong, says what to type, never fails because something is broken, and changes nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from clouds.local.supervisor import configuration
from control.doctor import configured, installed, kept, reachable, releases, running
from control.doctor.case import Case, open_case
from control.doctor.examine import CHECKS, Check, examine, look, resolved
from control.doctor.findings import Finding, Level, exit_code_of, ok, problem
from control.stack.prefect_server import Deployment, declared_deployments
from control.stack.records import ensure_credentials, record_stack
from fleet.errors import ExitCode, LedgerBroken, Unreachable
from fleet.home import Home
from fleet.phases import ReleasePhase
from fleet.settings import Settings
from flows.desires import model_stream, observe_candidate, open_rollback, release_stream
from flows.drill_journal import DrillJournal
from flows.drill_mending import DRILLER
from flows.house import House
from registry.leases import Leases
from registry.ledger import Ledger, NewEvent, utc_now
from support.stack import toy_fleet, write_fleet
from support.waiting import wait_until

NOBODY = 9
"""No stack ever has its ports from here on, so nobody answers there."""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="cv-") as folder:
        yield Path(folder)


@pytest.fixture
def house(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """An installation that was started once and is stopped now."""
    home = Home(short_path / "home")
    write_fleet(home, toy_fleet(("toy",)))
    home.root.chmod(0o700)
    record_stack(home, NOBODY)
    ensure_credentials(home)
    monkeypatch.setenv("CONVOY_HOME", str(home.root))
    found = House(Settings(home=home.root), home)
    found.ledger.migrate()
    return found


@pytest.fixture
def case(house: House) -> Case:
    return Case(house)


def of(findings: tuple[Finding, ...], level: Level) -> dict[str, Finding]:
    """The findings of a level by their subject."""
    return {found.subject: found for found in findings if found.level is level}


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its mode and bytes, but for SQLite's own coordination."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(("-shm", "-wal")))
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes()) for path in files}


def test_a_stopped_stack_is_one_problem_and_what_depends_on_it_is_not_looked_at(house: House) -> None:
    _, findings = examine()
    problems = of(findings, Level.PROBLEM)
    assert list(problems) == ["supervisord"]
    assert problems["supervisord"].remedy == "convoy up"
    assert exit_code_of(findings) is ExitCode.FAILED
    (skipped,) = [found.reason for found in findings if found.subject == "not looked at"]
    assert "components" in skipped
    assert "edges" in skipped


def test_it_changes_nothing(house: House) -> None:
    house.ledger.close()
    before = contents(house.home.root)
    examine()
    assert contents(house.home.root) == before


def test_before_the_first_start_nothing_is_a_problem_and_nothing_is_made(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_HOME", str(short_path / "none"))
    _, findings = examine()
    assert of(findings, Level.PROBLEM) == {}
    assert of(findings, Level.WARNING)[f"stack in {short_path / 'none'}"].remedy == "convoy up"
    assert not (short_path / "none").exists()


def test_wrong_settings_are_told_and_what_needs_none_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOY_HOMME", "/tmp")
    _, findings = examine()
    assert "no such setting" in of(findings, Level.PROBLEM)["CONVOY_HOMME"].reason
    assert any(found.check == "libraries" for found in findings)
    assert exit_code_of(findings) is ExitCode.BAD_INPUT


def test_a_wrong_fleet_file_is_told_with_its_line(house: House) -> None:
    text = house.home.fleet_file.read_text().replace('"owner"', '"ownr"', 1)
    house.home.fleet_file.write_text(text)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if "ownr" in each)
    _, findings = examine()
    assert f"line {line}" in of(findings, Level.PROBLEM)[str(house.home.fleet_file)].reason


def test_a_broken_ledger_is_exit_6_whatever_else_is_wrong(house: House) -> None:
    house.ledger.append(NewEvent("model/toy", "note", {"a": 1}, "test"))
    with house.ledger.database.writing() as connection:
        connection.exec_driver_sql("""UPDATE events SET payload = '{"a":2}'""")
    _, findings = examine()
    assert exit_code_of(findings) is ExitCode.LEDGER_BROKEN


def test_a_ledger_that_is_gone_is_a_problem_and_is_not_made_anew(house: House) -> None:
    house.ledger.close()
    house.home.ledger_file.unlink()
    _, findings = examine()
    assert "would begin an empty ledger" in of(findings, Level.PROBLEM)[str(house.home.ledger_file)].reason
    assert not house.home.ledger_file.exists()


def test_a_check_that_raises_is_a_finding_by_its_class_beside_what_it_had_found(case: Case) -> None:
    def away(_: Case) -> list[Finding]:
        raise Unreachable("MLflow", "did not answer", "convoy up")

    def mistaken(_: Case) -> list[Finding]:
        raise KeyError("surprise")

    def broken(_: Case) -> list[Finding]:
        raise LedgerBroken("ledger event 3", "has another hash")

    (told,) = look(case, "webhook", Check(away))
    assert (told.level, told.subject, told.reason, told.remedy) == (Level.PROBLEM, "MLflow", "did not answer", "convoy up")
    (told,) = look(case, "webhook", Check(mistaken))
    assert "could not be looked at: KeyError" in told.reason
    assert look(case, "ledger", Check(broken))[0].exit_code is ExitCode.LEDGER_BROKEN


def test_a_check_that_hangs_is_told_and_does_not_keep_the_others(house: House) -> None:
    checks = {"hangs": Check(lambda _: time.sleep(60) or ()), "well": Check(lambda _: [ok("it", "is well")])}  # type: ignore[func-returns-value]
    began = time.monotonic()
    _, findings = examine(checks, limit=0.5)
    assert time.monotonic() - began < 20
    assert "gave no answer" in of(findings, Level.PROBLEM)["hangs"].reason
    assert "it" in of(findings, Level.OK)


@pytest.mark.parametrize(
    ("name", "wanted", "says"),
    [("fastapi", "<0.100", "only <0.100 is known to work"), ("no-such-library", ">=1", "is not installed"), ("fastapi", ">=0.1", None)],
)
def test_a_library_is_held_to_the_versions_that_work(name: str, wanted: str, says: str | None) -> None:
    found = installed.library(name, wanted)
    assert (found is None) if says is None else (found is not None and says in found.reason and f"'{name}{wanted}'" in found.remedy)


def test_a_missing_program_is_named_with_the_command_that_installs_it() -> None:
    missing = installed.SystemPackage("no-such-program", "does things", "sudo apt-get install it")
    assert installed.system_package(missing).level is Level.PROBLEM
    optional = installed.SystemPackage("no-such-program", "does things", "sudo apt-get install it", optional=True)
    assert (installed.system_package(optional).level, installed.system_package(optional).remedy) == (Level.OK, "sudo apt-get install it")


def test_a_file_that_others_may_read_is_told_with_the_command(case: Case) -> None:
    case.home.credentials_file.chmod(0o644)
    (told,) = configured.permissions(case)
    assert (told.level, told.remedy) == (Level.PROBLEM, f"chmod 600 {case.home.credentials_file}")


def test_a_shell_that_leads_elsewhere_is_told_without_its_password(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://me:hunter2@prefect.example.org/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", case.house.stack.mlflow_url.replace("127.0.0.1", "localhost") + "/")
    prefect, mlflow = configured.others(case)
    assert (prefect.level, prefect.remedy) == (Level.WARNING, f"export PREFECT_API_URL={case.house.stack.prefect_url}/api")
    assert "hunter2" not in prefect.reason
    assert mlflow.level is Level.OK


def test_a_home_that_lies_too_deep_is_told(house: House) -> None:
    deep = Home(house.home.root / ("deep" * 40))
    (told,) = look(Case(House(house.settings, deep)), "place", Check(configured.place))
    assert "too deep" in told.reason
    assert configuration(Home(Path("/tmp/short")), "looked-at")


@pytest.mark.parametrize(("free", "level"), [(100, Level.OK), (3, Level.WARNING), (0.5, Level.PROBLEM)])
def test_a_disk_that_fills_up_is_told_in_time(case: Case, monkeypatch: pytest.MonkeyPatch, free: float, level: Level) -> None:
    usage = type("Usage", (), {"free": int(free * 2**30), "total": 200 * 2**30})
    monkeypatch.setattr(configured.shutil, "disk_usage", lambda _: usage)
    assert {found.level for found in configured.room(case)} == {level}


def test_a_clock_that_was_set_back_is_seen_in_the_ledger(house: House) -> None:
    ahead = Ledger(house.ledger_url, now=lambda: utc_now() + timedelta(hours=1))
    ahead.append(NewEvent("model/toy", "note", {}, "test"))
    (told,) = kept.clock(Case(house))
    assert (told.level, "in the future" in told.reason) == (Level.PROBLEM, True)


def test_a_case_that_was_slow_to_open_is_no_clock_that_was_set_back(house: House) -> None:
    house.ledger.append(NewEvent("model/toy", "note", {}, "test"))
    house.leases.take("toy", "a controller", 60)
    (told,) = kept.clock(Case(house, now=utc_now() - timedelta(minutes=5)))
    assert told.level is Level.OK


def test_a_lease_that_was_written_under_a_later_clock_is_told_and_left_as_it_is(house: House) -> None:
    later = Ledger(house.ledger_url, now=lambda: utc_now() + timedelta(hours=1))
    Leases(later).take("toy", "a controller", 60)
    before = house.leases.recorded("toy")
    (told,) = kept.clock(Case(house))
    assert (told.level, "the lease of toy runs 36" in told.reason) == (Level.PROBLEM, True)
    assert house.leases.recorded("toy") == before


def test_a_drill_that_died_is_a_problem_and_one_that_holds_its_models_is_none(house: House) -> None:
    (quiet,) = releases.drills(Case(house))
    DrillJournal.begin(house.ledger, "us-east-1", "a drill", {"models": {"toy": f"sha256:{1:064}"}})
    (dead,) = releases.drills(Case(house))
    house.leases.take("toy", f"{DRILLER} 1234", 60)
    (held,) = releases.drills(Case(house))
    assert [found.level for found in (quiet, dead, held)] == [Level.OK, Level.PROBLEM, Level.OK]
    assert (dead.subject, dead.remedy) == ("us-east-1-drill-1", "convoy up")


def test_a_release_that_waits_for_approval_is_well_though_nobody_holds_it(house: House) -> None:
    fleet = toy_fleet(("toy",))
    fleet["models"]["toy"] = fleet["models"]["toy"] | {"approval": {"required": True}}
    write_fleet(house.home, fleet)
    vars(house).pop("fleet", None)
    observe_candidate(house.ledger, "toy", "2", "test")
    entered = {"phase": ReleasePhase.AWAITING_APPROVAL.value}
    house.ledger.append(NewEvent(release_stream("toy-1"), "phase.entered", entered, "test"))
    (found,) = releases.unfinished_releases(Case(house, now=utc_now() + timedelta(hours=2)))
    assert (found.level, "waits for approval until" in found.reason) == (Level.OK, True)


def test_only_folders_of_ended_releases_may_be_deleted(house: House) -> None:
    for name in ("toy-1", "toy-2", "references", "drill-us-east-1"):
        (house.home.work / name).mkdir(parents=True)
    for release, phase in (("toy-1", ReleasePhase.PROMOTED), ("toy-2", ReleasePhase.CANARY)):
        house.ledger.append(NewEvent(release_stream(release), "phase.entered", {"phase": phase.value}, "test"))
    (told,) = kept.scratch(Case(house))
    assert told.remedy == f"rm -r {house.home.work / 'toy-1'}"


def test_a_stranger_on_one_of_our_ports_is_named(case: Case) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        case.home.stack_file.unlink()
        record_stack(case.home, port)
        told = [found for found in running.strangers(case) if found.subject == f"port {port}"]
    assert f"process {os.getpid()}" in told[0].reason


def test_what_an_earlier_supervisor_left_is_told_by_its_mark(case: Case) -> None:
    mark = {"CONVOY_STACK_ID": case.house.stack.stack_id}
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, **mark})
    try:
        # its environment is there a moment after the process is
        wait_until(lambda: mark.items() <= psutil.Process(left.pid).environ().items(), 10, what="the mark of what was left")
        (told,) = running.orphans(case)
    finally:
        left.kill()
        left.wait()
    assert (told.level, told.remedy) == (Level.PROBLEM, "convoy up")
    assert f"process {left.pid}" in told.reason


def test_deployments_that_are_missing_surplus_or_paused_are_told(case: Case) -> None:
    declared = declared_deployments()
    known = [Deployment(id="1", name=name, entrypoint=entrypoint) for name, entrypoint in declared.items() if name != "rollback"]
    known[0] = known[0].model_copy(update={"paused": True})
    known.append(Deployment(id="2", name="forgotten", entrypoint="flows/forgotten.py:forgotten"))
    found = {finding.subject: finding for finding in reachable.compared(declared, tuple(known), case)}
    assert "does not know it" in found["deployment 'rollback'"].reason
    assert found["deployment 'forgotten'"].level is Level.WARNING
    assert "is paused" in found[f"deployment '{known[0].name}'"].reason
    assert len(found) == 3


def test_a_release_that_nobody_tells_on_is_a_problem_only_once_reconcile_has_missed_it(house: House) -> None:
    observe_candidate(house.ledger, "toy", "1", "test")
    now = utc_now()
    (young,) = releases.unfinished_releases(Case(house, now=now))
    (old,) = releases.unfinished_releases(Case(house, now=now + timedelta(minutes=10)))
    assert (young.level, old.level) == (Level.WARNING, Level.PROBLEM)
    house.leases.take("toy", "a controller", 60)
    (held,) = releases.unfinished_releases(Case(house, now=now + timedelta(minutes=10)))
    assert (held.level, "a controller" in held.reason) == (Level.OK, True)


def test_aliases_moved_by_hand_or_owed_are_told_and_no_more(house: House) -> None:
    class Aliases:
        def alias(self, _model: str, _name: str) -> str:
            return "7"

    vars(house)["models"] = Aliases()
    payload = {"version": "1", "digest": f"sha256:{1:064}", "release": "toy-1"}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", payload, "test", model="toy"))
    open_rollback(house.ledger, "toy", "1", lambda: "7", "test")
    told = list(releases.aliases(Case(house)))
    assert {found.level for found in told} == {Level.WARNING}
    assert "names 7 instead of 1" in told[1].reason


def test_what_a_kill_left_in_a_region_is_named_with_the_command_that_deletes_it(case: Case) -> None:
    left = case.home.revisions("us-east-1") / ".abc-a1b2c3d4"
    left.mkdir(parents=True)
    then = time.time() - 7200
    os.utime(left, (then, then))
    (told,) = kept.leftovers(case)
    assert told.remedy == f"rm -r {left}"


def test_a_stable_revision_that_a_store_has_no_more_is_told(house: House, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    digest = house.origin.put_tree(tmp_path / "tree").digest
    house.region_store("us-east-1").put_tree(tmp_path / "tree")
    house.region_store("europe-west4")
    payload = {"version": "1", "digest": digest, "release": "toy-1"}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", payload, "test", model="toy"))
    (told,) = kept.stored(Case(house))
    assert (told.level, told.reason.endswith("is not in the store of europe-west4")) == (Level.PROBLEM, True)


def test_the_worst_finding_decides_the_exit_code() -> None:
    broken = problem("ledger", "is broken", exit_code=ExitCode.LEDGER_BROKEN)
    wrong = problem("settings", "are wrong", exit_code=ExitCode.BAD_INPUT)
    assert exit_code_of(()) is ExitCode.DONE
    assert exit_code_of((wrong,)) is ExitCode.BAD_INPUT
    assert exit_code_of((wrong, problem("edge", "is away"))) is ExitCode.FAILED
    assert exit_code_of((wrong, problem("edge", "is away"), broken)) is ExitCode.LEDGER_BROKEN


def test_every_check_has_a_name_and_says_what_it_is_for() -> None:
    assert [name for name, check in CHECKS.items() if not resolved(check.look.__name__).__doc__] == []


@pytest.mark.parametrize("library", ["sqlalchemy", "packaging", "supervisor"])
def test_a_library_that_does_not_import_is_told_and_the_rest_is_looked_at(house: House, library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv = ['convoy', 'doctor', '--json']; from control.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    told = json.loads(done.stdout)["findings"]
    assert any(library in finding["reason"] and finding["level"] == "problem" for finding in told)
    assert any(finding["check"] == "programs" and finding["level"] == "ok" for finding in told)


def test_the_command_tells_machines_everything(house: House) -> None:
    done = subprocess.run([sys.executable, "-m", "control.cli", "doctor", "--json"], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (5, 5)
    assert {finding["level"] for finding in told["findings"]} == {"ok", "warning", "problem"}
    assert all(set(finding) == {"level", "subject", "reason", "remedy", "check"} for finding in told["findings"])


def test_a_case_is_opened_part_by_part(house: House) -> None:
    house.home.stack_file.write_text("{")
    case, findings = open_case()
    assert of(findings, Level.OK).keys() >= {"settings", "fleet.yaml"}
    assert "cannot be read" in of(findings, Level.PROBLEM)[str(house.home.stack_file)].reason
    assert case.lacks(CHECKS["components"].needs) is not None
