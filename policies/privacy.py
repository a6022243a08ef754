"""The gate of privacy: a model that learned from sensitive data promises differential privacy, within limits.

Epsilon and delta are those of (epsilon, delta)-differential privacy (Dwork and Roth 2014, definition 2.4). They are the
claim of whoever trained the model; nobody can measure them on the model. What can be checked is that they are there, are
numbers, and lie within what the fleet allows; and that delta is below one part in the rows, since one that is not allows
a training that publishes a row whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fleet.declared import Model
from fleet.declared_rights import Privacy
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, failed, inconclusive, not_applicable, passed
from policies.waived import Waivers

SENSITIVE = "convoy.data.sensitive"
PREFIX = "convoy.privacy."
NAMES = ("epsilon", "delta", "accuracy_loss")
WAIVABLE = "training on sensitive data"
"""What a waiver calls it."""
UNKNOWN_ROWS = "the training rows are not known, so delta cannot be held against them"
REMEDY = f"Train it with differential privacy and say so in its tags, or have two people waive '{WAIVABLE}'"
ROWS_REMEDY = f"Record where the rows are from in the version's tags (convoy.data.*), or have two people waive '{WAIVABLE}'"
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,18})?(e-[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Promised:
    """What a version's tags say, how many rows it was trained on (None: not known), and what is waived."""

    tags: Mapping[str, str]
    rows: int | None
    waivers: Waivers


class PrivacyPromised(Gate[Promised]):
    """Passes a model trained on sensitive data whose epsilon, delta and accuracy loss lie within the limits, or are waived.

    Inconclusive where the training rows are not known, against which delta is held. Not applicable where neither
    fleet.yaml nor the version's tags call the training data sensitive.
    """

    name = "privacy"

    def gather(self, candidate: Candidate) -> Promised:
        """Return what the version promises."""
        tags = {name: text for name, text in candidate.tags.items() if name == SENSITIVE or name.startswith(PREFIX)}
        sensitive = candidate.declared.gates.privacy.sensitive or SENSITIVE in tags
        return Promised(tags, _rows(candidate.training) if sensitive else None, candidate.waivers)

    def judge(self, declared: Model, evidence: Promised) -> GateResult:
        """Return whether what is promised is enough."""
        limits, tags = declared.gates.privacy, evidence.tags
        marked = tags.get(SENSITIVE, "false")
        if marked not in ("true", "false"):
            return inconclusive(self, f"the tag {SENSITIVE} says {marked[:40]!r}, and only true and false can be read. Set it again")
        if not limits.sensitive and marked == "false":
            return not_applicable(self, "neither fleet.yaml nor the version's tags call the training data sensitive")
        figures = _figures(tags, evidence.rows)
        problems = list(_problems(limits, tags, evidence.rows))
        doubts = problems or ([UNKNOWN_ROWS] if evidence.rows is None else [])
        if not doubts:
            return passed(
                self, f"trained on sensitive data with epsilon {tags[PREFIX + 'epsilon']} and delta {tags[PREFIX + 'delta']}", figures
            )
        if WAIVABLE in evidence.waivers.things(self.name):
            return passed(self, f"'{WAIVABLE}' is waived: {'; '.join(doubts)}", (*figures, *evidence.waivers.figures(self.name)))
        not_held = evidence.waivers.why_not(self.name, WAIVABLE)
        if not problems:
            return inconclusive(self, f"{UNKNOWN_ROWS}. {ROWS_REMEDY}{not_held}", figures=figures)
        return failed(self, *(f"{problem}. {REMEDY}{not_held}" for problem in problems), figures=figures)


def _problems(limits: Privacy, tags: Mapping[str, str], rows: int | None) -> Iterator[str]:
    for name in NAMES:
        text, most = tags.get(PREFIX + name), getattr(limits, name)
        if text is None:
            yield f"the data is sensitive, and the version has no tag {PREFIX}{name}"
            continue
        value = _value(text)
        if value is None:
            yield f"the tag {PREFIX}{name} says {text[:40]!r}, which is no number such as 0.5 or 1e-6"
        elif value > most:
            yield f"{name} is {text}, above the limit {most} of gates.privacy"
        elif name == "epsilon" and value == 0:
            yield "epsilon is 0, at which nothing can be learned"
        elif name == "delta" and rows and value * rows >= 1:
            yield f"delta is {text}, not below one part in the {rows} training rows"


def _value(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _rows(training: Path | None) -> int | None:
    """Return how many rows a Parquet file has, None for what is none."""
    import pyarrow
    from pyarrow import parquet

    if training is None:
        return None
    try:
        return int(parquet.read_metadata(training).num_rows)
    except (OSError, pyarrow.ArrowException):
        return None


def _figures(tags: Mapping[str, str], rows: int | None) -> Figures:
    said = tuple((name, tags.get(PREFIX + name, "not said")[:40]) for name in NAMES)
    return (*said, ("training rows", "not known" if rows is None else str(rows)))
