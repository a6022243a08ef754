from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from clouds.local.placements import Placement
from clouds.local.supervisor import launch
from clouds.serving import Deployment
from control.stack.components import Component, Site, components, deploying_environment
from control.stack.down import down
from control.stack.marked import end_marked, marked
from control.stack.ports import CLAIM_OFFSET, FIXED, claimed
from control.stack.records import check_same_ledger, ensure_credentials, record_ledger, record_stack, recorded_stack
from control.stack.up import up
from control.stack.waiting import Waiting
from fleet.errors import ExitCode, FleetFileError, InputError, OperationFailed, Unreachable
from fleet.home import Home
from fleet.settings import STACK_MARK, Settings

BASE = 21300


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def site(home: Home) -> Site:
    home.root.mkdir()
    return Site(home, Settings(home=home.root, tick_seconds=0.5), record_stack(home, BASE), ensure_credentials(home))


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        yield


def silent(_: str) -> None:
    pass


def test_the_wanted_block_is_taken_when_it_is_free() -> None:
    with claimed(None, BASE) as base:
        assert base == BASE


@pytest.mark.parametrize("offset", [*FIXED, CLAIM_OFFSET])
def test_a_taken_port_is_named_with_its_holder_and_a_remedy(offset: int) -> None:
    with (
        listening(BASE + offset),
        pytest.raises(InputError, match=f"port {BASE + offset} .*taken by process {os.getpid()}") as caught,
        claimed(None, BASE),
    ):
        pass
    assert "CONVOY_HOME" in caught.value.remedy


def test_two_stacks_that_start_at_once_take_two_blocks() -> None:
    with claimed(None, None) as first, claimed(None, None) as second:
        assert second >= first + 100


def test_a_block_with_one_taken_port_is_passed_over() -> None:
    with claimed(None, None) as first:
        pass
    with listening(first + 2), claimed(None, None) as second:
        assert second > first


def test_a_stack_never_moves_to_other_ports() -> None:
    with pytest.raises(InputError, match="has its ports from 21300 on"), claimed(BASE, BASE + 100):
        pass


def test_credentials_are_made_once_for_the_owner_alone_and_never_shown(home: Home) -> None:
    home.root.mkdir()
    made = ensure_credentials(home)
    assert ensure_credentials(home) == made
    assert home.credentials_file.stat().st_mode & 0o777 == 0o600
    assert len({made.api_token, made.edge_token, made.webhook_secret, made.mlflow_webhook_key}) == 4
    assert not any(secret in repr(made) for secret in json.loads(home.credentials_file.read_text()).values())


def test_credentials_that_others_could_read_are_closed_again(home: Home) -> None:
    home.root.mkdir()
    ensure_credentials(home)
    home.credentials_file.chmod(0o644)
    ensure_credentials(home)
    assert home.credentials_file.stat().st_mode & 0o777 == 0o600


def test_no_secret_stands_in_a_command_and_only_mlflow_is_given_one(site: Site) -> None:
    secrets = set(json.loads(site.home.credentials_file.read_text()).values())
    holders = {component.name for component in components(site) if secrets & set(component.environment.values())}
    assert holders == {"mlflow"}
    assert not any(secret in " ".join(component.command) for component in components(site) for secret in secrets)
    assert not secrets & set(deploying_environment(site).values())


def test_a_ledgers_password_reaches_convoys_own_programs_alone_and_is_never_shown(site: Site) -> None:
    url = "postgresql+psycopg://convoy:s3cret@127.0.0.1:1/ledger"
    told = Site(site.home, site.settings.model_copy(update={"ledger_url": url}), site.stack, site.credentials)
    assert {each.name for each in components(told) if "s3cret" in str(dict(each.environment))} == {"control", "runner"}
    assert not any("s3cret" in " ".join(each.command) for each in components(told))
    assert "s3cret" not in repr(told.settings)
    served = Placement(Deployment("toy", "mars", "sha256:" + "0" * 64), 21320).program(told.home, told.stack.stack_id)
    assert "s3cret" not in served.section()


