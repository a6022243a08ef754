"""The gate "model files" on malicious files of our own making and on ordinary models, beside picklescan alone.

The malicious files are ours, so that Convoy is at home here, as picklescan is on the files of its own tests. picklescan reads
pickles and what packs them; the other files are counted apart. It says no where it finds something dangerous, or fails.
"""

from __future__ import annotations

import io
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import hostile_files
import ordinary_models
from policies_world import declared

from benchmarks.form import Row, interleaved, measured
from policies.candidate import Candidate
from policies.files.contents import Content, look
from policies.files.gate import ModelFiles, Scanned
from policies.files.scan import scan
from policies.files.seen import Bounds, Described, ScanReport, ScanRequest

BOUNDS = Bounds(1 << 30, 1000, 100)
SLOWEST_MS = 50.0
ROUNDS, QUICK_ROUNDS = 9, 3
LET_IN, REFUSED, TAKES = "malicious files let in", "ordinary models refused", "time of a file"
PICKLESCAN = f"picklescan {version('picklescan')} alone"
# What an unpickler reads, packed or not; the rest is for other readers
PICKLES = (".pkl", ".joblib", ".pt", ".npy", ".npz", ".gz", ".bin", ".7z")


def rows(quick: bool) -> list[Row]:
    """Return every row; the quick run times the same files less often."""
    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        saved = ordinary_models.save(Path(folder) / "models")
        return [
            *_let_in(Path(folder)),
            *_refused(saved),
            *_times(saved, rounds),
            *_whole(saved, Path(folder), rounds),
        ]


def _let_in(folder: Path) -> Iterator[Row]:
    corpus = hostile_files.corpus()
    pickles = {name: data for name, data in corpus.items() if name.endswith(PICKLES) or name.startswith("wrong_ending")}
    for what, files in (("all", corpus), ("pickles and what packs them", pickles)):
        ours = [name for name, data in files.items() if _we_let_in(name, data)]
        theirs = [name for name, data in files.items() if _picklescan_lets_in(folder, name, data, strict=False)]
        strict = [name for name, data in files.items() if _picklescan_lets_in(folder, name, data, strict=True)]
        of = f"of {len(files)}, {what}"
        yield measured(LET_IN, f"Convoy, {of}", [len(ours)], "files", 0.0)
        yield measured(LET_IN, f"{PICKLESCAN}, {of}", [len(theirs)], "files")
        yield measured(LET_IN, f"{PICKLESCAN}, strict, {of}", [len(strict)], "files")


def _we_let_in(name: str, data: bytes) -> bool:
    seen = look(io.BytesIO(data), Content(name, len(data), BOUNDS))
    return not ModelFiles().judge(declared(), Scanned(ScanReport((seen,), Described()))).outcome.refuses


def _picklescan_lets_in(folder: Path, name: str, data: bytes, *, strict: bool) -> bool:
    path = folder / "hostile" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return _picklescan_says_yes(path, strict=strict)


def _picklescan_says_yes(path: Path, *, strict: bool) -> bool:
    from picklescan import scanner

    try:
        found = scanner.scan_file_path(str(path), strict=strict)
    except Exception:  # noqa: BLE001 - a scanner that fails says no
        return False
    return found.issues_count == 0 and not found.scan_err


def _refused(saved: Mapping[str, Path]) -> Iterator[Row]:
    for chosen in ("default", "skops", "pickle", "cloudpickle"):
        folders = [folder for name, folder in saved.items() if name.endswith(f", {chosen}")]
        refused = [folder for folder in folders if ModelFiles().judge(declared(), _scanned(folder)).outcome.refuses]
        told = "as MLflow saves them by default" if chosen == "default" else f"through {chosen}"
        yield measured(REFUSED, f"Convoy, of {len(folders)} {told}", [len(refused)], "models", 0.0)
    pickles = _pickles(saved)
    for strict in (False, True):
        refused = [path for path in pickles if not _picklescan_says_yes(path, strict=strict)]
        told = f"{PICKLESCAN}{', strict' if strict else ''}, of {len(pickles)} through pickle and cloudpickle"
        yield measured(REFUSED, told, [len(refused)], "models")


def _scanned(folder: Path) -> Scanned:
    return Scanned(scan(ScanRequest(folder, BOUNDS)))


def _pickles(saved: Mapping[str, Path]) -> list[Path]:
    return [folder / "model.pkl" for name, folder in saved.items() if name.endswith("pickle")]


def _times(saved: Mapping[str, Path], rounds: int) -> Iterator[Row]:
    """Time every file of every model, readers loaded; the slowest counts, by the median of its rounds."""
    paths = sorted({path for folder in saved.values() for path in folder.iterdir()})
    taken = {path: [_milliseconds(lambda path=path: _look(path)) for _ in range(rounds + 1)][1:] for path in paths}  # type: ignore[misc]
    slowest = max(taken, key=lambda path: statistics.median(taken[path]))
    yield measured(TAKES, f"Convoy, the slowest of {len(paths)} ({slowest.parent.name}/{slowest.name})", taken[slowest], "ms", SLOWEST_MS)
    yield measured(TAKES, f"Convoy, all {len(paths)}", [statistics.median(each) for each in taken.values()], "ms", SLOWEST_MS)
    pickles = _pickles(saved)
    both = interleaved({"Convoy": lambda: _each(pickles, _look), PICKLESCAN: lambda: _each(pickles, _theirs)}, rounds)
    for name, values in both.items():
        yield measured(TAKES, f"{name}, a pickle (mean of {len(pickles)})", values, "ms")


def _each(paths: list[Path], act: Callable[[Path], object]) -> float:
    return _milliseconds(lambda: [act(path) for path in paths]) / len(paths)


def _look(path: Path) -> object:
    with path.open("rb") as file:
        return look(file, Content(path.name, path.stat().st_size, BOUNDS))


def _theirs(path: Path) -> object:
    return _picklescan_says_yes(path, strict=False)


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _whole(saved: Mapping[str, Path], work: Path, rounds: int) -> Iterator[Row]:
    """Time the whole gate: a sandbox is made, its readers are loaded, every file is read, the verdict is given."""
    for name in ("random forest, pickle", "xgboost classifier, default", "random forest, default"):
        candidate = Candidate("m", declared(), saved[name], None, None, None, None, work / "work", 60)
        values = [_milliseconds(lambda candidate=candidate: ModelFiles().evaluate(candidate)) / 1000 for _ in range(min(rounds, 5))]  # type: ignore[misc]
        yield measured("the whole gate, sandbox and libraries included", name, values, "s")
