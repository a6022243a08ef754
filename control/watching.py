"""`convoy status --watch`: the same picture again and again, for people in place, for machines one document per tick."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from control.edges import EDGE_COLUMNS, edge_rows
from control.stack.view import Prober
from control.stack_commands import LAG_COLUMNS, lag_rows, region_rows
from control.views import OrderView, ReleaseView
from control.watched import ModelNow, Moment, ReleaseNow, figure, moment_of
from fleet.home import Home
from fleet.settings import Settings
from flows.house import House

COLUMNS = ("region", "stands for", "model", "version", "revision", "state", "weight", "measured")
REASONS_SHOWN = 3


def watch(settings: Settings, seconds: float, as_json: bool) -> None:
    """Show the installation every `seconds` until the caller interrupts, which is how a watch ends and no error.

    On a terminal the picture stays in its place; elsewhere one follows the other. What is away is told in its place.
    """
    try:
        if as_json:
            for moment in moments(settings, seconds):
                sys.stdout.write(moment.model_dump_json() + "\n")
                sys.stdout.flush()
        else:
            _show(settings, seconds)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # The reader has seen enough; without this Python would complain of it once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def moments(settings: Settings, seconds: float) -> Iterator[Moment]:
    """Yield what there is to see, every `seconds`; connections are kept, files are read as they are now."""
    home = Home.of(settings)
    kept = House(settings, home)
    with Prober() as prober:
        while True:
            began = time.monotonic()
            house = House(settings, home)
            # A cached property lives in its instance's dictionary; opening SQLite would create a missing file
            if kept.settings.ledger_url is not None or home.ledger_file.exists():
                vars(house)["ledger"] = kept.ledger
                yield moment_of(house, prober)
            else:
                yield Moment(at=datetime.now(UTC), home=str(home.root), problems={"stack": "was never started: `convoy up`"})
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def picture(moment: Moment) -> RenderableType:
    """Return a moment for people."""
    parts: list[RenderableType] = [Text(f"{moment.home}   {moment.at:%Y-%m-%d %H:%M:%S} UTC   Ctrl-C ends the watch", style="dim")]
    parts += [Text.from_markup(f"[red]{escape(name)}[/]: {escape(why)}") for name, why in moment.problems.items()]
    if moment.components:
        parts.append(_components(moment))
    if moment.edges:
        parts.append(_table("Edges", EDGE_COLUMNS, [tuple(map(escape, row)) for row in edge_rows(moment.edges)]))
    if moment.regions:
        parts.append(_table("Regions", COLUMNS, region_rows(moment.regions)))
    if lags := lag_rows(moment.regions):
        parts.append(_table("Copies that lag", LAG_COLUMNS, lags))
    parts += [line for name, model in moment.models.items() for line in _model(name, model, moment.at)]
    parts += [
        Text.from_markup(f"[bold]{escape(word.subject)}[/]  {escape(word.outcome)}, {_ago(moment.at - word.at)}{_because(word.reasons)}")
        for word in moment.told
    ]
    return Group(*parts)


def _show(settings: Settings, seconds: float) -> None:
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        for moment in moments(settings, seconds):
            console.print(picture(moment))
            console.print()
        return
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        for moment in moments(settings, seconds):
            live.update(picture(moment), refresh=True)


def _components(moment: Moment) -> Text:
    """Return one line: those that are well by name, each of the others with its reason."""
    well = " ".join(f"{each.name} {each.version or ''}".strip() for each in moment.components if each.healthy)
    ill = "  ".join(f"[red]{escape(each.name)}: {escape(each.reason)}[/]" for each in moment.components if not each.healthy)
    return Text.from_markup(f"[green]healthy[/] {escape(well)}  {ill}".rstrip())


def _table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _model(name: str, model: ModelNow, now: datetime) -> Iterator[RenderableType]:
    for found in model.under_way:
        yield from _under_way(found, now)
    last = model.last_ended
    if last is not None:
        when = f", {_ago(now - last.ended)}" if last.ended else ""
        head = f"[bold]{escape(last.release)}[/] version {escape(last.version)} ended [bold]{last.phase}[/]"
        yield Text.from_markup(f"{head}{when}{_because(last.reasons)}")
    elif not model.under_way:
        yield Text(f"{name}: no version was released yet", style="dim")


def _under_way(found: ReleaseNow, now: datetime) -> Iterator[Text]:
    release = found.release
    head = f"[bold]{escape(release.release)}[/] version {escape(release.version)} [bold cyan]{release.phase}[/]"
    yield Text.from_markup(f"{head}, entered {_ago(now - found.since)}: {escape(release.meaning)}")
    yield Text.from_markup(_held(found))
    yield from (Text.from_markup(f"  [yellow]{word}[/] {escape(told)}") for word, told in _ordered(release))
    if release.canary is not None:
        place = f"step {found.step} of {found.steps}" if found.step else "before the first step"
        place += f", wave {found.wave}" if found.wave is not None else ""
        share = f"{float(figure(release.canary, 'measured_share')):.1%}"
        harm = f"harm {figure(release.canary, 'harm')} of {figure(release.canary, 'harm_limit')}"
        outcome = figure(release.canary, "outcome")
        yield Text(f"  canary: {place}, {found.weight} % meant, {share} measured, {harm}, verdict so far: {outcome}")
        yield from (Text(f"    {reason}") for reason in (*_texts(release.canary.get("held")), *_texts(release.canary.get("reasons"))))
    yield from (Text(f"  {reason}") for reason in release.reasons[:REASONS_SHOWN])


def _held(found: ReleaseNow) -> str:
    if found.answerable_until is not None:
        command = f"convoy operate {found.release.model} approve"
        return f"  waits for approval until {found.answerable_until:%Y-%m-%d %H:%M:%S} UTC: [bold]{escape(command)}[/]"
    return f"  held by {escape(found.held_by)}" if found.held_by else "  [yellow]nobody holds it now; reconcile takes it up[/]"


def _ordered(release: ReleaseView) -> Iterator[tuple[str, str]]:
    """Yield who paused a release, and what it was told and has not obeyed yet."""
    if release.paused is not None:
        yield "paused", _told(release.paused)
    for order in release.pending:
        seconds = f" for {order.seconds} s" if order.seconds else ""
        yield "ordered, not obeyed yet:", f"{order.command}{seconds} {_told(order)}"


def _told(order: OrderView) -> str:
    return f"by operator {order.operator} at {order.at:%H:%M:%S} UTC: {order.reason}"


def _texts(reasons: object) -> list[str]:
    return [str(reason) for reason in reasons[:REASONS_SHOWN]] if isinstance(reasons, list) else []


def _because(reasons: tuple[str, ...]) -> str:
    return escape(f": {'; '.join(reasons[:REASONS_SHOWN])}") if reasons else ""


def _ago(passed: timedelta) -> str:
    seconds = max(0, int(passed.total_seconds()))
    if seconds < 120:
        return f"{seconds} s ago"
    return f"{seconds // 60} min ago" if seconds < 7200 else f"{seconds // 3600} h ago"
