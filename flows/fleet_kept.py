"""Every fleet.yaml that a release went by: kept once, by the digest of its bytes, in the origin store."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.canonical import digest_of, short
from fleet.errors import InputError, IntegrityError, OperationFailed, UnknownName, Unreachable
from fleet.reading import fleet_of
from flows.desires import release_stream
from flows.house import House
from flows.work import Work
from registry.ledger import NewEvent

READ, RESTORED = "fleet.read", "fleet.restored"
STREAM = "fleet"
_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


@dataclass(frozen=True, slots=True)
class FleetFile:
    """One fleet.yaml: since when the ledger has it, and the releases that went by it, oldest first."""

    digest: str
    since: datetime
    releases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a restoration changes: the digests before and after, and the difference as people read it."""

    before: str
    after: str
    difference: str


def record_fleet(work: Work) -> None:
    """Keep the fleet.yaml that a release goes by and record its digest; another one since then is recorded too.

    The way back waits for no store that has no room for a document.
    """
    digest = digest_of(work.house.fleet_text)
    last = work.house.ledger.last(release_stream(work.desire.release), READ)
    if last is not None and last.payload["digest"] == digest:
        return
    try:
        keep_fleet(work.house, work.house.fleet_text)
    except (Unreachable, OperationFailed) as problem:
        if work.proven is None:
            raise
        # Here alone: the commands show fleets without Prefect
        from prefect import get_run_logger

        get_run_logger().warning("%s: %s", work.desire.release, problem)
        return
    work.journal.record(READ, {"digest": digest})


def keep_fleet(house: House, text: bytes) -> str:
    """Keep the bytes of a fleet.yaml, read back, and return their digest; the same bytes are kept once."""
    digest = digest_of(text)
    house.origin.note("fleets", digest.removeprefix("sha256:"), text)
    return digest


def kept_fleet(house: House, name: str) -> tuple[str, bytes]:
    """Return the digest and the bytes of a kept fleet.yaml, named by its digest or the beginning of it.

    Raises UnknownName that lists the known ones, IntegrityError for bytes that are not the digest's.
    """
    written = _PREFIX.fullmatch(name)
    known = house.origin.notes("fleets")
    found = [each for each in known if written is not None and each.startswith(written[1])]
    if len(found) != 1:
        says = "names several" if found else "is none that was kept"
        told = ", ".join(map(short, found or known)) or "none"
        raise UnknownName(f"fleet.yaml '{name}'", f"{says} (known: {told})", "See `convoy fleet history`.")
    text = house.origin.noted("fleets", found[0])
    digest = digest_of(text)
    if digest != f"sha256:{found[0]}":
        raise IntegrityError(f"fleets/{found[0]} in store {house.origin.name}", f"has other bytes ({digest})", "Restore it from a backup.")
    return digest, text


def fleet_history(house: House) -> tuple[FleetFile, ...]:
    """Return every fleet.yaml that the ledger knows, by when it was first seen."""
    found: dict[str, FleetFile] = {}
    events = [*house.ledger.starting_with(release_stream(""), READ), *house.ledger.stream(STREAM, RESTORED)]
    for event in sorted(events, key=lambda event: event.seq):
        digest = str(event.payload["digest"])
        known = found.get(digest) or FleetFile(digest, event.at, ())
        release = (event.stream.removeprefix(release_stream("")),) if event.type == READ else ()
        found[digest] = FleetFile(digest, known.since, (*known.releases, *release))
    return tuple(found.values())


def difference(before: bytes, after: bytes, names: tuple[str, str]) -> str:
    """Return how two texts differ, line by line, empty for the same."""
    first, second = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in difflib.unified_diff(first, second, *names))


def rehearse_restoration(house: House, name: str) -> tuple[Restoration, bytes]:
    """Return what a restoration would change, and the bytes that it would write; raises FleetFileError where they do not hold today."""
    digest, text = kept_fleet(house, name)
    fleet_of(text, f"fleet.yaml {short(digest)}")
    present = _present(house.fleet_file)
    before = digest_of(present)
    told = difference(present, text, (f"now {short(before)}", f"restored {short(digest)}"))
    return Restoration(before, digest, told), text


def restore_fleet(house: House, name: str, actor: str) -> Restoration:
    """Put a kept fleet.yaml in the place of the present one, which is kept first, and record it.

    The file is written aside and renamed into place, so that a reader meets the one or the other. Raises InputError where
    it is the present one already.
    """
    restoration, text = rehearse_restoration(house, name)
    if restoration.before == restoration.after:
        raise InputError(f"fleet.yaml '{name}'", "is the one in force", "See `convoy fleet history`.")
    keep_fleet(house, _present(house.fleet_file))
    write_fleet_file(house.fleet_file, text)
    house.ledger.append(NewEvent(STREAM, RESTORED, {"digest": restoration.after, "instead_of": restoration.before}, actor))
    return restoration


def write_fleet_file(file: Path, text: bytes) -> None:
    """Replace a file's bytes in one step, with the mode that it has, and read them back; a link's target is replaced."""
    place = file.resolve()
    aside = place.with_name(f".{place.name}.new")
    try:
        with aside.open("wb") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        if place.exists():
            shutil.copymode(place, aside)
        aside.replace(place)
        if place.read_bytes() != text:
            raise OperationFailed(str(place), "has other bytes than were written", "Look at who else writes there.")
    except OSError as problem:
        raise OperationFailed(str(place), f"cannot be written ({problem})", "Check its folder and its owner.") from problem


def _present(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise InputError(str(file), f"cannot be read ({problem})", "Check its owner.") from problem
