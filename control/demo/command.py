"""`convoy demo`: a fresh home, the whole stack, the story, the summary."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from control.demo.driver import Driver
from control.demo.rows import Pair
from control.demo.story import MODEL, Story, Tale
from control.demo.summary import show, summarize
from control.printing import progress
from control.stack.down import down
from control.stack.up import up
from fleet.errors import ConvoyError, ExitCode, InputError
from fleet.home import Home
from fleet.settings import Settings
from flows.house import House

if TYPE_CHECKING:
    import pandas as pd

    from control.demo.versions import Version

HERE = Path(__file__).parent
MARK = "demo"
LIVE_YEAR = 2017
LIVE_ROWS = 20_000


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


def run(options: Options) -> ExitCode:
    """Tell the whole story in a home of its own; exit 0 only when every step ended as told."""
    began = time.monotonic()
    tale = Tale(seed=options.seed, pair=Pair.parse(options.pair), fault=options.fault, rate=options.rate)
    settings = Settings(home=options.home, fleet=None, port_base=options.port_base, keep_raw_logs=True)
    home = Home.of(settings)
    clear(home, settings)
    prepare(home)
    report = progress.print
    with ThreadPoolExecutor(max_workers=1) as aside:
        making = aside.submit(material, tale)
        report(f"[bold]starting the stack[/] in {home.root}")
        up(settings, lambda text: report(f"  {text}"))
        frames, live, versions = making.result()
    driver = Driver(House(settings, home), MODEL, versions, report, quiet=options.as_json)
    driver.write_bodies(live)
    driver.commit_rows(frames)
    story = Story(tale, driver, frames)
    failure, requests = None, {}
    try:
        story.tell()
        requests = driver.classify()
    except ConvoyError as problem:
        failure = str(problem)
    finally:
        driver.stop_load()
    summary = summarize(story, requests, time.monotonic() - began, failure)
    show(summary, options.as_json)
    if options.stop:
        down(settings)
    else:
        report("The stack is still up, so that you can look around.")
    return ExitCode.FAILED if summary.problems else ExitCode.DONE


def clear(home: Home, settings: Settings) -> None:
    """Stop and delete an earlier demo in this home; raises InputError for a home that is not a demo's."""
    if not home.root.exists() or not any(home.root.iterdir()):
        return
    if not (home.root / MARK).is_dir():
        raise InputError(str(home.root), "is not empty and not a demo's home", "Name another folder with --home.")
    down(settings)
    shutil.rmtree(home.root)


def prepare(home: Home) -> None:
    """Write the demo's fleet.yaml and contract into a new home."""
    (home.root / MARK).mkdir(mode=0o700, parents=True)
    home.root.chmod(0o700)
    (home.root / "contracts").mkdir()
    shutil.copyfile(HERE / "contract.json", home.root / "contracts" / "employment.json")
    text = (HERE / "fleet.yaml").read_text(encoding="utf-8")
    home.fleet_file.write_text(text.replace("{data-repository}", str(home.root / MARK / "data-repository")), encoding="utf-8")


def material(tale: Tale) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, dict[str, Version]]:
    """Return the rows of every version and of the gates, the live rows, and the versions to train."""
    from control.demo.rows import census
    from control.demo.versions import slices, versions

    rows = census()
    live = rows[rows["year"] == LIVE_YEAR].sample(LIVE_ROWS, random_state=tale.seed)
    return slices(rows, tale.pair, tale.seed), live, {f"v{each.number}": each for each in versions(tale.pair, tale.fault, tale.seed)}
