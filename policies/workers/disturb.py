"""Serves a model by the scoring service's own code and sends it disturbed requests.

From the loading on this process is the model's, and what it says is only as honest as the model: a model that hides its faults
from a gate is caught by the ones that follow. It is given no labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fleet.worker_channel import answer, receive
from policies.workers.deciding import Rule, margins, rule_of, values_of
from policies.workers.disturbed import Broken, Disturbance, Disturbed, DisturbRequest, Searched, SearchPlan, Trial
from policies.workers.disturbing import DISTURBING, Change, Scene, scene, wrong_bodies
from policies.workers.searching import Search, Stopped
from policies.workers.serving import Reply, Served

EXAMPLES = 5
REFUSED = range(400, 500)
WITHOUT_A_NUMBER = "answered without a number"


def main() -> None:
    """Answer one DisturbRequest."""
    request = receive(DisturbRequest)
    import pandas

    answer(disturb(request, Served(request.service, request.model, Path.cwd()), pandas.read_parquet(request.rows)))


def disturb(request: DisturbRequest, served: Served, frame: Any) -> Disturbed:
    """Return what comes of every disturbance."""
    if not served.signature.frame:
        return Disturbed(unknown="the model takes tensors, and rows are disturbed column by column")
    found = scene(served.signature.inputs, frame, request.count, np.random.default_rng((request.seed, 0)))
    calm = served.rows(found.rows)
    if calm.status != 200 or not calm.finite:
        how = f"answered with status {calm.status}" if calm.status != 200 else WITHOUT_A_NUMBER
        return Disturbed(problem=f"the evaluation's rows as they are were {how}")
    asked = _Asked(served, found, calm, rule_of(calm.outputs, request.quantity, request.tolerance), request.seed)
    trials = tuple(asked.trial(one, number) for number, one in enumerate(request.disturbances, 1))
    return Disturbed(trials, asked.search(request.search) if request.search else None)


class _Asked:
    """A served model with its undisturbed answers."""

    def __init__(self, served: Served, found: Scene, calm: Reply, rule: Rule, seed: int) -> None:
        self._served, self._found, self._rule, self._seed = served, found, rule, seed
        self._calm = values_of(calm.outputs)

    def trial(self, one: Disturbance, number: int) -> Trial:
        """Send one request per row, each disturbed in one way."""
        random = np.random.default_rng((self._seed, number))
        if one.kind == "wrong types":
            bodies = wrong_bodies([self._served.request([row]) for row in self._found.rows], random)
            return _trial(one.kind, ((what, column, self._served.body(body), False) for what, column, body in bodies))
        changes = DISTURBING[one.kind](self._found, one, random)
        return _trial(one.kind, (self._told(change) for change in changes))

    def _told(self, change: Change) -> tuple[str, str, Reply, bool]:
        reply = self._served.rows([change.row])
        turned = reply.status == 200 and reply.finite and bool(self._margins(reply, [change.origin])[0] < 0)
        return change.what, change.column, reply, turned

    def _margins(self, reply: Reply, origins: Sequence[int]) -> Any:
        return margins(self._rule, self._calm[list(origins)], values_of(reply.outputs))

    def search(self, plan: SearchPlan) -> Searched:
        """Look for the smallest changes that turn decisions."""
        few = Scene(self._found.columns, self._found.rows[: plan.rows])
        amounts = few.numbers(plan)
        if not amounts:
            return Searched(0, 0, 0)

        def ask(rows: Sequence[Any], origins: Any) -> Any:
            reply = self._served.rows(rows)
            if reply.status != 200 or not reply.finite:
                raise Stopped(f"status {reply.status}" if reply.status != 200 else WITHOUT_A_NUMBER)
            return self._margins(reply, origins.tolist())

        return Search(few, amounts, plan.predictions, ask).run(np.random.default_rng((self._seed, 99)))


def _trial(kind: str, told: Iterable[tuple[str, str, Reply, bool]]) -> Trial:
    asked = answered = refused = flipped = 0
    broken: list[Broken] = []
    for what, column, reply, turned in told:
        asked += 1
        if reply.status in REFUSED:
            refused += 1
        elif reply.status == 200 and reply.finite:
            answered += 1
            flipped += turned
        else:
            broken.append(Broken(what, column, reply.status))
    return Trial(kind, asked, answered, refused, flipped, len(broken), tuple(broken[:EXAMPLES]))


if __name__ == "__main__":
    main()
