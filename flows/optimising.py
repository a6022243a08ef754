"""Variants of a model, where fleet.yaml declares them: made and tried in the gates' sandbox, kept beside the revision or served."""

from __future__ import annotations

import base64
import binascii
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from bentos.optimise.messages import Answered, AnswerRequest, Converted, ConvertRequest
from bentos.service.variant import DOCUMENT, GRAPH
from fleet.addresses import Reach
from fleet.canonical import canonical_json
from fleet.declared import Model
from fleet.declared_optimise import Optimise, Variant
from fleet.errors import OperationFailed
from fleet.manifest import manifest_of
from flows import effects
from flows.gate_report import as_payload, refusals
from flows.gating import Source, pinned_rows
from flows.house import House
from flows.kept_golden import golden_set
from flows.retrying import on_transient
from flows.said import said_by, show_all
from flows.work import Work
from policies.files.graph import graph_problems
from policies.golden_rows import Rows, Unfit, example_of, read_table, rows_of, sendable, spread
from policies.golden_set import GoldenSet, judge_answers
from policies.parity import Parity, Speed, Tried, judge_parity, kept
from policies.sandbox import GIB, Job, Limits, Run, run
from policies.signature import read_signature
from policies.tensor_rows import takes_tensors, tensor_rows
from registry.ledger import JSON
from registry.lineage import fetch, read_tags
from registry.referrers import VARIANT, attach

PACKAGE = "bentos.optimise"
"""Whose workers the sandbox runs here; the policies know nothing of them."""
LIMITS = {"file": 2 * GIB, "answer": GIB, "scratch": 4 * GIB}
"""A graph may be as large as its model, and travels in the worker's answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The rows that are answered, in a file, and the golden set whose rows stand behind the others, where there is one.

    `made_with` has the others alone: a variant is made with them, whatever golden answers a release has.
    """

    rows: Rows
    file: Path
    made_with: Path
    golden: GoldenSet | None


@task(cache_policy=NO_CACHE, **on_transient)
def optimise(work: Work, source: Source) -> tuple[str, ...]:
    """Make the declared variants and hold each against the model; returns why the release may not go on, or nothing."""
    declared = work.declared.optimise
    if declared is None or not declared.variants:
        return ()
    work.check()
    work.journal.effect(effects.OPTIMISE, lambda: _optimised(work, source, declared), source_digest=source.digest)
    show_all(work)
    return tuple(map(str, refusals(said_by(work.journal.events(), effects.OPTIMISE))))


def served_variant(work: Work) -> Path | None:
    """Return the files of the variant that is to be served, out of the origin store; None where the model itself is.

    Raises OperationFailed for one that was not found to answer as the model does.
    """
    declared = work.declared.optimise
    if declared is None or declared.serve is None:
        return None
    kept = _made(work).get(declared.serve)
    if kept is None:
        raise OperationFailed(
            f"the variant {declared.serve} of {work.model} version {work.desire.version}",
            "was not kept by this release's gate 'parity': fleet.yaml named another one then",
            "Release the version again, so that this one is held against the model.",
        )
    folder = work.folder / "served-variant"
    work.house.origin.fetch_tree(kept["digest"], folder)
    return folder


def make_served_variant(house: House, declared: Model, source: Source, scratch: Path) -> Path | None:
    """Make the variant that a model's Bento is to serve, in a new folder below `scratch`; None where the model itself is served.

    It is the one that a release makes, since the same model and rows give the same bytes; whether it answers as the model
    does is what a release finds out. Raises OperationFailed where there is none.
    """
    optimised = declared.optimise
    if optimised is None or optimised.serve is None:
        return None
    scratch.mkdir(parents=True)
    made, seconds = (scratch / optimised.serve).absolute(), house.settings.gate_seconds
    try:
        rows = _rows(declared, optimised, house.reach, source, scratch).write((scratch / "asked.parquet").absolute())
        problem = _converted(ConvertRequest(source.folder.absolute(), rows, optimised.serve), made, seconds)
    except Unfit as unfit:
        problem = str(unfit)
    if problem := problem or "; ".join(graph_problems(made, scratch, seconds)):
        raise OperationFailed(
            f"the variant {optimised.serve} of {source.version.model} version {source.version.version}",
            problem,
            "Declare another variant in optimise.serve, or none.",
        )
    return made