def test_a_ledger_that_does_not_answer_starts_and_records_nothing(home: Home) -> None:
    with pytest.raises(Unreachable, match=r"ledger postgresql\+psycopg://convoy:\*\*\*@127\.0\.0\.1:1/ledger") as caught:
        up(Settings(home=home.root, ledger_url="postgresql+psycopg://convoy:s3cret@127.0.0.1:1/ledger"), silent)
    assert caught.value.exit_code is ExitCode.FAILED
    assert "CONVOY_LEDGER_URL" in caught.value.remedy
    assert "s3cret" not in str(caught.value)
    assert recorded_stack(home) is None
    assert not home.supervisor.exists()


def test_a_home_whose_releases_stand_in_another_ledger_is_not_begun_anew(home: Home) -> None:
    home.root.mkdir()
    url = "postgresql+psycopg://convoy:s3cret@127.0.0.1:1/ledger"
    record_ledger(home, url)
    check_same_ledger(home, url.replace("s3cret", "changed"))
    for other in (None, url.replace("/ledger", "/another")):
        with pytest.raises(InputError, match="the releases of this home stand in postgresql") as caught:
            up(Settings(home=home.root, ledger_url=other), silent)
        assert "Set it as it was" in caught.value.remedy
    assert not any("s3cret" in file.read_text() for file in home.root.iterdir() if file.is_file())
    assert recorded_stack(home) is None


def test_a_ledger_that_was_never_reached_may_be_corrected_and_the_one_that_was_is_written_down(home: Home) -> None:
    with pytest.raises(Unreachable):
        up(Settings(home=home.root, ledger_url="postgresql+psycopg://convoy@127.0.0.1:1/mistyped"), silent)
    found = f"sqlite:///{home.root / 'elsewhere.db'}"
    with listening(BASE + 2), pytest.raises(InputError, match=f"port {BASE + 2}"):
        up(Settings(home=home.root, ledger_url=found, port_base=BASE), silent)
    with pytest.raises(InputError, match=r"stand in sqlite:.*elsewhere\.db"):
        check_same_ledger(home, None)


@pytest.mark.parametrize("there", ["stack.json", "ledger.db"])
def test_a_home_of_before_that_has_its_ledger_in_a_file_takes_no_url_until_told_so(home: Home, there: str) -> None:
    home.root.mkdir()
    (home.root / there).write_text("")
    url = "postgresql+psycopg://convoy@127.0.0.1:1/ledger"
    check_same_ledger(home, None)
    with pytest.raises(InputError, match="stand in the file in this home") as caught:
        check_same_ledger(home, url)
    place, file = caught.value.remedy.split("'")[1], Path(caught.value.remedy.rpartition("into ")[2].rstrip("."))
    file.write_text(place + "\n")
    check_same_ledger(home, url)


@pytest.mark.parametrize("part", ["host=/run/other", "port=5433", "dbname=another"])
def test_a_database_may_be_named_in_a_urls_query_as_well(home: Home, part: str) -> None:
    home.root.mkdir()
    url = "postgresql+psycopg:///?host=/run/one&port=5432&dbname=ledger&password=s3cret"
    record_ledger(home, url)
    check_same_ledger(home, url.replace("s3cret", "changed") + "&connect_timeout=3")
    name = part.partition("=")[0]
    with pytest.raises(InputError, match="stand in postgresql") as caught:
        check_same_ledger(home, re.sub(f"{name}=[^&]*", part, url))
    assert "s3cret" not in str(caught.value)


def test_only_programs_of_our_own_are_given_our_settings(site: Site) -> None:
    told = {component.name for component in components(site) if component.environment.get("CONVOY_TICK_SECONDS") == "0.5"}
    assert told == {"control", "runner"}


