"""What is wrong with the files of a model's variant, which nobody logged: they were made in a sandbox that a model was loaded in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policies.files.gate import MIB
from policies.files.seen import Bounds, Kind, ScanReport, ScanRequest
from policies.sandbox import GIB, Job, Limits, run

GRAPH, TEXT = (Kind.ONNX, "model.onnx"), (Kind.TEXT, "variant.json")
BOUNDS = Bounds(2048 * MIB, 2, 1)


def graph_problems(folder: Path, work: Path, seconds: float) -> tuple[str, ...]:
    """Return why a variant's folder is not one ONNX graph that calls only what ONNX Runtime has, and its document."""
    done = run(Job("scan_files", ScanRequest(folder, BOUNDS), (folder,), work), ScanReport, Limits(seconds, memory=8 * GIB))
    return (f"its files could not be scanned: {done.failure}",) if done.answer is None else tuple(_problems(done.answer))


def _problems(report: ScanReport) -> Iterator[str]:
    for seen in report.files:
        yield from (f"{seen.path}: {problem}" for problem in seen.problems)
    found = sorted((str(seen.kind), seen.path) for seen in report.files)
    if found != sorted((str(kind), path) for kind, path in (GRAPH, TEXT)):
        yield f"its files are {', '.join(f'{path} ({kind})' for kind, path in found) or 'none'}, and not a graph with its document"
