"""What a serving process counted is there whenever and however it ended."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from bentos_serving import Service, serving, tensor

from bentos.service import usage
from bentos.service.settings import ServiceSettings
from bentos.service.usage import Usage
from clouds.local.counters import Counters, Figures, read_counters

TYPES = {"age": ("INT64", 1), "children": ("INT32", 1), "hours": ("FP64", 1.0), "rate": ("FP32", 1.0), "member": ("BOOL", True)}


def settings(usage: Path, **more: str) -> ServiceSettings:
    return ServiceSettings(root=usage.parent, usage=usage, **{"model": "echo", "region": "eu-west", **more})  # type: ignore[arg-type]


def counted(file: Path) -> Counters:
    found = read_counters(file)
    assert found is not None
    return found


def ask(service: Service, traffic: str | None, city: str = "Oslo") -> tuple[int, int]:
    """Send one request as the edge would and return the bytes of both bodies."""
    headers = {} if traffic is None else {"x-convoy-traffic": traffic}
    row = [*(tensor(name, kind, value) for name, (kind, value) in TYPES.items()), tensor("city", "BYTES", city)]
    body = json.dumps({"inputs": row}).encode()
    answer = service.client.post("/v2/models/echo/infer", content=body, headers={"content-type": "application/json", **headers})
    return len(body), len(answer.content)


def test_what_was_answered_survives_a_kill_and_the_next_process_goes_on_adding(echo_bento: Path, tmp_path: Path) -> None:
    file = tmp_path / "usage" / "one.counters"
    with serving(echo_bento, tmp_path / "log", usage=str(file), model="echo", region="eu-west") as service:
        sizes = [ask(service, traffic) for traffic in ("live", "live", "canary", "drill", "shadow", "pinned", "golden", None, "made up")]
        refused = ask(service, "live", city="raise")
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(20)

    found = counted(file)
    assert found.figures["live"] == Figures(3, 1, 2 * sizes[0][0] + refused[0], 2 * sizes[0][1] + refused[1])
    assert {found.figures[label] for label in ("canary", "drill", "shadow", "pinned", "golden")} == {Figures(1, 0, *sizes[0])}
    assert found.figures["unlabelled"].requests == 2
    assert (found.model, found.region, found.pid) == ("echo", "eu-west", service.process.pid)

    Usage(settings(file)).count(b"canary", 200, 7, 9)
    again = counted(file)
    assert again.figures["canary"].since(found.figures["canary"]) == Figures(1, 0, 7, 9)
    assert again.figures["live"] == found.figures["live"]
    assert again.pid == os.getpid()


@pytest.mark.parametrize("content", [b"something else", b"", bytes(4096)])
def test_a_file_that_is_not_ours_is_begun_anew(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "one.counters"
    file.write_bytes(content)
    assert read_counters(file) is None
    Usage(settings(file)).count(b"live", 200, 1, 2)
    assert counted(file).figures["live"] == Figures(1, 0, 1, 2)


def test_the_counters_of_another_revision_are_not_added_to(tmp_path: Path) -> None:
    file = tmp_path / "one.counters"
    before = Usage(settings(file))
    before.count(b"live", 200, 1, 2)
    del before
    Usage(settings(file, revision="sha256:" + "a" * 64))
    assert counted(file).figures["live"] == Figures()


def test_answers_go_on_where_nothing_can_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.counters"
    file.mkdir()
    Usage(settings(file)).count(b"live", 200, 1, 2)
    assert f"usage is not counted: {file}" in capsys.readouterr().err


def test_what_is_answered_while_a_draining_process_still_counts_is_counted_when_it_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "AGAIN_SECONDS", 0.0)
    file = tmp_path / "one.counters"
    draining = Usage(settings(file))
    draining.count(b"live", 200, 1, 2)

    following = Usage(settings(file))
    following.count(b"live", 200, 10, 20)
    following.count(b"canary", 503, 5, 6)
    draining.count(b"live", 200, 1, 2)
    assert counted(file).figures["live"] == Figures(2, 0, 2, 4)
    assert f"usage is counted in memory until another process lets go of {file}" in capsys.readouterr().err

    del draining
    following.count(b"live", 200, 10, 20)
    assert counted(file).figures["live"] == Figures(4, 0, 22, 44)
    assert counted(file).figures["canary"] == Figures(1, 1, 5, 6)


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    Usage(ServiceSettings(root=tmp_path)).count(b"live", 200, 1, 2)
    assert list(tmp_path.iterdir()) == []
