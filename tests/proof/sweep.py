"""The kill sweep: SIGKILL at each point of each effect of each ending, and every release ends as the uncrashed one does."""

from __future__ import annotations

import argparse
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import httpx

from benchmarks.form import Row
from flows.effects import Course, Effect, Ending, weight
from flows.work import stable_of
from proof.cases import ANY, COURSES, NEVER, Case, boundaries, moments, named, sampled
from proof.results import Progress, Report, committed_result
from proof.stage import KINDS, TOLD_SECONDS, Stage, staged
from proof.world import SAID, Expected, refs, wrong
from support.stack import Load, request

PROBES = 20
EVENTS, TIME = "events of the ledger, verified", "time"
FLOW_RUN = "in a flow run of Prefect's runner"
RUNNER = "with Prefect's runner itself"
IN_THE_RUNNER = (Case(Ending.PROMOTED, FLOW_RUN), Case(Ending.PROMOTED, RUNNER))
RATE = 10.0
RAN = "ran"
"""The model whose releases are told by Prefect's runner."""
LONG = ("trade", "held")
"""The kinds with most of the cases."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One case and how it ended; `wrong` is empty when all is as after the uncrashed release. Times are Unix seconds."""

    case: Case
    model: str
    killed: bool
    tellings: int
    began: float
    ended: float
    wrong: tuple[str, ...]
    requests: int = 0
    failed: int = 0

    @property
    def right(self) -> bool:
        """Whether it ended as the uncrashed release does, and every request was answered."""
        return not self.wrong and not self.failed

    def as_json(self) -> dict[str, Any]:
        """Return the case as the results have it."""
        case = {name: value for name, value in asdict(self.case).items() if value}
        told = {"killed": self.killed, "tellings": self.tellings, "seconds": round(self.ended - self.began, 1)}
        return {**case, **told, "requests": self.requests, "failed_requests": self.failed, "right": self.right, "wrong": list(self.wrong)}


@dataclass
class Lane:
    """One model after another case of its kind; `lasted` has the seconds of each ending's uncrashed release."""

    stage: Stage
    model: str
    courses: Mapping[Ending, Course] = field(default_factory=lambda: COURSES)
    lasted: dict[Ending, float] = field(default_factory=dict)

    def run(self, case: Case) -> Tried:
        """Have a release killed as the case says, have it told to its end, and look at what is there then."""
        began = time.time()
        try:
            return self._run(case, began)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the case is not right, and the others go on
            return Tried(case, self.model, False, 0, began, time.time(), (f"{type(problem).__name__}: {problem}",))

    def _run(self, case: Case, began: float) -> Tried:
        house, course = self.stage.house, self.courses[case.ending]
        stable, pointed = stable_of(house, self.model), refs(house, self.model, course.regions)
        before = stable.digest if stable else ""
        release = self.stage.want(self.model, case.ending)
        asked = self._ended_by_somebody(case.ending, release, course)
        told = time.time()
        status = self.first(case, named(Effect(case.effect), self.stage.digest_of(self.model, release), before))
        tellings = 1 + self.finish()
        ended = time.time()
        assert asked is None or asked.wait(1), "nobody ever ended it"
        if case.point == NEVER:
            self.lasted[case.ending] = ended - told
        revision = self.stage.revision_of(self.model, release)
        reached = replace(course, revision=revision, stable=before)
        killed = status == -signal.SIGKILL
        unkilled = () if killed or case.point in (NEVER, ANY) else (f"the controller was never killed (its status is {status})",)
        problems = wrong(house, Expected(case.ending, self.model, release, reached, pointed))
        return Tried(case, self.model, killed, tellings, began, ended, (*unkilled, *problems))

    def first(self, case: Case, effect: Effect) -> int:
        """Tell the release for the first time, until it is killed; returns the status of the process."""
        telling = self.stage.teller.tell(self.model, f"{case.point} {effect}" if case.effect else "")
        if case.point == ANY:
            telling.kill(case.fraction * self.lasted[case.ending], signal.SIGKILL)
        status = telling.wait(TOLD_SECONDS)
        if status == 0 and case.effect and self.stage.answer(self.model):
            # It waited for a person, without a process, before it came to where it is killed
            return self.first(case, effect)
        return status

    def finish(self) -> int:
        """Tell the release to its end; returns how often."""
        return self.stage.finish(self.model)

    def _ended_by_somebody(self, ending: Ending, release: str, course: Course) -> threading.Event | None:
        if ending is Ending.SUPERSEDED:
            return self.stage.supersede_at(self.model, release, weight(course.weights[-1]))
        if ending in (Ending.ABORTED, Ending.PROMOTED_NOW):
            return self.stage.say_at(self.model, release, weight(course.weights[-1]), SAID[ending])
        return None


