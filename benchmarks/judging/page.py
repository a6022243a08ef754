"""The judge's part of docs/benchmarks.md: its rows side by side, rule by rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]

RULES = ("Convoy", "Convoy, errors only", "Flagger's rule", "Argo Rollouts' rule", "Kayenta's rule")
SHARES = ("% rolled back", "% promoted", "% without a verdict")
REQUESTS, MINUTES = "canary requests until rollback", "minutes until rollback"
LIMIT = " times the usual errors, "
PICTURE = "pictures/judge.svg"
KINDS = {
    "identical": "Identical versions: every rollback is a false one",
    "harmful": "Harmful versions: every promotion is a wrong one",
    "beyond": "Beyond the promise: identical code that chance alone did not deal out",
}
ABOUT = """Each row is {releases} simulated releases: requests arrive by chance, each is dealt to canary or stable with the step's true
share (1, 5, 10, 25, 50 % over an hour at 1000 requests a minute, 1 % errors, unless the row says otherwise), and every rule
judges the same attempts. The seeds were not used in tuning. Convoy is the shipped judge, which sees measured counts only and looks every
second; it asks for an error rate less than one point above stable's to promote. The rules of Flagger, Argo Rollouts and Kayenta are
**re-implementations** from their documentation (`benchmarks/judging/`), set as one who knows stable's usual errors would set them: a
fixed limit half way to twice the errors, five failed checks (Flagger), the default of none (Argo Rollouts), growing windows from the
tenth minute on (Kayenta). What other limits would have done is shown at the end.

![False rollbacks by rule and row, and requests exposed against the oracle]({picture})
"""


def section(document: dict[str, Any]) -> list[str]:
    """Return the lines below the heading."""
    rows: list[Row] = document["rows"]
    releases = max(row["rounds"] for row in rows if row["unit"] == SHARES[0])
    lines = [*ABOUT.format(releases=f"{releases:,}", picture=PICTURE).splitlines(), "", *asked(rows)]
    for kind, heading in KINDS.items():
        of_kind = [row for row in rows if row["row"].startswith(f"{kind}: ")]
        lines += [f"### {heading}", "", *endings(of_kind, kind), *([] if kind == "identical" else exposures(of_kind, kind))]
    return [*lines, *traps(rows), *power(rows), *limits(rows)]


def asked(rows: Sequence[Row]) -> list[str]:
    """Return what was asked for, and whether it was met."""
    lines = ["### What was asked for", "", "| what | of | figure | spread | asked for | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        if "target" in row:
            met = "yes" if row["met"] else "**no**"
            lines.append(
                f"| {row['row']} | {row['subject']} | {_figure(row)} {row['unit']} | {_spread(row)} | at most {row['target']:g} | {met} |"
            )
    return [*lines, "", "Spreads are exact intervals at 95 % of shares, bootstrap intervals of ratios, and quartiles of medians.", ""]


def endings(rows: Sequence[Row], kind: str) -> list[str]:
    """Return the share of releases that each rule rolled back, promoted, and left without a verdict."""
    found = _by_row(rows)
    lines = ["Rolled back / promoted / without a verdict, in % of the releases.", "", *_head(RULES)]
    for name, of_row in found.items():
        cells = [" / ".join(f"{of_row[rule, unit]['figure']:g}" for unit in SHARES) for rule in RULES]
        lines.append(f"| {name.removeprefix(f'{kind}: ')} | {' | '.join(cells)} |")
    return [*lines, ""]


def exposures(rows: Sequence[Row], kind: str) -> list[str]:
    """Return how many requests the canary got until a rule rolled it back, and after how many minutes."""
    found = _by_row(rows)
    lines = ["Median of the canary's requests until the rollback (minutes), of the releases that were rolled back.", "", *_head(RULES)]
    for name, of_row in found.items():
        cells = [
            f"{of_row[rule, REQUESTS]['figure']:g} ({of_row[rule, MINUTES]['figure']:g})" if (rule, REQUESTS) in of_row else "none"
            for rule in RULES
        ]
        lines.append(f"| {name.removeprefix(f'{kind}: ')} | {' | '.join(cells)} |")
    return [*lines, ""]


def traps(rows: Sequence[Row]) -> list[str]:
    """Return what would become of Convoy's own test without its two precautions."""
    lines = ["### What the precautions are for", "", "| row | of | rolled back |", "|---|---|---|"]
    lines += [
        f"| {row['row']} | {row['subject']} | {_figure(row)} % ({_spread(row)}) |"
        for row in rows
        if row["unit"] == SHARES[0] and (row["subject"].startswith("trap: ") or _has_trap(rows, row))
    ]
    return [*lines, ""]


def power(rows: Sequence[Row]) -> list[str]:
    """Return what each metric and region costs."""
    lines = [
        "### What each metric and region costs",
        "",
        "Requests that the canary got until it was rolled back: median and quartiles. One error budget covers all metrics and regions.",
        "",
        "| row | judged by | rolled back | requests | minutes |",
        "|---|---|---|---|---|",
    ]
    for name, of_row in _by_row(rows).items():
        for subject in dict.fromkeys(subject for subject, _ in of_row):
            if subject.startswith(("judged by ", "oracle")) and (subject, REQUESTS) in of_row:
                requests, minutes = of_row[subject, REQUESTS], of_row[subject, MINUTES]
                share, needed = _figure(of_row[subject, SHARES[0]]), f"{_figure(requests)} ({_spread(requests)})"
                lines.append(f"| {name} | {subject.removeprefix('judged by ')} | {share} % | {needed} | {_figure(minutes)} |")
    return [*lines, ""]


def limits(rows: Sequence[Row]) -> list[str]:
    """Return how other fixed limits would have done, chosen in hindsight."""
    found = {name: of_row for name, of_row in _by_row(rows).items() if any(LIMIT in subject for subject, _ in of_row)}
    names = [name.replace(": ", ":<br>") for name in found]
    subjects = list(dict.fromkeys(subject for of_row in found.values() for subject, _ in of_row if LIMIT in subject))
    lines = [
        "### Would another fixed limit have done better?",
        "",
        "Releases rolled back, in %, by the success rate alone, with the canary's requests until then (median) where it is harmful.",
        "A minute without requests passes here. Where a limit does well, it was chosen knowing the usual errors and that they stay.",
        "",
        *_head(names, "rule, its limit, how often"),
    ]
    lines += [f"| {subject} | {' | '.join(_limited(of_row, subject) for of_row in found.values())} |" for subject in subjects]
    return [*lines, ""]


def _limited(of_row: dict[tuple[str, str], Row], subject: str) -> str:
    share, requests = of_row[subject, SHARES[0]], of_row.get((subject, REQUESTS))
    harmful = share["row"].startswith("harmful")
    return f"{_figure(share)} ({_figure(requests)})" if requests and harmful else _figure(share)


def _has_trap(rows: Iterable[Row], row: Row) -> bool:
    return row["subject"] == RULES[0] and any(one["row"] == row["row"] and one["subject"].startswith("trap: ") for one in rows)


def _by_row(rows: Iterable[Row]) -> dict[str, dict[tuple[str, str], Row]]:
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        found.setdefault(row["row"], {})[row["subject"], row["unit"]] = row
    return found


def _head(columns: Sequence[str], first: str = "row") -> list[str]:
    return [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]


def _figure(row: Row) -> str:
    return f"{row['figure']:g}"


def _spread(row: Row) -> str:
    return f"{row['spread'][0]:g} to {row['spread'][1]:g}" if row["spread"] else ""
