"""How much evidence a verdict needs: what steps and rates are sized from."""

from __future__ import annotations

from monitoring.promotion import passes


def clean_answers_needed(margin: float, error: float, attempts: int = 0, bad: int = 0) -> int:
    """Return how many more clean answers bring the upper bound of the bad-answer rate to `margin`.

    `attempts` and `bad` are what one region has already seen, `error` is the error level of the bound. From nothing,
    1 % at 5 % takes 335 clean answers; the first bad one costs about as many again.
    """
    if passes(attempts, bad, margin, error):
        return 0
    enough = 1
    while not passes(attempts + enough, bad, margin, error):
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if passes(attempts + middle, bad, margin, error):
            enough = middle
        else:
            short = middle
    return enough
