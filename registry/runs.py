"""The MLflow run that trained a version, as evidence: what may stand in the ledger for ever, bounded and without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from fleet.canonical import digest_of_file
from fleet.errors import UnknownName
from registry.events import JSON, stamp
from registry.rest import Answer, Rest

MOST = 100
"""Parameters, metrics and datasets that are recorded of each; how many more there are is recorded as a number."""
LONGEST = 250
"""Characters of a value that are recorded; a longer one ends with an ellipsis."""
ENVIRONMENT = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")
"""The files in which MLflow writes what a model was trained with."""
REVISIONS = ("convoy.data.", "mlflow.source.git.commit", "mlflow.source.git.branch", "mlflow.source.type")
"""How tags begin that say which data and code: neither who ran it nor where on whose disk."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET = re.compile(r"api_?key|auth|authorization|bearer|cookie|credentials?|dsn|jwt|passphrase|passwd|passwords?|pwd|sas|secrets?|token")
_OPENING = re.compile(r"access|account|api|encryption|private|secret|signing|ssh|storage|subscription")
"""What makes a key one that opens something; `sort_key` opens nothing."""
_LIKE_A_SECRET = re.compile(
    r"-----BEGIN |://[^/@\s]*:[^/@\s]*@|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bxox[abp]-"
    r"|\bsk-[\w-]{20,}|\beyJ[\w-]{8,}\.eyJ|(?i:\b(?:password|pwd|accountkey|sharedaccesskey|sig)=)"
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that the run says it used."""

    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One run: names with values, as text.

    Metrics are the last of each name, decimals as text (`NaN` and `Infinity` as MLflow has them). `environment` has the
    digest of each file that says what the model was trained with. `withheld` names what looked like a credential, by
    its name or its value; `left_out` counts what was more than `MOST`. `gone` is a run that MLflow no longer has.
    """

    id: str
    experiment: str = ""
    status: str = ""
    started: str | None = None
    ended: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    datasets: tuple[Dataset, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    revision: tuple[tuple[str, str], ...] = ()
    withheld: tuple[str, ...] = ()
    left_out: int = 0
    gone: bool = False

    def as_json(self) -> dict[str, JSON]:
        """Return the run as the ledger takes it."""
        return {
            "id": self.id,
            "experiment": self.experiment,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "datasets": [
                {"name": found.name, "digest": found.digest, "source": found.source, "context": found.context} for found in self.datasets
            ],
            "environment": dict(self.environment),
            "revision": dict(self.revision),
            "withheld": list(self.withheld),
            "left_out": self.left_out,
            "gone": self.gone,
        }


class _Pair(Answer):
    key: str
    value: str = ""


class _Metric(Answer):
    key: str
    value: float


class _Info(Answer):
    experiment_id: str = ""
    status: str = ""
    start_time: int | None = None
    end_time: int | None = None


class _Data(Answer):
    params: tuple[_Pair, ...] = ()
    metrics: tuple[_Metric, ...] = ()
    tags: tuple[_Pair, ...] = ()


class _Set(Answer):
    name: str = ""
    digest: str = ""
    source_type: str = ""


class _Input(Answer):
    dataset: _Set
    tags: tuple[_Pair, ...] = ()


class _Inputs(Answer):
    dataset_inputs: tuple[_Input, ...] = ()


class _Run(Answer):
    info: _Info
    data: _Data = _Data()
    inputs: _Inputs = _Inputs()


class _OneRun(Answer):
    run: _Run


def read_run(rest: Rest, run_id: str, files: Path) -> TrainingRun:
    """Return a run with the environment that its model's downloaded files tell; one that was deleted for good is `gone`."""
    environment = tuple((name, digest_of_file(files / name)) for name in ENVIRONMENT if (files / name).is_file())
    try:
        found = rest.get("/mlflow/runs/get", _OneRun, {"run_id": run_id}).run
    except UnknownName:
        return TrainingRun(run_id, environment=environment, gone=True)
    parameters = {pair.key: pair.value for pair in found.data.params}
    metrics = {metric.key: _decimal(metric.value) for metric in found.data.metrics}
    revision = {tag.key: tag.value for tag in found.data.tags if tag.key.startswith(REVISIONS)}
    datasets = tuple(sorted(map(_dataset, found.inputs.dataset_inputs), key=lambda one: (one.name, one.digest)))
    withheld = sorted({name for name, value in (parameters | revision).items() if looks_secret(name, value)})
    return TrainingRun(
        id=run_id,
        experiment=found.info.experiment_id,
        status=found.info.status,
        started=_time(found.info.start_time),
        ended=_time(found.info.end_time),
        parameters=_bounded(parameters, withheld),
        metrics=_bounded(metrics, withheld),
        datasets=datasets[:MOST],
        environment=environment,
        revision=_bounded(revision, withheld),
        withheld=tuple(_cut(name) for name in withheld[:MOST]),
        left_out=sum(max(0, len(them) - MOST) for them in (parameters, metrics, datasets, revision, withheld)),
    )


def looks_secret(name: str, value: str) -> bool:
    """Whether a parameter is withheld: its name has a word such as password, secret or token, or its value is written as a credential is.

    Names are read word by word (`api_key`, `dbPassword`), so `max_tokens`, `tokenizer` and `sort_key` are none.
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    opens = any(word in ("key", "keys") and _OPENING.fullmatch(before) for before, word in pairwise(words))
    return opens or any(map(_SECRET.fullmatch, words)) or _LIKE_A_SECRET.search(value) is not None


def _bounded(found: Mapping[str, str], withheld: Iterable[str]) -> tuple[tuple[str, str], ...]:
    names = [name for name in sorted(found)[:MOST] if name not in set(withheld)]
    return tuple((_cut(name), _cut(found[name])) for name in names)


def _cut(text: str) -> str:
    # What has no UTF-8 form cannot be recorded
    plain = text.encode("utf-8", "replace").decode()
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def _decimal(value: float) -> str:
    """Return a float as the shortest decimal that reads back as the same."""
    return str(Decimal(repr(value)))


def _dataset(found: _Input) -> Dataset:
    context = next((tag.value for tag in found.tags if tag.key == "mlflow.data.context"), "")
    return Dataset(*(_cut(text) for text in (found.dataset.name, found.dataset.digest, found.dataset.source_type, context)))


def _time(milliseconds: int | None) -> str | None:
    """Return a time as the ledger writes it, None for one that no calendar has: whoever logs a run may say anything."""
    try:
        return None if milliseconds is None else stamp(datetime.fromtimestamp(milliseconds / 1000, UTC))
    except (ValueError, OverflowError, OSError):
        return None
