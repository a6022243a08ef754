"""`convoy demo`: a fresh home, the whole stack, the story, the summary."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError
from rich.markup import escape

from control.demo.classification import Classification
from control.demo.driver import Driver
from control.demo.pace import FAST, WHOLE, Pace
from control.demo.rows import Pair
from control.demo.story import MODEL, Story, Tale
from control.demo.summary import show, summarize
from control.printing import progress
from control.stack.down import down
from control.stack.up import up
from fleet.errors import ConvoyError, ExitCode, InputError
from fleet.home import Home
from fleet.settings import EdgeLayout, Settings, settings, silence_telemetry
from flows.house import House

if TYPE_CHECKING:
    import pandas as pd

    from control.demo.versions import Version

T = TypeVar("T")
HERE = Path(__file__).parent
FOLDER = "demo"
MARKER = ".convoy-demo"
MARKED = "This folder was made by `convoy demo`, which deletes all of it before it tells its story again.\n"
LIVE_YEAR = 2017
LIVE_ROWS = 20_000
MOST_SEED = 2**32 - 1
LEAST_RATE = 50.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `convoy demo` was asked for."""

    home: Path
    port_base: int | None = None
    pair: str = "MAR=3,SEX=2"
    fault: bool = True
    seed: int = 1
    rate: float = 60.0
    stop: bool = False
    as_json: bool = False
    fast: bool = False

    @property
    def pace(self) -> Pace:
        """How much evidence the canaries ask for."""
        return FAST if self.fast else WHOLE


@dataclass(frozen=True, slots=True)
class Material:
    """The rows of every version and of the gates, the rows that are sent, and the versions to train."""

    frames: dict[str, pd.DataFrame]
    live: pd.DataFrame
    versions: dict[str, Version]


def run(options: Options) -> ExitCode:
    """Tell the whole story in a home of its own; exit 0 only when every step ended as told."""
    began = time.monotonic()
    silence_telemetry()
    settings, tale = settings_of(options), tale_of(options)
    found = material(tale, options.pace)
    home = Home.of(settings)
    clear(home, settings)
    prepare(home, options.pace)
    report = progress.print
    report(f"[bold]starting the stack[/] in {escape(str(home.root))}")
    up(settings, lambda text: report(f"  {escape(text)}"))
    driver = Driver(House(settings, home), MODEL, found.versions, report, quiet=options.as_json)
    driver.write_bodies(found.live, tale.pair)
    driver.commit_rows(found.frames)
    story = Story(tale, driver, found.frames)
    try:
        requests, failure = tell(story)
    finally:
        driver.stop_load()
    summary = summarize(story, requests, time.monotonic() - began, failure)
    show(summary, options.as_json)
    if options.stop:
        down(settings)
    else:
        report("The stack is still up, so that you can look around.")
    return ExitCode.FAILED if summary.problems else ExitCode.DONE


def tell(story: Story) -> tuple[Classification | None, str | None]:
    """Tell the story, classify its requests, then have the watches run; returns the requests and what went wrong.

    The requests of a story that broke off are classified too; the watches run only where all went well.
    """
    failures: list[str] = []
    attempted(story.tell, failures)
    attempted(story.driver.stop_load, failures)
    requests = attempted(story.driver.classify, failures) if story.driver.totals is not None else None
    if not failures:
        attempted(story.watch, failures)
    return requests, "; ".join(failures) or None


def attempted(act: Callable[[], T], failures: list[str]) -> T | None:
    """Do something and return what came of it; what Convoy reports instead joins the failures."""
    try:
        return act()
    except ConvoyError as problem:
        failures.append(str(problem))
        return None


def settings_of(options: Options) -> Settings:
    """Return the settings of a stack of its own: neither the user's ledger nor a rehearsal's crash; raises InputError."""
    settings()
    try:
        return Settings(
            home=options.home,
            fleet=None,
            ledger_url=None,
            port_base=options.port_base,
            # All of its requests come in at one door
            edges=EdgeLayout.ONE,
            crash_at=None,
            keep_raw_logs=True,
        )
    except ValidationError as problem:
        found = "; ".join(f"{error['loc'][0]}: {error['msg']}" for error in problem.errors())
        raise InputError("options of `convoy demo`", found, "Correct the option.") from problem


def tale_of(options: Options) -> Tale:
    """Return the tale that the options ask for; raises InputError."""
    if not 0 <= options.seed <= MOST_SEED:
        raise InputError("seed", f"is {options.seed}", f"Give a number from 0 to {MOST_SEED}.")
    if not LEAST_RATE <= options.rate < math.inf:
        raise InputError("rate", f"is {options.rate}", f"Give {LEAST_RATE:.0f} or more requests a second.")
    return Tale(seed=options.seed, pair=Pair.parse(options.pair), fault=options.fault, rate=options.rate)


def clear(home: Home, settings: Settings) -> None:
    """Stop and delete an earlier demo in this home; raises InputError for anything that is not a demo's home."""
    root = home.root
    if not root.exists() and not root.is_symlink():
        return
    if root.is_symlink() or not root.is_dir():
        raise InputError(str(root), "is not a folder", "Name another one with --home.")
    if not any(root.iterdir()):
        return
    if not made_by_us(root / MARKER):
        raise InputError(
            str(root),
            f"is not empty, and no {MARKER} of ours says that a demo made it",
            "Name another folder with --home, or delete it yourself if nothing in it is needed.",
        )
    down(settings)
    shutil.rmtree(root)


def made_by_us(marker: Path) -> bool:
    """Whether a marker is the one that `prepare` writes, to the last character."""
    return marker.is_file() and not marker.is_symlink() and marker.read_bytes() == MARKED.encode()


def prepare(home: Home, pace: Pace) -> None:
    """Mark a new home as a demo's, and write the demo's fleet.yaml and contract into it."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.root.chmod(0o700)
    (home.root / MARKER).write_text(MARKED, encoding="utf-8")
    (home.root / FOLDER).mkdir(mode=0o700)
    (home.root / "contracts").mkdir()
    shutil.copyfile(HERE / "contract.json", home.root / "contracts" / "employment.json")
    text = (HERE / "fleet.yaml").read_text(encoding="utf-8")
    text = pace.fill(text).replace("{data-repository}", str(home.root / FOLDER / "data-repository"))
    home.fleet_file.write_text(text, encoding="utf-8")


def material(tale: Tale, pace: Pace) -> Material:
    """Draw the rows of a tale; raises InputError for a pair that cannot carry it."""
    from control.demo.rows import census
    from control.demo.versions import slices, versions

    rows = census()
    live = rows[rows["year"] == LIVE_YEAR].sample(LIVE_ROWS, random_state=tale.seed)
    share = float(tale.pair.holds(live).mean())
    if share < pace.least_pair:
        raise InputError(
            "pair", f"{tale.pair} is in {share:.2%} of the live rows", f"Choose one that is in {pace.least_pair:.0%} of them or more."
        )
    frames = slices(rows, tale.pair, tale.seed)
    return Material(frames, live, {f"v{each.number}": each for each in versions(tale.pair, tale.fault, tale.seed)})
