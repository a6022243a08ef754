"""The demo's story, chapter by chapter: each does one thing, waits for how it ends, and is checked against what was told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from rich.markup import escape

from control.demo.chapter import Chapter
from control.demo.driver import Driver
from control.demo.epilogue import watched, watches
from control.demo.register import data_path, promote
from control.demo.rows import Pair
from control.demo.told import FIRST, PICKED_UP_SECONDS, PROMOTED, REJECTED, ROLLED_BACK, Ending, opener, otherwise, wrong_answers
from control.demo.versions import HOLDOUT
from control.release_commands import wait_for_end
from fleet.canonical import digest_of_file
from fleet.errors import OperationFailed
from fleet.versions import DataLineage
from flows import effects
from flows.desires import CHAMPION, desires, model_stream, release_stream
from registry.lineage import fetch

if TYPE_CHECKING:
    import pandas as pd

MODEL = "employment"
FLOW_START_SECONDS = 120.0
RELEASE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Tale:
    """What the story is told with."""

    seed: int = 1
    pair: Pair = field(default_factory=lambda: Pair.parse("MAR=3,SEX=2"))
    fault: bool = True
    rate: float = 60.0


class Story:
    """Tells the story on a running stack."""

    def __init__(self, tale: Tale, driver: Driver, frames: dict[str, pd.DataFrame]) -> None:
        self.tale = tale
        self.driver = driver
        self.frames = frames
        self.chapters: list[Chapter] = []

    def tell(self) -> None:
        """Tell it to the end, or to the first chapter that cannot be told."""
        self.chapter("version 1 is released everywhere, gates and no canary", lambda: self.released("v1", FIRST))
        self.chapter("from the ledger alone the training rows come back", self.rows_from_ledger)
        self.driver.start_load(self.tale.rate, self.tale.seed)
        self.chapter("version 2 is better: promoted after a canary", lambda: self.released("v2", PROMOTED))
        third = ROLLED_BACK if self.tale.fault else PROMOTED
        told = (
            f"version 3 raises on {self.tale.pair}: rolled back by itself" if self.tale.fault else "version 3 without its fault: promoted"
        )
        self.chapter(told, lambda: self.released("v3", third))
        self.chapter("version 4 is worse: rejected at the gates", lambda: self.released("v4", REJECTED))
        self.driver.stop_load()
        if self.tale.fault:
            self.chapter(f"version 3 failed on {self.tale.pair} and on nothing else", self.failed_on_the_pair)

    def watch(self) -> None:
        """Have each scheduled watch run once; the requests of the story have been classified by then, a drill sends its own."""
        for watch in watches(MODEL):
            self.chapter(watch.title, partial(watched, self.driver.house, watch))

    def chapter(self, title: str, act: Callable[[], Chapter]) -> None:
        """Run one chapter and keep what came of it; raises OperationFailed when the story cannot go on."""
        self.driver.report(f"[bold]{escape(title)}[/]")
        found = act()
        self.chapters.append(found)
        self.driver.report(f"  {'as told' if found.as_told else '[red]NOT as told[/]'}: {escape(found.says)} ({found.seconds:.0f} s)")
        if not found.as_told:
            raise OperationFailed(title, found.says, f"Logs: {self.driver.house.home.logs}.")

    def released(self, name: str, ending: Ending) -> Chapter:
        """Register a version, set the alias candidate with the plain MLflow client, and wait for the release's end."""
        began, house = time.monotonic(), self.driver.house
        number = self.driver.register(name, self.frames[name], self.frames[HOLDOUT])
        known = len(desires(house.ledger, MODEL))
        promote(house.stack.mlflow_url, MODEL, number)
        view = wait_for_end(house, MODEL, self._next_release(known), quiet=self.driver.quiet, seconds=RELEASE_SECONDS)
        champion = house.models.alias(MODEL, CHAMPION)
        opened_by = opener(house.ledger.stream(model_stream(MODEL)), view.release)
        wrong = otherwise(view, ending, champion, opened_by, house.ledger.stream(release_stream(view.release)))
        waited = view.seconds.get("requested", 0.0)
        says = f"{view.release} is {view.phase}, champion is version {champion}; taken up {waited:.1f} s after the {opened_by}"
        says = "; ".join((f"{says} (at most {PICKED_UP_SECONDS:.0f} s)", *view.reasons, *wrong))
        return Chapter(f"{name} {ending.phase.value}", not wrong, says, time.monotonic() - began, view)

    def failed_on_the_pair(self) -> Chapter:
        """Look in the client's log: version 3 failed on each request with the pair that it got, and on no other."""
        began = time.monotonic()
        third = next((each.release for each in self.chapters if each.release is not None and each.release.version == "3"), None)
        if third is None or third.digest is None:
            raise OperationFailed("version 3", "was never packaged")
        failed, wrong = wrong_answers(self.driver.client_log, third.digest, self.driver.pair_bodies)
        says = f"{failed} requests with the pair reached version 3"
        says += f"; {len(wrong)} answers are otherwise than told: {', '.join(wrong[:5])}" if wrong else ", all failed; nothing else did"
        return Chapter("v3 failed on the pair alone", failed > 0 and not wrong, says, time.monotonic() - began)

    def rows_from_ledger(self) -> Chapter:
        """Fetch the training rows of version 1 again with nothing but what the ledger holds, and compare their hash."""
        began = time.monotonic()
        house = self.driver.house
        release = desires(house.ledger, MODEL)[0].release
        resolved = [event for event in house.ledger.stream(release_stream(release)) if event.effect_key == effects.RESOLVE][-1]
        lineage = DataLineage(**json.loads(json.dumps(resolved.payload["lineage"], default=dict)))
        file = fetch(lineage, house.home.work / "from-ledger" / data_path("v1"))
        found = digest_of_file(file)
        return Chapter(
            "rows from the ledger",
            found == lineage.sha256,
            f"{lineage.path} at {lineage.commit[:12]} hashes to {found}",
            time.monotonic() - began,
        )

    def _next_release(self, known: int) -> str:
        """Wait until the alias has become a desire; reconcile would find it within a minute at the latest."""
        deadline = time.monotonic() + FLOW_START_SECONDS
        while time.monotonic() < deadline:
            found = desires(self.driver.house.ledger, MODEL)
            if len(found) > known:
                return found[-1].release
            time.sleep(0.1)
        raise OperationFailed(
            "alias candidate", f"was set {FLOW_START_SECONDS:.0f} seconds ago and nothing came of it", "See the control API's log."
        )
