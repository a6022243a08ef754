"""Reads the advisories that a site has: a JSON or JSON-lines file, a folder of such files, or an archive of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet.components import Component
from fleet.errors import InputError
from policies.archives import Bounds, unpack
from policies.dependencies.osv import Match, advisory_of, matches

MOST_BYTES = 512 << 20
MOST_UNREADABLE = 5
SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
BOUNDS = Bounds(file=16 << 20)
CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Scan:
    """What the advisories say of some components: how many there are, the newest change, and what could not be read."""

    matches: tuple[Match, ...] = ()
    advisories: int = 0
    newest: datetime | None = None
    problems: tuple[str, ...] = ()


def scan(place: Path, components: Mapping[str, Component], work: Path, now: datetime) -> Scan:
    """Hold every advisory of a place against components by name; `work` is a folder for what is unpacked.

    What cannot be read, or claims to be of the future, is a problem: such a place cannot say that nothing is known.
    """
    found: list[Match] = []
    problems: list[str] = []
    count, newest = 0, None
    try:
        with _opened(place, work) as opened:
            for source, document in _documents(opened):
                try:
                    advisory = advisory_of(document, now)
                except ValueError as problem:
                    problems.append(f"{source} {problem}")
                    continue
                count += 1
                if advisory.modified > now + CLOCKS_DIFFER:
                    problems.append(f"{source} says that it was changed in the future, at {advisory.modified.isoformat()}")
                else:
                    newest = max(newest or advisory.modified, advisory.modified)
                found.extend(matches(advisory, components))
    except InputError as problem:
        problems.append(str(problem))
    except OSError as problem:
        problems.append(f"{place} cannot be read ({type(problem).__name__})")
    more = len(problems) - MOST_UNREADABLE
    return Scan(tuple(found), count, newest, (*problems[:MOST_UNREADABLE], *((f"and {more} more like these",) if more > 0 else ())))


@contextmanager
def _opened(place: Path, work: Path) -> Iterator[Path]:
    """Give the place itself, or for an archive a folder of its files that is gone afterwards."""
    if not place.is_file() or place.suffix in SUFFIXES:
        yield place
        return
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="advisories-", dir=work) as scratch:
        unpack(place, Path(scratch) / "files", BOUNDS)
        yield Path(scratch) / "files"


def _documents(place: Path) -> Iterator[tuple[str, object]]:
    """Give each record with the name of the file it stands in; raises InputError for a place without any file."""
    files = sorted(path for path in place.rglob("*") if path.suffix in SUFFIXES and path.is_file()) if place.is_dir() else [place]
    if not files:
        raise InputError(str(place), f"has no files ({', '.join(sorted(SUFFIXES))})", "Correct CONVOY_ADVISORIES.")
    for file in files:
        yield from _read(file)


def _read(file: Path) -> Iterator[tuple[str, object]]:
    import orjson

    if file.stat().st_size > MOST_BYTES:
        raise InputError(str(file), f"is larger than {MOST_BYTES >> 20} MiB", "Give a folder or an archive of one file each.")
    # What cannot be read as JSON is given as text, which is no record either
    if file.suffix == ".json":
        try:
            document = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError:
            document = "no JSON"
        yield from ((file.name, each) for each in (document if isinstance(document, list) else [document]))
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield f"{file.name} line {number}", orjson.loads(line)
            except orjson.JSONDecodeError:
                yield f"{file.name} line {number}", "no JSON"
