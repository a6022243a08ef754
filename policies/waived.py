"""What is waived for a candidate: every waiver of a folder, verified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.errors import InputError
from policies.waivers import MOST_BYTES, SignedWaiver, Subject, Trust, holds, read_waiver, signers

MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class Waived:
    """One thing that a gate does not refuse: the file that waives it, who signed, why, and until when."""

    gate: str
    thing: str
    file: str
    by: tuple[str, ...]
    reason: str
    until: str


@dataclass(frozen=True, slots=True)
class NotHeld:
    """A waiver for one thing that does not hold, and why."""

    gate: str
    thing: str
    file: str
    why: str


@dataclass(frozen=True, slots=True)
class Waivers:
    """What holds for a candidate, what does not, and which files could not be read."""

    held: tuple[Waived, ...] = ()
    not_held: tuple[NotHeld, ...] = ()
    unread: tuple[str, ...] = ()

    def things(self, gate: str) -> frozenset[str]:
        """Return what of a gate is waived."""
        return frozenset(found.thing for found in self.held if found.gate == gate)

    def figures(self, gate: str) -> tuple[tuple[str, str], ...]:
        """Return what of a gate is waived, by whom and until when, as the gate reports it."""
        return tuple(
            (f"waived {found.thing}", f"by {' and '.join(found.by)} until {found.until}: {found.reason}")
            for found in self.held
            if found.gate == gate
        )

    def why_not(self, gate: str, thing: str) -> str:
        """Say, in brackets after a refusal, which waivers of the thing do not hold and why; nothing where there is none."""
        found = [f"{each.file} {each.why}" for each in self.not_held if (each.gate, each.thing) == (gate, thing)]
        return f" ({'; '.join((*found, *self.unread))})" if found or self.unread else ""


def waivers_in(folder: Path, trust: Trust, subject: Subject, now: datetime) -> Waivers:
    """Return what the waivers (`*.json`) of a folder say of a version now; one that does not hold waives nothing."""
    held, not_held, unread = [], [], []
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if len(files) > MOST_FILES:
        return Waivers(unread=(f"{folder.name} has more than {MOST_FILES} waivers",))
    for file in files:
        try:
            signed = read_file(file)
        except InputError as problem:
            unread.append(f"{file.name} {problem.reason}")
            continue
        waiver, why = signed.waiver, holds(signed, trust, subject, now)
        if why:
            not_held.append(NotHeld(waiver.gate, waiver.thing, file.name, why))
        else:
            by = signers(signed, trust)
            held.append(Waived(waiver.gate, waiver.thing, file.name, by, waiver.reason, waiver.expires))
    return Waivers(tuple(held), tuple(not_held), tuple(unread))


def read_file(file: Path) -> SignedWaiver:
    """Read a waiver's file; raises InputError."""
    # A pipe or a device would be waited for without end
    if file.exists() and not file.is_file():
        raise InputError(file.name, "is no file", "Check the path.")
    try:
        with file.open("rb") as opened:
            return read_waiver(opened.read(MOST_BYTES + 1), file.name)
    except OSError as problem:
        raise InputError(file.name, f"cannot be read ({type(problem).__name__})", "Check the path.") from problem
