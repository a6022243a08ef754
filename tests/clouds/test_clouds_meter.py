"""The meter watches real processes that count as a server does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from clouds.local.counters import SUFFIX
from clouds.local.meter import EVERY_SECONDS, LATE_TURNS, Meter
from clouds.local.samples import Samples
from fleet.home import Home
from fleet.settings import inherited_environment
from support.ports import free_port
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SERVER = """
import os, sys, time
from bentos.service.settings import read_settings
from bentos.service.usage import Usage
usage = Usage(read_settings())
for line in sys.stdin:
    until = time.process_time() + 0.05
    while time.process_time() < until: pass
    usage.count(line.strip().encode(), 200, 100, 1000)
    print("counted", flush=True)
"""
Start = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    """Start a process that counts a request per line, and burns 50 ms for each."""
    started: list[subprocess.Popen[str]] = []

    def new() -> subprocess.Popen[str]:
        file = home.usage("us-east-1") / f"serve-one{SUFFIX}"
        settings = {"MODEL": "employment", "REGION": "us-east-1", "REVISION": "sha256:" + "a" * 64, "USAGE": str(file)}
        environment = inherited_environment() | {f"CONVOY_SERVICE_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-c", SERVER]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield new
    for process in started:
        process.kill()
        process.communicate()


def count(process: subprocess.Popen[str], *traffic: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    for label in traffic:
        process.stdin.write(label + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "counted\n"


def used(home: Home) -> dict[str, Counter[str]]:
    """Sum up what the samples say, by traffic."""
    samples, sums = Samples(home.usage("us-east-1")), {}
    for hour in samples.hours():
        for usage in samples.used(hour):
            assert (usage.model, usage.revision) == ("employment", "sha256:" + "a" * 64)
            for traffic, found in usage.traffic.items():
                sums.setdefault(traffic, Counter()).update(found._asdict())
    return sums


def test_requests_cpu_and_memory_of_a_server_that_is_killed_and_started_again_are_all_there(home: Home, start: Start) -> None:
    meter, first = Meter(home.regions), start()
    count(first, "live")
    meter.turn()
    count(first, "live", "live", "canary")
    meter.turn()
    count(first, "live", "drill")
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    meter.turn()
    second = start()
    count(second, "live", "canary")
    Meter(home.regions).turn()

    found = used(home)
    assert {traffic: sums["requests"] for traffic, sums in found.items()} == {"live": 5, "canary": 2, "drill": 1}
    assert found["live"]["bytes_out"] == 5000
    # The last 100 ms of the one that was killed were never seen
    assert 250_000 <= sum(sums["cpu_us"] for sums in found.values()) < 5_000_000
    assert all(sums["memory_byte_ms"] > 0 for traffic, sums in found.items() if traffic != "drill")
    assert meter.trouble() == ""


def test_another_process_with_the_number_of_a_dead_one_is_not_metered(home: Home, start: Start) -> None:
    process = start()
    count(process, "live")
    file = home.usage("us-east-1") / f"serve-one{SUFFIX}"
    data = bytearray(file.read_bytes())
    data[8:16] = (1).to_bytes(8, sys.byteorder)
    process.kill()
    process.wait(10)
    file.write_bytes(data)
    Meter(home.regions).turn()
    assert used(home) == {"live": Counter(requests=1, bytes_in=100, bytes_out=1000, failed=0, cpu_us=0, memory_byte_ms=0)}


def test_a_region_that_cannot_be_written_is_told_of_and_keeps_no_other(home: Home, start: Start) -> None:
    count(start(), "live")
    broken = home.usage("a-region")
    broken.mkdir(parents=True)
    (broken / f"serve-one{SUFFIX}").symlink_to(home.usage("us-east-1") / f"serve-one{SUFFIX}")
    (broken / time.strftime("%Y-%m-%dT%HZ.jsonl", time.gmtime())).mkdir()
    meter = Meter(home.regions)
    meter.turn()
    assert meter.trouble().startswith("a-region: ")
    assert used(home)["live"]["requests"] == 1


def test_the_meter_tells_its_health_and_what_is_wrong(home: Home) -> None:
    port = free_port()
    command = [sys.executable, "-P", "-m", "clouds.local.meter", "--regions", str(home.regions), "--port", str(port), "--every", "0.1"]
    with subprocess.Popen(command, env=inherited_environment()) as process:
        try:
            answer = wait_until(lambda: health(port), 20)
            assert answer.json()["version"]
            assert answer.status_code == 200
            broken = home.usage("a-region")
            broken.mkdir(parents=True)
            (broken / f"x{SUFFIX}").mkdir()
            told = wait_until(lambda: (found := health(port)) is not None and found.status_code == 503 and found, 20)
            assert "a-region" in told.json()["reason"]
        finally:
            process.kill()


def test_a_meter_that_hangs_is_not_healthy(home: Home) -> None:
    meter = Meter(home.regions)
    meter._turned -= (LATE_TURNS + 1) * EVERY_SECONDS
    assert "the last look was" in meter.trouble()


def health(port: int) -> httpx.Response | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=5)
    except httpx.TransportError:
        return None
