"""By what a model's attempts are counted: its latency limit, and what its scores may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MILLION: Final = 1_000_000
"""Scores are summed as whole millionths of the declared range, so that no order of adding makes a difference."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A model's latency limit in milliseconds, the range of its scores, and the distance up to which two answers agree.

    `tolerance` is a part of the range, in 0..1. Without a range no answer is scored.
    """

    slow_ms: float
    score_range: tuple[float, float] | None = None
    tolerance: float = 0.0

    def placed(self, score: float | None) -> int | None:
        """Return where a score lies in the range, in millionths; beyond its ends it lies at them."""
        if score is None or self.score_range is None:
            return None
        low, high = self.score_range
        return round(MILLION * min(1.0, max(0.0, (score - low) / (high - low))))


NO_TERMS: Final = Terms(math.inf)
"""Those of a model whose table is gone: nothing is slow, nothing is scored."""
