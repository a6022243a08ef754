"""Bytes that rot in a region of a real stack while it is asked: found in one pass, not served, repaired, and no answer was wrong."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from clouds.serving import Deployment, State
from clouds.unpacked import unpacked
from fleet.errors import IntegrityError
from flows.work import stable_of
from support.stack import REGIONS, request
from support.stored import blob_file, flip_one_byte
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(300)]
MODEL, REGION = "rotting", REGIONS[1]
ASKERS, PAUSE = 4, 0.1


class Asking:
    """Callers who ask all the time and check each answer: twice what they sent."""

    def __init__(self, url: str) -> None:
        self.right, self.wrong, self.unanswered = 0, list[str](), list[str]()
        self._url, self._ended = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(ASKERS)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_more(self, answers: int = 40) -> None:
        """Wait until so many more were answered."""
        before = self.right
        wait_until(lambda: self.right >= before + answers, 60, what="callers are answered")

    def _ask(self, number: int) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self._ended.wait(PAUSE):
                sent = float(number + self.right)
                try:
                    answer = client.post(self._url, json=request(sent))
                except httpx.HTTPError as problem:
                    self.unanswered.append(str(problem))
                    continue
                if answer.status_code != httpx.codes.OK:
                    self.unanswered.append(f"{answer.status_code} {answer.text}")
                elif answer.json()["outputs"][0]["data"] == [2 * sent]:
                    self.right += 1
                else:
                    self.wrong.append(f"{answer.text} for {sent}")


def rot(file: Path) -> None:
    """Change one byte as a disk does: the file's size and time stay."""
    before = file.stat()
    flip_one_byte(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def scrubbed(stack: TestStack) -> dict[str, Any]:
    """Read all of the region's store, and return what was found and done."""
    done = stack.convoy("scrub", "--region", REGION, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_rots_in_a_region_under_traffic_is_found_not_served_and_repaired(stack: TestStack, tmp_path: Path) -> None:
    version = stack.register(MODEL)
    with stack.alone(), stack.load(MODEL):
        done = stack.release(MODEL, version)
    assert done.returncode == 0, done.stderr
    house, stable = stack.house, stable_of(stack.house, MODEL)
    assert stable is not None
    store, target = house.region_store(REGION), house.target(REGION)
    # Other tests of the stack have left what they broke
    scrubbed(stack)
    deployment = Deployment(MODEL, REGION, stable.digest)
    folder = dict(unpacked(target, REGION))[deployment]
    entry = next(each for each in store.manifest(stable.digest).entries if each.path.endswith("toy_model.py"))
    with stack.alone(), Asking(f"{house.stack.edge_url}/v2/models/{MODEL}/infer") as asking:
        asking.wait_for_more()
        rot(blob_file(store, entry.parts[0].digest))
        with pytest.raises(IntegrityError, match=entry.parts[0].digest):
            house.fetch_from(REGION)(stable.digest, tmp_path / "served")
        assert not (tmp_path / "served").exists()

        # The files that it serves from rot as well, and its process starts anew: it must not get ready
        target.break_(deployment)
        rot(folder / entry.path)
        target.mend(deployment)
        status = wait_until(
            lambda: found if (found := target.status_of(REGION, MODEL, stable.digest)).state is State.FAILED else None,
            60,
            what="it refuses",
        )
        assert status is not None
        assert entry.path in status.reason
        asking.wait_for_more()

        told = scrubbed(stack)
        (fault,) = told["stores"][REGION]["faults"]
        assert (fault["kind"], fault["path"].rpartition("/")[2]) == ("wrong", entry.parts[0].digest.removeprefix("sha256:"))
        assert (len(told["repaired"]), told["problems"]) == (2, []), "the blob, and the files that it serves from"
        wait_until(lambda: target.status_of(REGION, MODEL, stable.digest).state is State.READY, 60, what="it is ready again")
        asking.wait_for_more()
        again = scrubbed(stack)
        assert (again["stores"][REGION]["faults"], again["repaired"]) == ([], [])
    assert asking.wrong == []