def test_every_program_carries_the_mark_sends_no_telemetry_and_listens_on_its_own_port(site: Site) -> None:
    table = components(site)
    assert all(component.environment[STACK_MARK] == site.stack.stack_id for component in table)
    assert all(component.environment["DO_NOT_TRACK"] == "true" for component in table)
    assert len({component.health.split("/")[2] for component in table}) == len(table)


def test_settings_of_this_process_that_are_not_convoys_reach_no_program(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for them")
    assert not any("AWS_SECRET_ACCESS_KEY" in component.environment for component in components(site))


def test_a_half_written_fleet_file_starts_and_records_nothing(home: Home) -> None:
    home.root.mkdir()
    home.fleet_file.write_text("version: 1\nname: demo\nregions:\n  us-east-1: {target: local, prov")
    with pytest.raises(FleetFileError, match="line"):
        up(Settings(home=home.root), silent)
    assert not home.stack_file.exists()
    assert not home.supervisor.exists()


def test_a_taken_port_starts_and_records_nothing(home: Home) -> None:
    with listening(BASE + 2), pytest.raises(InputError, match=f"port {BASE + 2}"):
        up(Settings(home=home.root, port_base=BASE), silent)
    assert recorded_stack(home) is None
    assert not home.supervisor.exists()


def test_down_where_nothing_was_ever_started_does_nothing(home: Home) -> None:
    assert down(Settings(home=home.root)) == ()


def test_down_ends_what_a_dead_supervisor_left_and_nothing_else(site: Site) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with _sleeper(site.stack.stack_id, stubborn) as ours, _sleeper("another stack", stubborn) as theirs:
        assert [process.pid for process in marked(site.stack.stack_id)] == [ours.pid]
        assert len(down(Settings(home=site.home.root))) == 1
        assert not psutil.pid_exists(ours.pid)
        assert theirs.poll() is None
        assert end_marked(site.stack.stack_id) == ()


@contextmanager
def _sleeper(mark: str, code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code], env={STACK_MARK: mark}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_this_process_is_never_ended_even_with_the_mark(site: Site) -> None:
    code = f"from control.stack.marked import end_marked; print(end_marked({site.stack.stack_id!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={STACK_MARK: site.stack.stack_id}, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "()"


def _named(table: tuple[Component, ...], name: str) -> Component:
    return next(component for component in table if component.name == name)


def test_a_changed_setting_changes_the_program_that_reads_it(site: Site) -> None:
    other = Site(site.home, site.settings.model_copy(update={"tick_seconds": 3.0}), site.stack, site.credentials)
    assert _named(components(site), "runner").program(site) != _named(components(other), "runner").program(other)
    assert _named(components(site), "prefect").program(site) == _named(components(other), "prefect").program(other)


def test_a_component_that_cannot_start_is_named_with_the_end_of_its_log() -> None:
    root = Path(tempfile.mkdtemp(prefix="cv-", dir="/tmp"))
    home = Home(root)
    site = Site(home, Settings(home=root), record_stack(home, BASE), ensure_credentials(home))
    command = (sys.executable, "-c", "raise SystemExit('there is no database')")
    broken = Component("broken", command, {}, root, url="http://127.0.0.1:9/", health="http://127.0.0.1:9/")
    try:
        launch(home, site.stack.stack_id).add(broken.program(site))
        with pytest.raises(OperationFailed, match=r"(?s)broken: ends again and again.*there is no database") as caught:
            Waiting(site, 60, silent).healthy(broken)
        assert str(home.logs / "broken.log") in caught.value.remedy
    finally:
        down(site.settings)
        shutil.rmtree(root)
    assert marked(site.stack.stack_id) == []


def test_the_proxies_that_are_believed_are_told_to_the_agent(site: Site) -> None:
    believing = replace(site, settings=site.settings.model_copy(update={"trusted_proxies": 2}))
    (agent,) = [component for component in components(believing) if component.name == "agent"]
    assert agent.command[agent.command.index("--trusted-proxies") + 1] == "2"