def attach_variants(work: Work, digest: str) -> None:
    """Keep beside a packaged revision what is known of each variant that answers as it does, by the variant's own digest."""
    declared = work.declared.optimise
    for name, told in _made(work).items() if declared is not None else ():
        served = declared is not None and declared.serve == name
        attach(work.house.origin, digest, VARIANT, canonical_json({**told, "subject": digest, "served": served}))


def _made(work: Work) -> dict[str, dict[str, str]]:
    """Return what the ledger says of the kept variants, by their names."""
    for event in reversed(work.journal.events()):
        if event.type == "effect.completed" and event.effect_key == effects.OPTIMISE:
            told: Any = event.payload["variants"]
            return dict(told)
    return {}


def _optimised(work: Work, source: Source, declared: Optimise) -> dict[str, JSON]:
    began = time.monotonic()
    scratch = work.folder / "variants"
    # A controller that was killed right here may have left some
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        asked = _asked(work, source, declared, scratch)
        found = _tried(work, source, declared, asked, scratch)
    except Unfit as unfit:
        found = Parity(problem=str(unfit))
    result = replace(judge_parity(declared, found), took_ms=round((time.monotonic() - began) * 1000))
    get_run_logger().info("%s: parity %s: %s", work.desire.release, result.outcome, "; ".join(result.reasons))
    good = kept(declared, found)
    for tried in good:
        work.house.origin.put_tree(scratch / tried.variant)
    return {"results": [as_payload(result)], "variants": {tried.variant.value: _told(tried, found) for tried in good}}


def _asked(work: Work, source: Source, declared: Optimise, scratch: Path) -> Asked:
    """Return rows of the evaluation, else of the training, else of the input example, and the golden ones behind them."""
    import pyarrow

    rows = _rows(work.declared, declared, work.house.reach, source, scratch)
    made_with = rows.write((scratch / "rows.parquet").absolute())
    golden = golden_set(work.house, work.desire.release)
    if golden is not None:
        columns = zip(*golden.rows, strict=True)
        behind = rows_of(
            pyarrow.table({name: list(values) for (name, _), values in zip(golden.inputs, columns, strict=True)}),
            read_signature(source.folder / "MLmodel")[0],
        ).table
        if behind.schema != rows.table.schema:
            raise Unfit("the golden rows have other columns than the rows that variants are tried with")
        rows = replace(rows, table=pyarrow.concat_tables([rows.table, behind]))
    return Asked(rows, rows.write((scratch / "asked.parquet").absolute()), made_with, golden)


def _rows(declared: Model, optimised: Optimise, reach: Reach, source: Source, scratch: Path) -> Rows:
    """Return rows of the evaluation, else of the training, else of the input example."""
    signature, problem = read_signature(source.folder / "MLmodel")
    if problem:
        raise Unfit(problem)
    pinned = pinned_rows(declared, reach).get("evaluation") or read_tags(source.version.tags)
    file = None if pinned is None else fetch(pinned, scratch / f"pinned{Path(pinned.path).suffix}", reach)
    table = None if file is None else read_table(file, "rows for the variants")
    if takes_tensors(signature):
        rows = tensor_rows(table, source.folder, signature)
    else:
        rows = sendable(rows_of(example_of(source.folder) if table is None else table, signature), signature)
    found = spread(rows, optimised.rows)
    if not found.table.num_rows:
        raise Unfit("no row of the evaluation, the training or the input example can be sent as a request")
    return found