def uncrashed(cases: Sequence[Case]) -> list[Case]:
    """Return the releases that nobody kills, one for each ending of the cases."""
    return [Case(ending, NEVER) for ending in dict.fromkeys(case.ending for case in cases)]


def lane(stage: Stage, model: str, waiting: queue.SimpleQueue[Case], references: Sequence[Case], done: Progress[Tried]) -> None:
    """Work off cases on one model under load, after the uncrashed releases; failed requests are counted to their case."""
    stage.bring_up(model)
    own, tried = Lane(stage, model), []
    with stage.stack.load(model, RATE) as load:
        for case in _until_empty(waiting, references):
            tried.append(own.run(case))
            done.step(tried[-1], str(case), tried[-1].right)
    for each in answered(tried, load):
        done.result(each)


def fresh(stage: Stage, models: Iterator[str], waiting: queue.SimpleQueue[Case], references: Sequence[Case], done: Progress[Tried]) -> None:
    """Work off first releases, each on a model of its own; what it serves afterwards is asked a few times."""
    lasted: dict[Ending, float] = {}
    for case in _until_empty(waiting, references):
        own = Lane(stage, next(models), lasted=lasted)
        found = own.run(case)
        failed = probe(stage, own.model)
        stage.leave(own.model)
        found = replace(found, requests=PROBES, failed=failed)
        done.step(found, str(case), found.right)
        done.result(found)


def told_by_the_runner(stage: Stage, done: Progress[Tried]) -> None:
    """Work off the cases in Prefect's runner, under load too."""
    from proof.runner import RunnerLane, in_the_runner

    stage.bring_up(RAN)
    with stage.stack.load(RAN, RATE) as load:
        tried = in_the_runner(RunnerLane(stage, RAN), done)
    for each in answered(tried, load):
        done.result(each)


def probe(stage: Stage, model: str) -> int:
    """Ask a model some times through the edge; returns how often it gave no good answer."""
    url = f"{stage.house.stack.edge_url}/v2/models/{model}/infer"
    return sum(httpx.post(url, json=request(float(number)), timeout=20).status_code != 200 for number in range(PROBES))


def answered(tried: Sequence[Tried], load: Load) -> list[Tried]:
    """Return the cases with the requests of their time; a failed one between two cases counts to the one before."""
    answers = [(sent["due"], 200 <= sent["status"] < 300) for sent in load.answers()]
    found = []
    for position, each in enumerate(tried):
        until = tried[position + 1].began if position + 1 < len(tried) else float("inf")
        own = [good for due, good in answers if (each.began if position else 0.0) <= due < until]
        found.append(replace(each, requests=len(own), failed=own.count(False)))
    return found


def _until_empty(waiting: queue.SimpleQueue[Case], first: Sequence[Case]) -> Iterator[Case]:
    yield from first
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def plan(given: argparse.Namespace) -> tuple[Case, ...]:
    """Return the cases that are asked for."""
    endings = tuple(Ending[name.upper()] for name in given.endings.split(",")) if given.endings else tuple(Ending)
    every = boundaries({ending: COURSES[ending] for ending in endings})
    chosen = every if given.cases is None else sampled(given.cases, given.seed, every)
    return (*chosen, *moments(given.moments, given.seed, endings))


