"""How long the model takes for so many rows, learned from the calls that were made."""

from __future__ import annotations

FASTER, SLOWER = 0.5, 0.1
"""How much a call counts that was faster or slower than expected: others hold a call up now and then, none hurries it."""
UNKNOWN_SECONDS = 0.1
"""Taken for a model that was never asked: long enough for its first call to be made in the thread."""


class Estimate:
    """Seconds by number of rows, in steps of two; each step is a mean of what was seen, the last calls weighing most."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def learn(self, rows: int, seconds: float) -> None:
        """Take note of one call."""
        step = rows.bit_length()
        before = self._seen.get(step)
        if before is None:
            self._seen[step] = seconds
        else:
            self._seen[step] = before + (FASTER if seconds < before else SLOWER) * (seconds - before)

    def seconds(self, rows: int) -> float:
        """Return what a call with so many rows takes: as it was seen, else in proportion to the nearest smaller number seen."""
        step = rows.bit_length()
        found = self._seen.get(step)
        if found is not None:
            return found
        smaller = [each for each in self._seen if each < step]
        if smaller:
            nearest = max(smaller)
            return self._seen[nearest] * float(1 << (step - nearest))
        return min(self._seen.values()) if self._seen else UNKNOWN_SECONDS
