"""The meter's samples of one region on disk: a file per hour, appended to, and folded to one document once it is over.

    <hour>.jsonl    readings, one a line; first of all the last ones of the hour before, from which this hour counts
    <hour>.json     the same hour folded, once a newer one has begun

An hour never goes back: when the clock is set back, readings go into the newest hour until the clock has caught up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from clouds.billing import HOUR
from clouds.local.counters import Figures
from clouds.local.files import write_durably
from clouds.local.usage import ProgramUsage, Reading, Used, fold

KEPT_HOURS = 24 * 100
"""How long folded hours are kept; their bills stay."""


def hour_of(at_ms: int) -> str:
    """Return the name of the hour of a time, in UTC; names sort as the hours do."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime(HOUR)


def start_of(hour: str) -> datetime:
    """Return when an hour begins, in UTC."""
    return datetime.strptime(hour, HOUR).replace(tzinfo=UTC)


class Samples:
    """The samples in one folder; one process appends, any may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hours(self) -> tuple[str, ...]:
        """Return the hours that have samples, oldest first."""
        return tuple(sorted({file.stem for kind in ("json", "jsonl") for file in self.folder.glob(f"????-??-??T??Z.{kind}")}))

    def used(self, hour: str) -> tuple[ProgramUsage, ...]:
        """Return what each program used in an hour; nothing for an hour without samples."""
        for _ in range(2):
            try:
                return tuple(_usage(entry) for entry in json.loads(self._folded(hour).read_bytes()))
            except FileNotFoundError:
                # Folded by the meter between the two looks, if it is not here either
                if self._open(hour).exists():
                    return fold(self.readings(hour))
        return ()

    def readings(self, hour: str) -> Iterator[Reading]:
        """Yield the readings of an hour that is not folded yet; a line that a crash cut off is none."""
        try:
            lines = self._open(hour).read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield _reading(json.loads(line))
            except ValueError:
                continue

    def append(self, readings: Sequence[Reading], at_ms: int) -> bool:
        """Append readings of one moment to the hour of its time, and say whether that hour is a new one.

        A new hour begins with the last readings of the one before; a program that is not read any more is forgotten.
        """
        newest = next(reversed(self.hours()), None)
        hour = max(hour_of(at_ms), newest or "")
        if hour != newest:
            there = {reading.program for reading in readings}
            bases = [replace(last, base=True) for last in self._last(newest) if last.program in there]
            write_durably(self._open(hour), _lines(bases))
            self._fold_before(hour)
        with self._open(hour).open("r+b") as file:
            end = file.seek(0, 2)
            if end and (file.seek(end - 1), file.read(1))[1] != b"\n":
                file.write(b"\n")
            file.write(_lines(readings))
        return hour != newest

    def _last(self, hour: str | None) -> list[Reading]:
        return list({reading.program: reading for reading in self.readings(hour)}.values()) if hour else []

    def _fold_before(self, hour: str) -> None:
        """Fold the hours before one, and forget those that are too old."""
        earlier = [name for name in self.hours() if name < hour]
        for name in earlier:
            if self._open(name).exists():
                write_durably(self._folded(name), json.dumps([asdict(usage) for usage in self.used(name)]).encode())
                self._open(name).unlink()
        for name in earlier[:-KEPT_HOURS]:
            self._folded(name).unlink()

    def _open(self, hour: str) -> Path:
        return self.folder / f"{hour}.jsonl"

    def _folded(self, hour: str) -> Path:
        return self.folder / f"{hour}.json"


def _lines(readings: Iterable[Reading]) -> bytes:
    return b"".join(json.dumps(asdict(reading), separators=(",", ":")).encode() + b"\n" for reading in readings)


def _reading(entry: dict[str, object]) -> Reading:
    figures = {name: Figures(*values) for name, values in entry["figures"].items()}  # type: ignore[attr-defined]
    return Reading(**{**entry, "figures": figures})  # type: ignore[arg-type]


def _usage(entry: dict[str, object]) -> ProgramUsage:
    traffic = {name: Used(*values) for name, values in entry["traffic"].items()}  # type: ignore[attr-defined]
    return ProgramUsage(**{**entry, "traffic": traffic})  # type: ignore[arg-type]
