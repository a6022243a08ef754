"""The supervisor's adapter, against a real supervisord."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from clouds_support import STACK, wait_until

from clouds.local.program import environment_of
from clouds.local.supervisor import ProcessState, Program, Supervisor, configuration, launch
from fleet.errors import InputError, OperationFailed, UnknownName, Unreachable
from fleet.home import Home
from fleet.settings import STACK_MARK

NASTY = {
    "PERCENT": "50% off, 100%",
    "HERE": "%(here)s %(ENV_HOME)s %% %d",
    "DOUBLE": 'say "hello" now',
    "SINGLE": "it's fine",
    "COMMENT": "a ; b # c;d#e",
    "COMMA": "a,b=c, d = e",
    "SPACES": "  two  before and after  ",
    "TAB": "a\tb",
    "EMPTY": "",
    "BACKSLASH": r"C:\temp\n",
    "UNICODE": "München 東京",
    "JSON": '{"a": [1, 2]}',
    "URL": "sqlite:///a/b?c=d&e=%20f",
}
REPORT = "import json, os, sys, time; print(json.dumps([dict(os.environ), sys.argv[1:], os.getcwd()]), flush=True); time.sleep(600)"
LAUNCH = """
import sys
from pathlib import Path
from clouds.local.supervisor import launch
from fleet.home import Home
print(launch(Home(Path(sys.argv[1])), "x").pid())
"""


def sleeper(home: Home, name: str = "sleeper") -> Program:
    return Program(name, (sys.executable, "-c", "import time; time.sleep(600)"), home.root, home.logs / f"{name}.log")


def test_environment_arguments_and_folders_arrive_unharmed(home: Home, supervisor: Supervisor) -> None:
    folder = home.root / "a b; %(here)s #1"
    folder.mkdir()
    arguments = ("% %(here)s", "a b ; c # d", "\"double\" 'single'", "")
    program = Program("nasty", (sys.executable, "-c", REPORT, *arguments), folder, home.logs / "n 100%;1.log", NASTY)
    supervisor.add(program)
    wait_until(lambda: program.log.exists() and program.log.read_text().endswith("\n"))
    environment, heard, where = json.loads(program.log.read_text())
    assert {name: environment.get(name) for name in NASTY} == NASTY
    assert tuple(heard) == arguments
    assert where == str(folder)
    assert environment_of(supervisor.file("nasty")) == NASTY


@pytest.mark.parametrize("value", ["'both\" kinds", '"quoted"', "line\nbreak", "end'"])
def test_a_value_that_supervisord_cannot_read_is_refused_without_being_shown(home: Home, value: str) -> None:
    program = dataclasses.replace(sleeper(home), environment={"SECRET": value})
    with pytest.raises(InputError) as refused:
        program.section()
    assert value not in str(refused.value)


def test_a_home_with_an_awkward_name_works(home: Home) -> None:
    home = Home(home.root.with_name("é ;#% %(here)s"))
    supervisor = launch(home, STACK)
    try:
        supervisor.add(sleeper(home))
        assert supervisor.state("sleeper") in {ProcessState.STARTING, ProcessState.RUNNING}
    finally:
        supervisor.shutdown()


def test_a_home_too_deep_for_a_socket_is_refused_and_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    with pytest.raises(InputError, match=r"too deep.*107 bytes"):
        launch(home, STACK)
    assert not home.root.exists()


def test_an_odd_stack_id_is_refused(home: Home) -> None:
    with pytest.raises(InputError, match="stack"):
        configuration(home, 'a",B="c')


def test_the_deepest_home_that_is_accepted_can_be_launched(home: Home) -> None:
    while True:
        deeper = Home(home.root / "y")
        try:
            configuration(deeper, STACK)
        except InputError:
            break
        home = deeper
    launch(home, STACK).shutdown()


def test_the_socket_and_the_program_files_belong_to_the_owner_alone(home: Home, supervisor: Supervisor) -> None:
    supervisor.add(sleeper(home))
    assert stat.S_IMODE(home.supervisor_socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.supervisor.stat().st_mode) == 0o700
    assert stat.S_IMODE(supervisor.file("sleeper").stat().st_mode) == 0o600


def test_it_starts_with_a_clean_environment_and_the_mark_of_its_stack(
    home: Home, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not to be inherited")
    supervisor: Supervisor = request.getfixturevalue("supervisor")
    supervisor.add(sleeper(home))
    running = supervisor.process("sleeper")
    assert running
    for pid in (supervisor.pid(), running.pid):
        # A process that is just becoming another program shows no environment for a moment
        wait_until(lambda pid=pid: psutil.Process(pid).environ())
        environment = psutil.Process(pid).environ()
        assert environment[STACK_MARK] == STACK
        assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_launching_twice_is_one_supervisor(home: Home, supervisor: Supervisor) -> None:
    assert launch(home, STACK).pid() == supervisor.pid()


def test_a_killed_supervisor_leaves_a_stale_socket_that_is_no_obstacle(home: Home) -> None:
    first = launch(home, STACK)
    killed = psutil.Process(first.pid())
    killed.kill()
    wait_until(lambda: not first.alive())
    assert home.supervisor_socket.exists()
    second = launch(home, STACK)
    assert second.alive()
    second.shutdown()


def test_adding_the_same_program_again_leaves_its_process_alone(home: Home, supervisor: Supervisor) -> None:
    supervisor.add(sleeper(home))
    before = supervisor.process("sleeper")
    supervisor.add(sleeper(home))
    after = supervisor.process("sleeper")
    assert before
    assert after
    assert before.pid == after.pid
    assert len(supervisor.processes()) == 1


def test_adding_a_changed_program_replaces_its_process(home: Home, supervisor: Supervisor) -> None:
    supervisor.add(sleeper(home))
    before = supervisor.process("sleeper")
    supervisor.add(dataclasses.replace(sleeper(home), environment={"CHANGED": "yes"}))
    after = supervisor.process("sleeper")
    assert before
    assert before.pid
    assert after
    assert after.pid
    assert not psutil.pid_exists(before.pid)
    replaced = psutil.Process(after.pid)
    wait_until(lambda: replaced.environ().get("CHANGED") == "yes")


def test_start_stop_and_remove_may_be_repeated(home: Home, supervisor: Supervisor) -> None:
    supervisor.add(dataclasses.replace(sleeper(home), autostart=False))
    assert supervisor.state("sleeper") is ProcessState.STOPPED
    supervisor.start("sleeper")
    supervisor.start("sleeper")
    assert supervisor.state("sleeper") in {ProcessState.STARTING, ProcessState.RUNNING}
    supervisor.stop("sleeper")
    supervisor.stop("sleeper")
    assert supervisor.state("sleeper") is ProcessState.STOPPED
    supervisor.remove("sleeper")
    supervisor.remove("sleeper")
    assert supervisor.state("sleeper") is ProcessState.ABSENT
    assert not supervisor.file("sleeper").exists()


def test_a_stopped_program_takes_its_children_along(home: Home, supervisor: Supervisor) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True); __import__('time').sleep(600)"
    program = dataclasses.replace(sleeper(home), command=(sys.executable, "-c", code))
    supervisor.add(program)
    wait_until(lambda: program.log.exists() and program.log.read_text().endswith("\n"))
    child = int(program.log.read_text())
    supervisor.remove(program.name)
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_program_deaf_to_sigterm_is_killed(home: Home, supervisor: Supervisor) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    program = dataclasses.replace(sleeper(home), command=(sys.executable, "-c", code), stop_seconds=1)
    supervisor.add(program)
    wait_until(lambda: program.log.exists() and "deaf" in program.log.read_text())
    supervisor.stop(program.name)
    assert supervisor.state(program.name) is ProcessState.STOPPED


def test_a_killed_process_is_started_again(home: Home, supervisor: Supervisor) -> None:
    supervisor.add(sleeper(home))
    wait_until(lambda: supervisor.state("sleeper") is ProcessState.RUNNING)
    first = supervisor.process("sleeper")
    assert first
    assert first.pid
    os.kill(first.pid, signal.SIGKILL)

    def again() -> bool:
        now = supervisor.process("sleeper")
        return now is not None and now.pid not in {None, first.pid}

    wait_until(again)


def test_a_final_status_is_not_followed_by_another_start(home: Home, supervisor: Supervisor) -> None:
    code = "import sys, time; print('started', flush=True); time.sleep(1.2); sys.exit(int(sys.argv[1]))"
    final = dataclasses.replace(sleeper(home, "final"), command=(sys.executable, "-c", code, "3"), final_statuses=(2, 3))
    other = dataclasses.replace(sleeper(home, "other"), command=(sys.executable, "-c", code, "1"), final_statuses=(2, 3))
    supervisor.add(final)
    supervisor.add(other)
    wait_until(lambda: other.log.exists() and other.log.read_text().count("started") == 3)
    assert final.log.read_text().count("started") == 1
    ended = supervisor.process("final")
    assert ended
    assert (ended.state, ended.exit_status, ended.pid) == (ProcessState.EXITED, 3, None)


def test_signals_reach_the_process(home: Home, supervisor: Supervisor) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGHUP, lambda *_: print('hup', flush=True)); print('up', flush=True); time.sleep(600)"
    )
    program = dataclasses.replace(sleeper(home), command=(sys.executable, "-c", code))
    supervisor.add(program)
    wait_until(lambda: program.log.exists() and "up" in program.log.read_text())
    supervisor.signal(program.name, "HUP")
    wait_until(lambda: "hup" in program.log.read_text())


def test_faults_keep_their_meaning(home: Home, supervisor: Supervisor) -> None:
    with pytest.raises(UnknownName, match="nobody"):
        supervisor.start("nobody")
    supervisor.add(dataclasses.replace(sleeper(home), autostart=False, command=("/no/such/file",)))
    with pytest.raises(OperationFailed, match="no/such/file"):
        supervisor.start("sleeper")


def test_nobody_there_is_unreachable(home: Home) -> None:
    supervisor = Supervisor.of(home)
    assert not supervisor.alive()
    with pytest.raises(Unreachable):
        supervisor.processes()
    supervisor.shutdown()


def test_shutdown_ends_every_program(home: Home) -> None:
    supervisor = launch(home, STACK)
    supervisor.add(sleeper(home))
    running = supervisor.process("sleeper")
    assert running
    assert running.pid
    supervisor.shutdown()
    wait_until(lambda: not psutil.pid_exists(running.pid or 0))
    assert not supervisor.alive()


def test_two_launches_at_once_are_one_supervisor(home: Home) -> None:
    starts = [subprocess.Popen([sys.executable, "-c", LAUNCH, str(home.root)], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    pids = {start.communicate(timeout=60)[0] for start in starts}
    try:
        file = str(home.supervisor / "supervisord.conf")
        mine = {str(found.pid) for found in psutil.process_iter(["cmdline"]) if file in (found.info["cmdline"] or ())}
        assert {pid.strip() for pid in pids} == mine
        assert len(mine) == 1
    finally:
        Supervisor.of(home).shutdown()