def _tried(work: Work, source: Source, declared: Optimise, asked: Asked, scratch: Path) -> Parity:
    own = _answers(work, AnswerRequest(source.folder.absolute(), asked.file, declared.seconds), scratch)
    if own.answer is None:
        raise Unfit(f"the model did not answer: {own.failure}")
    said = own.answer
    golden = GoldenSet("what the model itself answered", asked.rows.inputs, asked.rows.values(), said.outputs, said.answers)
    size = manifest_of(source.folder).size
    variants = tuple(_variant(work, source, variant, asked, scratch) for variant in declared.variants)
    return Parity(golden, said.types, Speed(said.alone, said.batched, said.load_ms, size), variants, together=said.together)


def _variant(work: Work, source: Source, variant: Variant, asked: Asked, scratch: Path) -> Tried:
    """Make one variant, look into its files, and let it answer."""
    folder = (scratch / variant).absolute()
    if problem := _converted(ConvertRequest(source.folder.absolute(), asked.made_with, variant), folder, work.house.settings.gate_seconds):
        return Tried(variant, problem=problem)
    if problems := graph_problems(folder, scratch, work.house.settings.gate_seconds):
        return Tried(variant, problem="; ".join(problems))
    declared = work.declared.optimise
    assert declared is not None
    request = AnswerRequest(source.folder.absolute(), asked.file, declared.seconds, folder)
    done = _answers(work, request, scratch)
    if done.answer is None:
        return Tried(variant, problem=f"it did not answer: {done.failure}")
    said = done.answer
    given, together = (tuple(dict(zip(said.outputs, row, strict=True)) for row in rows) for rows in (said.answers, said.together))
    files = manifest_of(folder)
    speed = Speed(said.alone, said.batched, said.load_ms, files.size)
    return Tried(variant, files.digest, said.types, given, speed, _unlike_golden(work, asked, given), together)


def _converted(request: ConvertRequest, folder: Path, seconds: float) -> str:
    """Write a variant's files into a folder; returns why there are none."""
    job = Job("convert", request, (request.model, request.rows), folder.parent, PACKAGE)
    done = run(job, Converted, Limits(seconds, **LIMITS))
    if done.answer is None:
        return f"it could not be made: {done.failure}"
    if done.answer.problem:
        return done.answer.problem
    folder.mkdir()
    try:
        (folder / GRAPH).write_bytes(base64.b64decode(done.answer.graph, validate=True))
    except binascii.Error:
        return "it could not be made: its graph is not what was asked for"
    (folder / DOCUMENT).write_text(done.answer.document, encoding="utf-8")
    return ""


def _answers(work: Work, request: AnswerRequest, scratch: Path) -> Run[Answered]:
    reads = (request.model, request.rows, *(() if request.variant is None else (request.variant,)))
    return run(Job("answer", request, reads, scratch, PACKAGE), Answered, Limits(work.house.settings.gate_seconds))


def _unlike_golden(work: Work, asked: Asked, given: tuple[dict[str, Any], ...]) -> str:
    """Return how a variant's answers to the golden rows differ from the golden ones beyond what these allow."""
    declared = work.declared.gates.golden
    if asked.golden is None or declared is None:
        return ""
    result = judge_answers("golden answers", declared, asked.golden, given[-len(asked.golden.rows) :])
    return "; ".join(result.reasons) if result.outcome.refuses else ""


def _told(tried: Tried, found: Parity) -> dict[str, JSON]:
    """Return what is kept of a variant, beside the revision and in the ledger; numbers as text."""
    assert tried.speed is not None
    assert found.speed is not None
    return {
        "variant": tried.variant.value,
        "digest": tried.digest,
        "rows_a_second_alone": str(tried.speed.alone),
        "rows_a_second_in_batches_of_64": str(tried.speed.batched),
        "of_the_model_alone": str(found.speed.alone),
        "of_the_model_in_batches_of_64": str(found.speed.batched),
        "bytes": str(tried.speed.bytes),
    }
