"""`convoy tune`: batch size and worker count of a packaged revision, measured on this machine."""

from __future__ import annotations

import json
from dataclasses import replace

from rich.markup import escape

from control.printing import out, print_json, progress
from fleet.tuning import Point
from flows.house import House
from flows.tuning import Grid, tune


def tune_model(
    model: str, version: str | None, batch_rows: tuple[int, ...], workers: tuple[int, ...], seconds: float, as_json: bool
) -> None:
    """Measure, keep the choice beside the revision, and print it; each place of the grid is told on stderr as it was measured."""
    usual = Grid(seconds=seconds)
    grid = replace(usual, batch_rows=batch_rows or usual.batch_rows, workers=workers or usual.workers)
    found, kept = tune(House.open(), model, version, grid, _tell)
    if as_json:
        print_json({"referrer": kept.digest, **json.loads(found.to_bytes(""))})
        return
    chosen = found.chosen
    where = f"{found.machine['cpu']}, {found.machine['cores']} cores"
    out.print(f"{escape(model)}: batches of up to [bold]{chosen.batch_rows}[/] rows, [bold]{chosen.workers}[/] workers ({escape(where)})")
    out.print(f"  {chosen.per_second} answers a second, p99 {chosen.p99_ms} ms, limit {found.p99_limit_ms} ms; kept as {kept.digest}")


def _tell(point: Point) -> None:
    progress.print(
        f"batch {point.batch_rows}, workers {point.workers}: {point.per_second}/s, p50 {point.p50_ms} ms, p99 {point.p99_ms} ms,"
        f" {point.failed} failed"
    )
