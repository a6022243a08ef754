"""The judge's picture in docs/pictures: false rollbacks by rule and row, and exposure against the oracle's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.form import ROOT
from benchmarks.judging.page import REQUESTS, RULES, SHARES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = ROOT / "docs" / "pictures" / "judge.svg"
COLOURS = ("#0b6e4f", "#7cc6a4", "#c8553d", "#e09f3e", "#577399")
ALPHA = 5.0
AGAINST_ORACLE = ("harmful: errors x2", "harmful: errors x2, three regions")
ORACLE = "oracle: Wald's test of the true difference"


def draw(document: dict[str, Any], file: Path = PICTURE) -> None:
    """Draw a document's rows; the same document gives the same file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    rows = document["rows"]
    # Text stays text, and nothing in the file is left to chance or to the clock
    with mpl.rc_context({"svg.hashsalt": "judge", "svg.fonttype": "none", "font.size": 9}):
        figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 9.5), height_ratios=(4, 1), layout="constrained")
        _false_rollbacks(above, rows)
        _exposure(below, rows)
        figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", ncols=len(RULES), frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def _false_rollbacks(axes: Axes, rows: list[dict[str, Any]]) -> None:
    told = {(row["row"], row["subject"]): row for row in rows if row["unit"] == SHARES[0]}
    names = list(dict.fromkeys(row for row, _ in told if row.startswith("identical: ")))
    height = 0.8 / len(RULES)
    for place, (rule, colour) in enumerate(zip(RULES, COLOURS, strict=True)):
        shares = [told[name, rule]["figure"] for name in names]
        axes.barh([number + place * height for number in range(len(names))], shares, height, color=colour, label=rule)
    axes.axvline(ALPHA, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks([number + 2 * height for number in range(len(names))], [name.removeprefix("identical: ") for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("% of releases of an identical version that were rolled back (dashed: alpha)")


def _exposure(axes: Axes, rows: list[dict[str, Any]]) -> None:
    told = {(row["row"], row["subject"]): row for row in rows if row["unit"] == REQUESTS}
    bars = [(name, subject) for name in AGAINST_ORACLE for subject in (ORACLE, RULES[1], RULES[0]) if (name, subject) in told]
    figures = [told[bar]["figure"] for bar in bars]
    spreads = [(told[bar]["figure"] - told[bar]["spread"][0], told[bar]["spread"][1] - told[bar]["figure"]) for bar in bars]
    colours = {ORACLE: "#888888", **dict(zip(RULES, COLOURS, strict=True))}
    labels = [f"{name.removeprefix('harmful: ')}: {subject.partition(':')[0]}" for name, subject in bars]
    axes.barh(range(len(bars)), figures, 0.7, xerr=list(zip(*spreads, strict=True)), color=[colours[subject] for _, subject in bars])
    axes.set_yticks(range(len(bars)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("canary requests until rollback: median, with quartiles")
