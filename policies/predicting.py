"""What candidate and champion predict for the evaluation's rows: found out once, for every gate that compares them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleet.canonical import digest_of_file
from fleet.declared import Evaluation
from fleet.errors import InputError
from policies.candidate import Candidate, Figures
from policies.sandbox import Job, Limits, Run, run
from policies.workers.messages import Predictions, PredictRequest

REMEDY = "Correct the evaluation that fleet.yaml declares."
NO_ROWS = "fleet.yaml declares an evaluation, but its rows were not found"
CANDIDATE, CHAMPION = "candidate", "champion"
WHO = (CANDIDATE, CHAMPION)
CHAMPION_REMEDY = (
    "The candidate is not to blame, and no candidate can be compared until the stable version can be asked: go back to one that can"
    " (`convoy rollback MODEL`), or take the evaluation and gates.quality out of fleet.yaml for this release"
)
SEED_DIGITS = 12
"""Of the rows' digest, in hex: a number that JSON carries exactly."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """The predictions of the candidate, then of the champion where there is one; none where `problem` says why.

    `by_champion` says that the champion alone is why.
    """

    models: tuple[Predictions, ...]
    problem: str = ""
    barriers: Figures = ()
    by_champion: bool = False


def predicted(candidate: Candidate, declared: Evaluation) -> Predicted:
    """Return what the models predict, each in a sandbox of its own that sees no label, at the same time.

    Raises InputError where the evaluation's rows or label are wrong.
    """
    rows = candidate.evaluation
    if rows is None:
        return Predicted((), NO_ROWS)
    key = ("predicted", candidate.folder, candidate.champion, rows, declared.label, candidate.seconds)
    return candidate.once.get(key, lambda: _predicted(candidate, rows, declared.label))


def _predicted(candidate: Candidate, rows: Path, label: str) -> Predicted:
    unlabelled = without_label(rows, label, candidate.work)
    runs = _predict([candidate.folder] + ([candidate.champion] if candidate.champion else []), unlabelled, candidate)
    barriers = runs[0].barriers.figures
    for who, done in zip(WHO, runs, strict=False):
        if done.answer is None:
            return Predicted((), f"the {who} could not be scored: {done.failure}", barriers, by_champion=who == CHAMPION)
    return Predicted(tuple(done.answer for done in runs if done.answer is not None), "", barriers)


def seed_of(rows: Path) -> int:
    """Return the seed of what is drawn by chance over some rows: the same rows give the same drawing."""
    return int(digest_of_file(rows).removeprefix("sha256:")[:SEED_DIGITS], 16)


def without_label(rows: Path, label: str, work: Path) -> Path:
    """Write the rows without their label into a work folder and return the file; raises InputError where the label is missing."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(rows)
    except (OSError, pyarrow.ArrowException) as problem:
        raise InputError(f"evaluation rows {rows}", f"are no parquet file ({type(problem).__name__})", REMEDY) from problem
    if label not in table.column_names:
        raise InputError(f"evaluation rows {rows}", f"have no column '{label}' (columns: {', '.join(table.column_names)})", REMEDY)
    work.mkdir(parents=True, exist_ok=True)
    unlabelled = (work / "evaluation-without-label.parquet").absolute()
    parquet.write_table(table.drop_columns([label]), unlabelled)
    return unlabelled


def _predict(folders: list[Path], rows: Path, candidate: Candidate) -> list[Run[Predictions]]:
    """Let every model predict the rows, each in a sandbox of its own, at the same time."""

    def one(folder: Path) -> Run[Predictions]:
        job = Job("predict", PredictRequest(folder.absolute(), rows), (folder, rows), candidate.work)
        return run(job, Predictions, Limits(candidate.seconds))

    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(one, folders))
