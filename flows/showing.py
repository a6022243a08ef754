"""What the Prefect UI shows of a release: the gates, the canary's progress, the verdict, the end."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from fleet.canonical import short
from fleet.evidence import GateResult, Outcome, RegionEvidence, Verdict
from fleet.phases import ReleasePhase
from flows.gate_report import report
from flows.orders import FREE, Order, Turn
from flows.work import Work
from monitoring.shadowed import Copies
from monitoring.share import MeasuredShare

SECONDS = 2.0
COLUMNS = "▁▂▃▄▅▆▇█"
UNWRITTEN = "an artifact could not be written"


@dataclass(frozen=True, slots=True)
class Progress:
    """A canary at one tick: the weight asked for, what each edge has, the share seen, the verdict, and how long a final one may take.

    `told` is what people ordered. `where` names the wave that it walks in, and is empty where every region walks at once.
    """

    weight: int
    at_edges: dict[str, int]
    share: MeasuredShare
    verdict: Verdict
    seconds_left: float | None = None
    told: Turn = FREE
    where: str = ""


def show_gates(work: Work, results: Sequence[GateResult]) -> None:
    """Show the report of the gates."""
    markdown(report(title(work), results), key=key(work, "gates"), description=f"Gates of {title(work)}")


def show_progress(work: Work, progress: Progress) -> None:
    """Show the canary region by region, with the e-value beside its limit."""
    rows = [row(progress, found) for found in progress.verdict.regions]
    held = ", ".join(f"{'unknown' if percent < 0 else f'{percent} %'} at {edge}" for edge, percent in progress.at_edges.items())
    verdict = progress.verdict
    cost = sum(region.canary_bad for region in verdict.regions)
    description = (
        f"Canary of {title(work)}: {progress.weight} % asked for{progress.where}, {held}, {progress.share.measured:.1%} seen. "
        f"Evidence of harm {verdict.harm:.3g} of {verdict.harm_limit:.3g} {plot(verdict.course)}. "
        f"It has cost {cost:,} bad answers. {_outlook(progress)}"
    )
    table(rows, key=key(work, "canary"), description=f"{description} {_waiting(progress.told)}".rstrip())


def _waiting(turn: Turn) -> str:
    return " ".join((*turn.reasons, *(f"Ordered and not obeyed yet: {told(order)}." for order in turn.orders.pending)))


def told(order: Order) -> str:
    """Return an order in words: what, who and why."""
    return f"{order.command}{f' for {order.seconds} s' if order.seconds else ''} {order.by}"


def plot(course: Sequence[float]) -> str:
    """Draw values of 0 to 1 as one line of columns; a full one is the limit."""
    return "".join(COLUMNS[min(int(value * len(COLUMNS)), len(COLUMNS) - 1)] for value in course)


def _outlook(progress: Progress) -> str:
    verdict, seconds = progress.verdict, progress.seconds_left
    if verdict.outcome is not Outcome.NOT_ENOUGH_DATA:
        return f"Verdict: {verdict.outcome.value}."
    if seconds is None:
        return f"{verdict.answers_needed:,} more clean answers are needed, and none comes in."
    return f"{verdict.answers_needed:,} more clean answers are needed: about {math.ceil(seconds):,} s at this rate."


def row(progress: Progress, found: RegionEvidence) -> dict[str, str]:
    """Return one region's line of the canary's table."""
    return {
        "region": found.region,
        "canary": f"{found.canary_bad} bad of {found.canary_attempts}",
        "stable": f"{found.stable_bad} bad of {found.stable_attempts}",
        "evidence of harm": f"{found.harm:.3g}",
        "bad rate at most": f"{found.upper_bound:.2%}",
        "verdict so far": progress.verdict.outcome.value,
    }


def show_shadow(work: Work, copies: Copies, verdict: Verdict, at_edges: dict[str, int], turn: Turn = FREE) -> None:
    """Show what a shadow has answered so far, and that no caller meets it."""
    row = {
        "copies answered": f"{copies.answers:,}",
        "bad": f"{copies.bad:,}",
        "compared with stable": f"{copies.pairs:,}",
        "differed": f"{copies.disagreed:,}",
        "verdict so far": verdict.outcome.value,
        "callers' requests": ", ".join(f"{percent} % at {edge}" for edge, percent in at_edges.items()),
    }
    table([row], key=key(work, "shadow"), description=f"Shadow of {title(work)} {_waiting(turn)}".rstrip())


def show_verdict(work: Work, verdict: Verdict) -> None:
    """Show what the judge concluded and why."""
    reasons = "\n".join(f"- {reason}" for reason in verdict.reasons)
    text = (
        f"# {verdict.outcome.value.capitalize()}: {title(work)}\n\n{reasons}\n\nHarm {verdict.harm:.3g}, limit {verdict.harm_limit:.3g}.\n"
    )
    markdown(text, key=key(work, "verdict"), description=f"Verdict on {title(work)}")


def show_ending(work: Work, phase: ReleasePhase, reasons: Sequence[str]) -> None:
    """Show how the release ended."""
    lines = "\n".join(f"- {reason}" for reason in reasons)
    digest = short(work.revision.digest) if work.revision else "none"
    text = f"# {phase.value.capitalize()}: {title(work)}\n\n{phase.meaning}\n\n{lines}\n\nRevision `{digest}`.\n"
    markdown(text, key=key(work, "end"), description=f"{title(work)} {phase.value}")


def table(rows: list[dict[str, str]], key: str, description: str) -> None:
    """Show rows as a table under a key: small letters, digits and dashes."""
    if_prefect_answers(UNWRITTEN, lambda: create_table_artifact(rows, key=key, description=description))


def markdown(text: str, key: str, description: str) -> None:
    """Show a page of text under a key: small letters, digits and dashes."""
    if_prefect_answers(UNWRITTEN, lambda: create_markdown_artifact(text, key=key, description=description))


def if_prefect_answers(otherwise: str, show: Callable[[], object], seconds: float = SECONDS) -> None:
    """Show, or log that it could not be shown: what people see must not decide what becomes of a release.

    Nor may it hold a canary up: Prefect's client tries for a minute by default, and a table lives for seconds.
    """
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: seconds}):
            show()
    except Exception as problem:  # noqa: BLE001 - Prefect's client raises what its transport does
        get_run_logger().warning("%s: %s: %s", otherwise, type(problem).__name__, problem)


def title(work: Work) -> str:
    """Return a release's name for people."""
    return f"{work.desire.release} ({work.model} version {work.desire.version})"


def key(work: Work, subject: str) -> str:
    """Return an artifact's key: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{work.desire.release}-{subject}".lower()).strip("-")
