"""The contracts, rule by rule, as their owners publish them.

SageMaker: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
Vertex AI: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
Azure ML: https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container
Open Inference Protocol v2: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bentos.conformance.asking import Answer, Subject, is_column
from bentos.conformance.findings import Finding, Outcome

PING_SECONDS = 2.0
REVISION = "x-convoy-revision"
READY = "/v2/health/ready"
LIVE = "/v2/health/live"
BROKEN = b'{"instances": [{'
Verdict = tuple[Outcome, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a contract asks, in words, and how it is found out."""

    name: str
    check: Callable[[Subject], Verdict]


def judge(subject: Subject, contracts: tuple[str, ...]) -> tuple[Finding, ...]:
    """Ask a running server for everything that some contracts want."""
    return tuple(Finding(name, rule.name, *rule.check(subject)) for name in contracts for rule in CONTRACTS[name])


def _verdict(good: bool, told: str) -> Verdict:
    return (Outcome.PASSED if good else Outcome.FAILED), told


def _answers(path: str) -> Callable[[Subject], Verdict]:
    def check(subject: Subject) -> Verdict:
        found = subject.get(path)
        return _verdict(found.status == 200, f"GET {path} answered {found.told}")

    return check


def _ping(subject: Subject) -> Verdict:
    found = subject.get("/ping")
    quick = found.seconds <= PING_SECONDS
    return _verdict(found.status == 200 and quick, f"GET /ping answered {found.told} after {found.seconds:.2f} s (2 s at most)")


def _names_digest(subject: Subject) -> Verdict:
    found = subject.get(READY)
    named = found.headers.get(REVISION, "")
    wanted = subject.digest
    good = found.status == 200 and (named == wanted if wanted else re.fullmatch(r"sha256:[0-9a-f]{64}", named) is not None)
    if not found.status:
        return Outcome.FAILED, found.told
    return _verdict(
        good,
        f"GET {READY} answered {found.status} and names {named or 'no revision'}{f', not {wanted}' if wanted and named != wanted else ''}",
    )


def _unknown_path(subject: Subject) -> Verdict:
    found = subject.get("/v2/nothing-of-this-name")
    return _verdict(found.status == 404 and REVISION in found.headers, f"an unknown path answered {found.told}")


def _prediction(
    path: Callable[[Subject], str], body: Callable[[Subject], object], fits: Callable[[Subject, Answer], bool]
) -> Callable[[Subject], Verdict]:
    """Return the check that a row is answered; a row that we made up and the model refuses tells nothing."""

    def check(subject: Subject) -> Verdict:
        if not (subject.rows or (path is _infer_path and subject.request is not None)):
            return Outcome.INCONCLUSIVE, "no row is known that it could answer: give --input, or --model so that it can be asked"
        found = subject.post(path(subject), body(subject))
        if found.status in (400, 422):
            return Outcome.INCONCLUSIVE, f"POST {path(subject)} refused the row: {found.told}; give --input with rows that it answers"
        return _verdict(found.status == 200 and fits(subject, found), f"POST {path(subject)} answered {found.told}")

    return check


def _refuses(path: Callable[[Subject], str]) -> Callable[[Subject], Verdict]:
    """Return the check that what is no JSON is the caller's mistake."""

    def check(subject: Subject) -> Verdict:
        found = subject.post(path(subject), BROKEN)
        return _verdict(400 <= found.status < 500 and found.status != 404, f"broken JSON to {path(subject)} answered {found.told}")

    return check


def _infer_path(subject: Subject) -> str:
    return f"/v2/models/{subject.model}/infer"


def _describes(subject: Subject) -> Verdict:
    if not subject.model:
        return Outcome.INCONCLUSIVE, "the model's name is not known: give --model"
    found = subject.get(f"/v2/models/{subject.model}")
    document = found.document()
    columns = document.get("inputs") if isinstance(document, dict) else None
    good = found.status == 200 and isinstance(columns, list) and bool(columns) and all(map(is_column, columns))
    told = f"{len(columns)} columns" if good and columns else found.told
    return _verdict(good, f"GET /v2/models/{subject.model} answered {told}{'' if good else ' (inputs with name, datatype and shape)'}")


def _infer_body(subject: Subject) -> object:
    if subject.request is not None:
        return subject.request
    types = {column["name"]: column["datatype"] for column in subject.metadata.get("inputs", ()) if is_column(column)}
    columns = {name: [row.get(name) for row in subject.rows] for name in subject.rows[0]}
    return {
        "inputs": [
            {"name": name, "datatype": types.get(name, "FP64"), "shape": [len(data)], "data": data} for name, data in columns.items()
        ]
    }


def _infer_fits(subject: Subject, found: Answer) -> bool:
    document = found.document()
    return isinstance(document, dict) and bool(document.get("outputs")) and REVISION in found.headers


def _split(subject: Subject) -> Mapping[str, object]:
    columns = list(subject.rows[0])
    return {"columns": columns, "data": [[row.get(name) for name in columns] for row in subject.rows]}


def _azure_body(subject: Subject) -> object:
    return {"input_data": {**_split(subject), "index": list(range(len(subject.rows)))}}


def _predictions(subject: Subject, found: Answer) -> bool:
    document = found.document()
    said = document.get("predictions") if isinstance(document, dict) else None
    return isinstance(said, list) and len(said) == len(subject.rows)


def _is_json(subject: Subject, found: Answer) -> bool:
    return found.document() is not None


CONTRACTS: Mapping[str, tuple[Rule, ...]] = {
    "convoy": (
        Rule("readiness names the digest", _names_digest),
        Rule("it says that it lives", _answers(LIVE)),
        Rule("every answer names the revision", _unknown_path),
        Rule("it describes its model", _describes),
        Rule("a row is answered", _prediction(_infer_path, _infer_body, _infer_fits)),
        Rule("broken JSON is the caller's mistake", _refuses(_infer_path)),
    ),
    "sagemaker": (
        Rule("GET /ping answers 200 within 2 s", _ping),
        Rule(
            "POST /invocations answers",
            _prediction(lambda _: "/invocations", lambda subject: {"dataframe_split": _split(subject)}, _is_json),
        ),
        Rule("broken JSON is the caller's mistake", _refuses(lambda _: "/invocations")),
    ),
    "vertex": (
        Rule("AIP_HEALTH_ROUTE answers 200", lambda subject: _answers(subject.health_route)(subject)),
        Rule(
            "AIP_PREDICT_ROUTE gives one prediction for each instance",
            _prediction(lambda subject: subject.predict_route, lambda subject: {"instances": list(subject.rows)}, _predictions),
        ),
        Rule("broken JSON is the caller's mistake", _refuses(lambda subject: subject.predict_route)),
    ),
    "azure": (
        Rule("the liveness route answers 200", _answers(LIVE)),
        Rule("the readiness route answers 200", _answers(READY)),
        Rule("POST /score answers", _prediction(lambda _: "/score", _azure_body, _is_json)),
        Rule("broken JSON is the caller's mistake", _refuses(lambda _: "/score")),
    ),
}
"""What is asked of a server; what is asked of an image besides stands in `images.py`."""
