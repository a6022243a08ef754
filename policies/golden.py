"""The gate that has the candidate reproduce golden answers, and that leaves the set that every region is then asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fleet.declared import Model
from fleet.declared_golden import MOST_ROWS, Golden
from fleet.evidence import GateResult
from policies.candidate import Candidate, Figures, Gate, inconclusive, not_applicable
from policies.golden_rows import Rows, Unfit, example_of, expected_of, read_table, rows_of, sendable, spread
from policies.golden_set import GoldenSet, Value, judge_answers
from policies.sandbox import Job, Limits, run
from policies.signature import Signature, read_signature
from policies.workers.messages import AnswerRequest, RowAnswers

SET_FILE = "golden.json"
MOST_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A golden set and the candidate's answers to its rows; without a set `problem` says why."""

    golden: GoldenSet | None
    given: tuple[dict[str, Value], ...] = ()
    problem: str = ""
    barriers: Figures = ()


class GoldenAnswers(Gate[Reproduced]):
    """Passes a candidate that reproduces golden answers, each row alone, in a sandbox.

    Without a declared file it must reproduce its own answers, and those become the golden ones of its revision. What the
    regions are asked is left in the gate's work folder. Not applicable where fleet.yaml declares no golden answers.
    """

    name = "golden answers"

    def gather(self, candidate: Candidate) -> Reproduced:
        """Return what the candidate answers; raises InputError where the declared file is no Parquet file."""
        # A controller that was killed right here may have left one
        golden_file(candidate.work).unlink(missing_ok=True)
        declared = candidate.declared.gates.golden
        if declared is None:
            return Reproduced(None)
        signature, problem = read_signature(candidate.folder / "MLmodel")
        if problem:
            return Reproduced(None, problem=problem)
        try:
            asked = _declared(candidate, signature) if declared.path is not None else _parity(candidate, signature, declared)
            if declared.may_differ >= len(asked[1].rows):
                raise Unfit(f"{declared.may_differ} of {len(asked[1].rows)} golden rows may differ, so that no answer ever could")
        except Unfit as unfit:
            return Reproduced(None, problem=str(unfit))
        found = _answered(candidate, *asked)
        if found.golden is not None:
            golden_file(candidate.work).write_bytes(found.golden.to_bytes())
        return found

    def judge(self, declared: Model, evidence: Reproduced) -> GateResult:
        """Return whether the golden answers are reproduced within what fleet.yaml allows."""
        if declared.gates.golden is None:
            return not_applicable(self, "fleet.yaml declares no golden answers for this model")
        if evidence.golden is None:
            return inconclusive(self, f"there is nothing to compare: {evidence.problem}", figures=evidence.barriers)
        found = judge_answers(self.name, declared.gates.golden, evidence.golden, evidence.given)
        return replace(found, figures=(*found.figures, *evidence.barriers))


def golden_file(work: Path) -> Path:
    """Return where the gate leaves the golden set in its work folder."""
    return work / SET_FILE


def _declared(candidate: Candidate, signature: Signature) -> tuple[Rows, GoldenSet]:
    """Return the declared file's rows with their answers; raises Unfit and InputError."""
    declared = candidate.declared.gates.golden
    if declared is None or candidate.golden is None:
        raise Unfit("fleet.yaml declares a file of golden answers, and it was not found")
    table = read_table(candidate.golden, f"golden answers {declared.path}")
    if not 0 < table.num_rows <= MOST_ROWS:
        raise Unfit(f"the file of golden answers has {table.num_rows} rows; it must have 1 to {MOST_ROWS}")
    rows = rows_of(table, signature)
    if sendable(rows, signature).table.num_rows < table.num_rows:
        raise Unfit("the file of golden answers has rows that no request can hold: a missing value that is no number, or an infinite one")
    outputs, answers = expected_of(table)
    return rows, GoldenSet(f"the file {declared.path} at {declared.revision}", rows.inputs, rows.values(), outputs, answers)


def _parity(candidate: Candidate, signature: Signature, declared: Golden) -> tuple[Rows, GoldenSet]:
    """Return rows of the candidate's evaluation, training or input example, without answers yet; raises Unfit and InputError."""
    kinds = (("evaluation", candidate.evaluation), ("training", candidate.training))
    name, file = next(((name, file) for name, file in kinds if file is not None), ("input example", None))
    table = example_of(candidate.folder) if file is None else read_table(file, f"{name} rows")
    rows = spread(sendable(rows_of(table, signature), signature), declared.parity)
    if not rows.table.num_rows:
        raise Unfit(f"none of the {table.num_rows} {name} rows can be sent as a request")
    origin = f"what the candidate itself answered to {rows.table.num_rows} {name} rows in the gates' sandbox"
    return rows, GoldenSet(origin, rows.inputs, rows.values(), (), ())


def _answered(candidate: Candidate, rows: Rows, golden: GoldenSet) -> Reproduced:
    """Let the candidate answer the rows; a set without answers gets its first ones, and is held against its second."""
    own = not golden.outputs
    file = rows.write((candidate.work / "rows.parquet").absolute())
    request = AnswerRequest(candidate.folder.absolute(), file, 2 if own else 1)
    done = run(Job("answer_rows", request, (candidate.folder, file), candidate.work), RowAnswers, Limits(candidate.seconds))
    if done.answer is None:
        return Reproduced(None, problem=f"the candidate did not answer: {done.failure}", barriers=done.barriers.figures)
    said = done.answer
    whole = all(len(given) == len(golden.rows) and all(len(row) == len(said.outputs) for row in given) for given in said.times)
    if len(said.times) != request.times or not whole or not said.outputs or len(golden.rows) * len(said.outputs) > MOST_VALUES:
        problem = f"the candidate's answers are not {len(golden.rows)} rows of its outputs, {MOST_VALUES} values at most"
        return Reproduced(None, problem=problem, barriers=done.barriers.figures)
    if own:
        golden = replace(golden, outputs=said.outputs, answers=said.times[0])
    given = tuple(dict(zip(said.outputs, row, strict=True)) for row in said.times[-1])
    return Reproduced(golden, given, barriers=done.barriers.figures)
