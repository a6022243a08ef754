"""How much evidence a verdict needs: what steps and rates are sized from."""

from __future__ import annotations

from monitoring.promotion import Seen, passes


def clean_answers_needed(margin: float, error: float, seen: Seen = Seen(0, 0)) -> int:  # noqa: B008 - frozen
    """Return how many more clean answers bring the upper bound to `margin`.

    `seen` is what has been seen already, `error` the error level of the bound. From nothing, 1 % at 5 % takes 336
    clean answers; the first bad one costs about as many again.
    """
    if passes(seen, margin, error):
        return 0
    enough = 1
    while not passes(seen.with_clean(enough), margin, error):
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if passes(seen.with_clean(middle), margin, error):
            enough = middle
        else:
            short = middle
    return enough
