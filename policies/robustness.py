"""The gate that disturbs a candidate's requests: each is answered or refused, and few decisions turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from fleet.declared import Model
from fleet.declared_robustness import Robustness, Search
from fleet.evidence import GateChart, GateOutcome, GateResult, GateTable
from policies.candidate import Candidate, Figures, Gate, failed, inconclusive, not_applicable
from policies.predicting import NO_ROWS, seed_of, without_label
from policies.sandbox import Job, Limits, run
from policies.workers.disturbed import Broken, Disturbance, Disturbed, DisturbRequest, Searched, SearchPlan, Trial

SEARCH = "search"
PERCENT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Borne:
    """What the disturbances gave (None: `problem` says why there is nothing), and what kept the model in."""

    found: Disturbed | None
    problem: str = ""
    barriers: Figures = ()
    seed: int = 0


class DisturbedRequests(Gate[Borne | None]):
    """Passes a candidate that answers disturbed requests or refuses them with a 4xx, never with a 5xx or without a number.

    Not applicable only where fleet.yaml declares no `gates.robustness`. The model is loaded once, in a sandbox, behind the
    scoring service's own code: what is answered there is what the served revision answers.
    """

    name = "robustness"

    def gather(self, candidate: Candidate) -> Borne | None:
        """Return what came of the disturbances; raises InputError where the evaluation's rows or label are wrong."""
        asked, evaluation = candidate.declared.gates.robustness, candidate.declared.evaluation
        if asked is None or evaluation is None:
            return None
        if candidate.evaluation is None:
            return Borne(None, NO_ROWS)
        if candidate.service is None:
            return Borne(Disturbed(unknown="the scoring service's code was not given"))
        rows = without_label(candidate.evaluation, evaluation.label, candidate.work)
        service, folder = candidate.service.absolute(), candidate.folder.absolute()
        request = DisturbRequest(
            service=service,
            model=folder,
            rows=rows,
            count=asked.rows,
            quantity=evaluation.metric == "mean_absolute_error",
            tolerance=asked.tolerance,
            disturbances=tuple(disturbances(asked)),
            search=_plan(asked.search) if asked.search else None,
            seed=seed_of(candidate.evaluation),
        )
        done = run(Job("disturb", request, (service, folder, rows), candidate.work), Disturbed, Limits(asked.seconds))
        problem = "" if done.answer else f"the candidate could not be disturbed to the end: {done.failure}"
        return Borne(done.answer, problem, done.barriers.figures, request.seed)

    def judge(self, declared: Model, evidence: Borne | None) -> GateResult:
        """Return whether the candidate bears it."""
        asked = declared.gates.robustness
        if evidence is None or asked is None:
            return not_applicable(self, "fleet.yaml declares no gates.robustness for this model")
        found, barriers = evidence.found, evidence.barriers
        if found is None or found.problem:
            return failed(self, evidence.problem or (found.problem if found else ""), figures=barriers)
        if found.unknown:
            return inconclusive(self, found.unknown, figures=barriers)
        against, untold = list(_against(asked, found)), list(_untold(asked, found))
        outcome = GateOutcome.FAILED if against else GateOutcome.INCONCLUSIVE if untold else GateOutcome.PASSED
        requests = sum(trial.asked for trial in found.trials)
        kept = f"{requests:,} disturbed requests were answered or refused, and no more decisions turned than allowed"
        figures = (("seed of the disturbances", str(evidence.seed)), *barriers)
        return GateResult(self.name, outcome, tuple(against + untold) or (kept,), figures, _tables(asked, found), _charts(asked, found))


def disturbances(asked: Robustness) -> Iterator[Disturbance]:
    """Yield what is declared, in the order of the report."""
    if asked.noise is not None:
        yield Disturbance("noise", asked.noise.strength, asked.noise.columns)
    if asked.missing is not None:
        yield Disturbance("missing")
    if asked.unseen is not None:
        yield Disturbance("unseen", most_values=asked.unseen.most_values)
    if asked.out_of_range is not None:
        yield Disturbance("out of range", asked.out_of_range.strength)
    if asked.wrong_types is not None:
        yield Disturbance("wrong types")


def _plan(asked: Search) -> SearchPlan:
    return SearchPlan(asked.strength, asked.columns, asked.rows, asked.predictions)


