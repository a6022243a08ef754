"""What a canary is judged by: the declared limits of one release, as the judge reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.declared import Rollback
from fleet.evidence import Metric


@dataclass(frozen=True, slots=True)
class Criteria:
    """The limits of one release.

    `error_rates` has each region's SLO, as a share of answers in 0..1; `shift` is how far the mean scores may lie
    apart, `disagreement` which share of shadow answers may differ. What is None is not judged.
    """

    rollback: Rollback
    error_rates: Mapping[str, float] = field(default_factory=dict)
    shift: float | None = None
    disagreement: float | None = None

    @property
    def limit(self) -> float:
        """The e-value at which a canary is rolled back."""
        return 1 / self.rollback.alpha

    def stakes(self) -> dict[Metric, float]:
        """Return the metrics that are judged with their parts of the error budget, which sum to 1.

        They follow from what was declared before the release, never from what was seen in it.
        """
        declared = self.rollback.stakes
        judged = {
            Metric.ERRORS: declared.errors,
            Metric.SLOW: declared.slow,
            Metric.OBJECTIVE: declared.objective if self.error_rates else 0.0,
            Metric.PREDICTIONS: declared.predictions if self.shift is not None else 0.0,
            Metric.PAIRS: declared.pairs if self.disagreement is not None else 0.0,
        }
        total = sum(judged.values())
        return {metric: stake / total for metric, stake in judged.items() if stake}
