"""How much evidence the demo's canaries ask for: the whole story, or the same one with fewer requests."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHTS = (5, 25, 50)


@dataclass(frozen=True, slots=True)
class Pace:
    """The canary's margin, how many seconds each step lasts at least, and how rare the pair of version 3 may be.

    A pair that is hardly more frequent than the margin fails too seldom to be found for certain.
    """

    margin: float
    seconds: tuple[int, ...]

    @property
    def least_pair(self) -> float:
        """The smallest share of the live rows that may hold the pair."""
        return 1.5 * self.margin

    def fill(self, fleet: str) -> str:
        """Return the demo's fleet.yaml with the margin and the steps in their places."""
        steps = ", ".join(f"{{weight: {weight}, seconds: {seconds}}}" for weight, seconds in zip(WEIGHTS, self.seconds, strict=True))
        return fleet.replace("{margin}", f"{self.margin:g}").replace("{steps}", f"[{steps}]")


WHOLE = Pace(0.01, (8, 8, 10))
FAST = Pace(0.03, (2, 3, 4))
