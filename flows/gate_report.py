"""The report of a release's gates: as JSON for the ledger, as markdown for people; each can be read on its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pydantic import BaseModel

from fleet.evidence import GateChart, GateOutcome, GateResult, GateTable
from registry.ledger import JSON

SIGNS = {
    GateOutcome.PASSED: "✅",
    GateOutcome.FAILED: "❌",
    GateOutcome.INCONCLUSIVE: "❓",
    GateOutcome.NOT_APPLICABLE: "⚪",
}
BAR = 30


class _Table(BaseModel):
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class _Chart(BaseModel):
    title: str
    bars: tuple[tuple[str, Decimal], ...]
    limit: Decimal | None


class _Kept(BaseModel):
    gate: str
    outcome: GateOutcome
    reasons: tuple[str, ...]
    figures: dict[str, str] = {}
    tables: tuple[_Table, ...] = ()
    charts: tuple[_Chart, ...] = ()
    took_ms: int = 0


def refusals(results: Sequence[GateResult]) -> list[JSON]:
    """Return why a candidate may not go on, each reason with its gate; nothing where it may."""
    if not results:
        return ["no gate gave an answer"]
    return [
        f"{_who(result)}: {reason}" for result in results if result.outcome.refuses for reason in result.reasons or ("no reason given",)
    ]


def as_payload(result: GateResult) -> JSON:
    """Return one gate's answer as the ledger keeps it; numbers as text."""
    return {
        "gate": result.gate,
        "outcome": result.outcome.value,
        "reasons": list(result.reasons),
        "figures": dict(result.figures),
        "tables": [
            {"title": each.title, "columns": list(each.columns), "rows": [list(row) for row in each.rows]} for each in result.tables
        ],
        "charts": [
            {
                "title": each.title,
                # Not a mapping: canonical JSON sorts its names
                "bars": [[name, str(value)] for name, value in each.bars],
                "limit": None if each.limit is None else str(each.limit),
            }
            for each in result.charts
        ],
        "took_ms": result.took_ms,
    }


def of_payload(told: JSON) -> tuple[GateResult, ...]:
    """Return the answers that the ledger keeps; what an older release did not tell of them is empty."""
    return tuple(map(_result, told)) if isinstance(told, list) else ()


def _result(told: JSON) -> GateResult:
    kept = _Kept.model_validate(told)
    return GateResult(
        kept.gate,
        kept.outcome,
        kept.reasons,
        tuple(kept.figures.items()),
        tuple(GateTable(each.title, each.columns, each.rows) for each in kept.tables),
        tuple(GateChart(each.title, each.bars, each.limit) for each in kept.charts),
        kept.took_ms,
    )


def report(title: str, results: Sequence[GateResult]) -> str:
    """Return the whole report as markdown: what was said first, then each gate with what it looked at."""
    said = refusals(results)
    word = "**It may not go on.**" if said else "**It may go on.**"
    lines = [f"# Gates of {_cell(title)}", "", word, "", *(f"- {_cell(str(reason))}" for reason in said), *([""] if said else [])]
    rows = tuple((f"{SIGNS[each.outcome]} {each.outcome.value}", each.gate, f"{each.took_ms / 1000:.1f} s") for each in results)
    lines += _table(GateTable("", ("said", "gate", "took"), rows))
    for result in results:
        lines += ["", f"## {_cell(result.gate)}: {result.outcome.value}", "", *(f"- {_cell(reason)}" for reason in result.reasons)]
        if result.figures:
            lines += ["", *_table(GateTable("", ("figure", "value"), result.figures))]
        for table in result.tables:
            lines += ["", f"### {_cell(table.title)}", "", *_table(table)]
        for chart in result.charts:
            lines += ["", f"### {_cell(chart.title)}", "", *_chart(chart)]
    return "\n".join(lines) + "\n"


def _who(result: GateResult) -> str:
    return result.gate if result.outcome is GateOutcome.FAILED else f"{result.gate} (inconclusive)"


def _table(table: GateTable) -> Iterable[str]:
    yield f"| {' | '.join(map(_cell, table.columns))} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _chart(chart: GateChart) -> list[str]:
    """Draw the bars to one scale, in a block of fixed width; the limit is a bar of its own."""
    limit = [("limit", chart.limit)] if chart.limit is not None else []
    shown = [*chart.bars, *limit]
    most = max((abs(value) for _, value in shown), default=Decimal(0))
    width = max((len(name) for name, _ in shown), default=0)
    drawn = [f"{_plain(name):<{width}}  {'█' * _length(value, most):<{BAR}}  {value}" for name, value in shown]
    return ["```", *drawn, "```"]


def _length(value: Decimal, most: Decimal) -> int:
    return round(abs(value) * BAR / most) if most else 0


def _cell(text: str) -> str:
    """Return a text as a table or a list takes it: what a model's author wrote can break neither, nor become a link."""
    plain = "".join(f"\\{sign}" if sign in "\\`*_[]<>|#!" else sign for sign in text)
    return " ".join(plain.split())


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