def kept(committed: Mapping[str, Any] | None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the killed releases of a committed result that ended right, each with the commit that it was of."""
    found = committed or {"cases": [], "convoy": ""}
    right = (case for case in found["cases"] if case["right"] and case["point"] != NEVER)
    return {key_of(case): {"convoy": found["convoy"]} | case for case in right}


def key_of(case: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells one case of a result from another."""
    return case["ending"], case["point"], case.get("effect", ""), case.get("fraction", 0.0)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sweep's options."""
    parser.add_argument("--cases", type=int, help="so many boundaries, chosen by the seed; without it, every one")
    parser.add_argument("--moments", type=int, default=3, help="kills at any moment, for each ending")
    parser.add_argument("--endings", default="", help=f"only these, with commas: {', '.join(ending.name.lower() for ending in Ending)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-runner", dest="runner", action="store_false", help="without the kills in Prefect's runner")
    parser.add_argument("--rest", action="store_true", help="only what the committed result has not, or has as wrong; the two together")
    parser.add_argument("--lanes", type=int, default=2, help="models at work at the same time, for each of the two long kinds")


@contextmanager
def at_once(jobs: Sequence[threading.Thread]) -> Iterator[None]:
    """Have several threads at work, and end with all of them."""
    for job in jobs:
        job.start()
    yield
    for job in jobs:
        job.join()


def run(given: argparse.Namespace, report: Report) -> None:
    """Sweep as asked for and write down every case."""
    committed = committed_result("sweep") if given.rest else None
    before = kept(committed)
    cases = tuple(case for case in plan(given) if key_of(asdict(case)) not in before)
    runner = given.runner and not all(key_of(asdict(case)) in before for case in IN_THE_RUNNER)
    kinds = {kind: [case for case in cases if case.ending in endings] for kind, endings in KINDS.items()}
    first = [case for case in cases if case.ending is Ending.FIRST]
    most = {kind: given.lanes if kind in LONG else 1 for kind in kinds}
    lanes = {f"{kind}{number}": kind for kind, own in kinds.items() for number in range(1, min(most[kind], len(own)) + 1)}
    new = [f"new{number:03}" for number in range(1, len(first) + 2)]
    models = {RAN: "trade"} | lanes | dict.fromkeys(new, "trade")
    references = {kind: uncrashed(own) for kind, own in kinds.items()}
    total = len(cases) + sum(len(references[kind]) for kind in lanes.values()) + bool(first) + len(IN_THE_RUNNER) * runner
    done: Progress[Tried] = Progress(total)
    began = time.monotonic()
    with ExitStack() as stack:
        stage = stack.enter_context(staged(models))
        done.say(f"the stack runs after {time.monotonic() - began:.0f} s; {total} releases in {len(lanes) + bool(first)} lanes")
        waiting = {kind: _queue(own) for kind, own in kinds.items()}
        jobs = [threading.Thread(target=lane, args=(stage, model, waiting[kind], references[kind], done)) for model, kind in lanes.items()]
        if first:
            jobs.append(threading.Thread(target=fresh, args=(stage, iter(new), _queue(first), uncrashed(first), done)))
        with at_once(jobs):
            pass
        if runner:
            told_by_the_runner(stage, done)
        events = stage.house.ledger.verify()
    tried = [each.as_json() for each in sorted(done.results, key=lambda each: str(each.case))]
    again = {key_of(case) for case in tried}
    report.cases = [case for key, case in before.items() if key not in again] + tried
    found = {row["row"]: row["figure"] for row in committed["rows"]} if committed else {}
    spent = Spent(events + int(found.get(EVENTS, 0)), time.monotonic() - began + float(found.get(TIME, 0.0)), total - len(tried))
    report.rows = rows(report.cases, spent)


def _queue(cases: Sequence[Case]) -> queue.SimpleQueue[Case]:
    found: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        found.put(case)
    return found


@dataclass(frozen=True, slots=True)
class Spent:
    """What a sweep took: the ledger's events, seconds, and the releases that were never tried since a lane broke."""

    events: int
    seconds: float
    untried: int


def rows(cases: Sequence[Mapping[str, Any]], spent: Spent) -> list[Row]:
    """Return the figures of a sweep."""
    kills = [case for case in cases if case["point"] != NEVER]
    late = [case for case in kills if case["point"] == ANY and not case["killed"]]
    return [
        Row("releases that were killed", "Convoy", sum(bool(case["killed"]) for case in kills), "releases"),
        Row("kills at any moment that came too late", "Convoy", len(late), "releases"),
        Row("releases that nobody killed", "Convoy", len(cases) - len(kills), "releases"),
        Row("did not end as the uncrashed release does", "Convoy", sum(bool(case["wrong"]) for case in cases), "releases", target=0),
        Row("never tried", "Convoy", spent.untried, "releases", target=0),
        Row("requests of callers", "Convoy", sum(case["requests"] for case in cases), "requests"),
        Row("requests that failed", "Convoy", sum(case["failed_requests"] for case in cases), "requests", target=0),
        Row(EVENTS, "Convoy", spent.events, "events"),
        Row(TIME, "the whole sweep", round(spent.seconds, 1), "s", target=1200),
    ]