def _limits(asked: Robustness) -> dict[str, Decimal | None]:
    """Return how many decisions each disturbance may turn, as a share."""
    sections = {"noise": asked.noise, "missing": asked.missing, "unseen": asked.unseen, "out of range": asked.out_of_range}
    found = {kind: None if section is None else section.flips for kind, section in sections.items()}
    return found | {SEARCH: asked.search.flips if asked.search else None}


def _against(asked: Robustness, found: Disturbed) -> Iterator[str]:
    """Say what speaks against the candidate."""
    limits = _limits(asked)
    for trial in found.trials:
        if trial.broken:
            examples = "; ".join(dict.fromkeys(map(_example, trial.examples)))
            yield f"{trial.kind}: {trial.broken} of {trial.asked} requests were neither answered with numbers nor refused ({examples})"
        yield from _too_many(trial.kind, trial.flipped, trial.asked, limits.get(trial.kind))
    searched = found.searched
    if searched is not None:
        if searched.problem:
            yield f"search: a request within what may be moved was not answered ({searched.problem})"
        yield from _too_many(SEARCH, searched.flipped, searched.rows, limits[SEARCH])


def _too_many(kind: str, flipped: int, asked: int, limit: Decimal | None) -> Iterator[str]:
    if limit is not None and asked and _share(flipped, asked) > limit:
        yield f"{kind}: {flipped} of {asked} decisions turned ({_share(flipped, asked):.2%}), and {limit:.2%} may"


def _untold(asked: Robustness, found: Disturbed) -> Iterator[str]:
    """Say what could not be tried although a limit is declared for it."""
    limits = _limits(asked)
    nothing = [trial.kind for trial in found.trials if not trial.asked and limits.get(trial.kind) is not None]
    if found.searched is not None and not found.searched.rows:
        nothing.append(SEARCH)
    for kind in nothing:
        yield f"{kind}: no column can be disturbed so; name columns in gates.robustness, or leave it out with null"


def _example(one: Broken) -> str:
    came = f"status {one.status}" if one.status != 200 else "an answer without a number"
    return f"{one.column} {one.what}: {came}"


def _tables(asked: Robustness, found: Disturbed) -> tuple[GateTable, ...]:
    limits = _limits(asked)
    rows = tuple(_row(trial, limits.get(trial.kind)) for trial in found.trials)
    columns = ("disturbance", "requests", "answered", "refused", "neither", "decisions turned", "may turn")
    tables = [GateTable("What came of disturbed requests", columns, rows)] if rows else []
    if found.searched is not None and found.searched.rows:
        tables.append(GateTable("The search for the smallest change that turns a decision", ("figure", "value"), _searched(found.searched)))
    return tuple(tables)


def _row(trial: Trial, limit: Decimal | None) -> tuple[str, ...]:
    may = "" if limit is None else f"{limit:.2%}"
    if not trial.asked:
        return (trial.kind, "nothing to disturb", "", "", "", "", may)
    counts = (f"{trial.asked}", f"{trial.answered}", f"{trial.refused}", f"{trial.broken}")
    return (trial.kind, *counts, f"{trial.flipped} ({_share(trial.flipped, trial.asked):.2%})", may)


def _searched(found: Searched) -> tuple[tuple[str, str], ...]:
    shown = [
        ("rows", str(found.rows)),
        ("turned", f"{found.flipped} ({_share(found.flipped, found.rows):.2%})"),
        ("predictions", f"{found.predictions:,}"),
        ("columns moved", ", ".join(found.moved)),
    ]
    if found.distances:
        shown.append(("smallest part of the allowed change that turns one", f"{min(found.distances):.3f}"))
        shown.append(("median part", f"{median(found.distances):.3f}"))
    return tuple(shown)


def _charts(asked: Robustness, found: Disturbed) -> tuple[GateChart, ...]:
    limits = _limits(asked)
    turned = [(trial.kind, trial.flipped, trial.asked) for trial in found.trials if trial.asked and trial.kind in limits]
    if found.searched is not None:
        turned.append((SEARCH, found.searched.flipped, found.searched.rows))
    bars = tuple((kind, _share(flipped, of)) for kind, flipped, of in turned if of)
    declared = {limit for limit in (limits[kind] for kind, _ in bars) if limit is not None}
    if not bars:
        return ()
    return (GateChart("Share of decisions turned, by disturbance", bars, declared.pop() if len(declared) == 1 else None),)


def _share(part: int, whole: int) -> Decimal:
    return (Decimal(part) / Decimal(whole)).quantize(PERCENT) if whole else Decimal(0)
