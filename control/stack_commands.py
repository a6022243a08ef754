"""`convoy up`, `convoy down` and `convoy status`."""

from __future__ import annotations

from rich.markup import escape

from control.edges import EDGE_COLUMNS, edge_rows, edge_views
from control.printing import out, print_json, print_table, progress
from control.regions import RegionView, region_views
from control.stack.down import down
from control.stack.up import up
from control.stack.view import StackView, view
from fleet.canonical import short
from fleet.errors import TransientError
from fleet.settings import settings
from flows.house import House
from traffic.edges import look

LAG_COLUMNS = ("region", "model", "asset", "version", "behind", "limit")


def start(as_json: bool) -> None:
    """Start what is missing and print the components."""
    found = up(settings(), lambda text: progress.print(f"  {text}", markup=False))
    if as_json:
        print_json({"stack": found.stack_id, "home": str(found.home), "components": _components(found)})
        return
    _show_components(found)


def stop(as_json: bool) -> None:
    """Stop everything of the stack and print what was stopped."""
    stopped = down(settings())
    if as_json:
        print_json({"stopped": list(stopped)})
    else:
        out.print(f"Stopped {len(stopped)} processes; the data stays." if stopped else "Nothing was running.")


def show_status(as_json: bool) -> None:
    """Print components, edges and regions; what cannot be asked now is said, not left out."""
    found = view(settings())
    house = House.open()
    looked = look(house.edges)
    edges = edge_views(house, looked)
    try:
        regions = region_views(house, looked.states)
    except TransientError as problem:
        progress.print(f"[yellow]regions[/]: {escape(str(problem))}")
        regions = {}
    if as_json:
        print_json(
            {
                "stack": found.stack_id,
                "home": str(found.home),
                "components": _components(found),
                "edges": {name: edge.model_dump(mode="json") for name, edge in edges.items()},
                "regions": {name: region.model_dump(mode="json") for name, region in regions.items()},
            }
        )
        return
    _show_components(found)
    print_table("Edges", EDGE_COLUMNS, [tuple(map(escape, row)) for row in edge_rows(edges)])
    _show_regions(regions)


def _components(found: StackView) -> list[dict[str, str | bool | None]]:
    return [
        {"name": each.name, "url": each.url, "healthy": each.healthy, "version": each.version, "reason": each.reason}
        for each in found.components
    ]


def _show_components(found: StackView) -> None:
    rows = [
        (each.name, "healthy" if each.healthy else f"[red]{escape(each.reason)}[/]", escape(each.version or ""), each.url)
        for each in found.components
    ]
    print_table(escape(f"Stack in {found.home}"), ("component", "state", "version", "url"), rows)


def _show_regions(regions: dict[str, RegionView]) -> None:
    print_table("Regions", ("region", "stands for", "model", "version", "revision", "state", "weight", "measured"), region_rows(regions))
    if lags := lag_rows(regions):
        print_table("Copies that lag", LAG_COLUMNS, lags)


def region_rows(regions: dict[str, RegionView]) -> list[tuple[str, ...]]:
    """Return the regions' table, one row per revision in a region, its cells as markup."""
    rows: list[tuple[str, ...]] = []
    for name, region in regions.items():
        for model, served in region.models.items():
            for each in filter(None, (served, served.canary)):
                share = "no traffic" if each.measured_share is None else f"{each.measured_share:.1%}"
                weight = f"{each.intended_weight} %"
                revision = short(each.revision) if each.revision else ""
                told = (name, region.provider, model, each.mlflow_version or "", revision, each.state, weight, share)
                rows.append(tuple(map(escape, told)))
        if not region.models:
            rows.append((escape(name), escape(region.provider), "", "", "", "", "", ""))
    return rows


def lag_rows(regions: dict[str, RegionView]) -> list[tuple[str, ...]]:
    """Return the table of the copies that regions lack, nothing where all have theirs; its cells as markup."""
    rows = []
    for name, region in regions.items():
        for model, served in region.models.items():
            for lag in served.lags:
                limit = f"{lag.limit_seconds:g} s"
                told = tuple(map(escape, (name, model, lag.asset, lag.version, f"{lag.seconds:,.0f} s")))
                rows.append((*told, f"[red]over {limit}[/]" if lag.over_limit else f"within {limit}"))
    return rows
