"""Golden answers as a value: rows of a model's inputs with what each must be answered, and what lies too far from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter

from fleet.declared_golden import Golden, Tolerance
from fleet.evidence import GateOutcome, GateResult, GateTable

Value = bool | int | float | str | None
Answer = Mapping[str, Value] | str
"""What one row was answered, by output; a text says why there is no answer."""

NAMED = 5
SHOWN = 20
TEXT = 80


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Rows by the names and protocol types of `inputs`, and for each row the answers by `outputs`.

    `origin` says where the answers come from. A missing value is None.
    """

    origin: str
    inputs: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Value, ...], ...]
    outputs: tuple[str, ...]
    answers: tuple[tuple[Value, ...], ...]

    def bodies(self) -> tuple[bytes, ...]:
        """Return an Open Inference request for each row, alone as a caller would send it."""
        return tuple(self._body(row) for row in self.rows)

    def to_bytes(self) -> bytes:
        """Return it as JSON, the same bytes for the same set."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> GoldenSet:
        """Return what `to_bytes` gave; raises pydantic's ValidationError for anything else."""
        return _SET.validate_json(data)

    def _body(self, row: Sequence[Value]) -> bytes:
        tensors = [
            {"name": name, "shape": [1], "datatype": datatype, "data": [value]}
            for (name, datatype), value in zip(self.inputs, row, strict=True)
        ]
        return json.dumps({"inputs": tensors}, allow_nan=False).encode()


_SET: TypeAdapter[GoldenSet] = TypeAdapter(GoldenSet)


@dataclass(frozen=True, slots=True)
class Difference:
    """One answer that is not the golden one: of which request (from 1), which output, and what was allowed."""

    request: int
    output: str
    expected: str
    got: str
    allowed: str

    def __str__(self) -> str:
        where = f"request {self.request}" + (f", output '{self.output}'" if self.output else "")
        allowed = f" (allowed: {self.allowed})" if self.allowed else ""
        return f"{where}: expected {self.expected}, got {self.got}{allowed}"


def differences(declared: Golden, golden: GoldenSet, given: Sequence[Answer]) -> tuple[Difference, ...]:
    """Return every output of every request that lies further from its golden answer than its tolerance, in their order."""
    found: list[Difference] = []
    for number, (expected, answer) in enumerate(zip(golden.answers, given, strict=True), 1):
        if isinstance(answer, str):
            found.append(Difference(number, "", "an answer", answer, ""))
            continue
        for output, wanted in zip(golden.outputs, expected, strict=True):
            tolerance = declared.tolerance_of(output)
            if output not in answer:
                found.append(Difference(number, output, _shown(wanted), "no such output", ""))
            elif not alike(wanted, answer[output], tolerance):
                found.append(Difference(number, output, _shown(wanted), _shown(answer[output]), _allowed(wanted, tolerance)))
    return tuple(found)


def alike(wanted: Value, got: Value, tolerance: Tolerance) -> bool:
    """Return whether |got - wanted| <= absolute + relative * |wanted|; what is no number must be equal."""
    if not (_number(wanted) and _number(got)):
        return type(wanted) is type(got) and wanted == got
    # By their shortest texts, as they travel: a tolerance of 0 then means the same text
    expected, given = Decimal(str(wanted)), Decimal(str(got))
    return abs(given - expected) <= tolerance.absolute + tolerance.relative * abs(expected)


def judge_answers(gate: str, declared: Golden, golden: GoldenSet, given: Sequence[Answer]) -> GateResult:
    """Return whether answers are the golden ones, but for as many requests as may differ; pure."""
    if unknown := sorted(name for name in declared.outputs if not _known(name, golden.outputs)):
        why = f"gates.golden.outputs names {', '.join(unknown)}, and the golden answers are of {', '.join(golden.outputs)}"
        return GateResult(gate, GateOutcome.INCONCLUSIVE, (why,))
    found = differences(declared, golden, given)
    requests = len({each.request for each in found})
    figures = (("requests", str(len(golden.rows))), ("differ", str(requests)), ("may differ", str(declared.may_differ)))
    told = (*figures, ("golden answers", golden.origin))
    tables = (_table(found),) if found else ()
    if requests > declared.may_differ:
        more = (f"and {len(found) - NAMED} more answers",) if len(found) > NAMED else ()
        reasons = (f"{requests} of {len(golden.rows)} requests differ from the golden answers", *map(str, found[:NAMED]), *more)
        return GateResult(gate, GateOutcome.FAILED, reasons, told, tables)
    said = "all golden answers are reproduced" if not requests else f"{requests} of {len(golden.rows)} requests differ, which is allowed"
    return GateResult(gate, GateOutcome.PASSED, (said,), told, tables)


def answer_of(document: object) -> Answer:
    """Return a row's answer out of an Open Inference response: `<output>`, or `<output>.<place>` of a tensor of more dimensions."""
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        return "an answer without outputs"
    found: dict[str, Value] = {}
    for tensor in outputs:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("data"), list) or not isinstance(tensor.get("shape"), list):
            return "an answer whose outputs are no tensors"
        found |= named(str(tensor.get("name")), tensor["data"], flat=len(tensor["shape"]) == 1)
    return found


def named(output: str, data: Sequence[Any], *, flat: bool) -> dict[str, Value]:
    """Return one row's values by name: the output's own where it has one value a row, else with the value's place behind it."""
    if flat and len(data) == 1:
        return {output: _plain(data[0])}
    return {f"{output}.{place}": _plain(value) for place, value in enumerate(data)}


def _plain(value: Any) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)


def _known(name: str, outputs: Sequence[str]) -> bool:
    return any(output == name or output.rpartition(".")[0] == name for output in outputs)


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _allowed(wanted: Value, tolerance: Tolerance) -> str:
    if not _number(wanted):
        return "equal"
    return f"{tolerance.absolute} + {tolerance.relative} of it"


def _shown(value: Value) -> str:
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def _table(found: Sequence[Difference]) -> GateTable:
    title = "answers that differ" + (f" (the first {SHOWN} of {len(found)})" if len(found) > SHOWN else "")
    rows = tuple((str(each.request), each.output, each.expected, each.got, each.allowed) for each in found[:SHOWN])
    return GateTable(title, ("request", "output", "expected", "got", "allowed"), rows)
