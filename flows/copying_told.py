"""How far the copies of a release are, as they stand beside it while they run: for whoever waits in a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from fleet.home import Home
from registry.replicate import Progress

FILE = "copying.json"


def progress_file(home: Home, release: str) -> Path:
    """Return where the progress of a release's copies stands while they run: by region, bytes done, in all and sent."""
    return home.work / release / FILE


def write_progress(home: Home, release: str, copies: Mapping[str, Progress]) -> None:
    """Write how far a release's copies are."""
    file = progress_file(home, release)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps({region: [found.done, found.whole, found.sent] for region, found in copies.items()}))
    aside.replace(file)


def read_progress(home: Home, release: str) -> dict[str, Progress]:
    """Return how far a release's copies are, nothing when none runs."""
    try:
        told = json.loads(progress_file(home, release).read_bytes())
        return {region: Progress(*numbers) for region, numbers in told.items()}
    except FileNotFoundError:
        return {}


def in_words(progress: Progress) -> str:
    """Return how far a copy is, for people."""
    part = 100 * progress.done // progress.whole if progress.whole else 100
    return f"{part} % of {progress.whole / (1 << 20):,.1f} MiB, {progress.sent / (1 << 20):,.1f} MiB sent"
