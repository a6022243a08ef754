"""The gate of a model's variants: each must answer as the model itself does, and what it won is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from fleet.declared_golden import Golden, Tolerance
from fleet.declared_optimise import Optimise, Variant
from fleet.evidence import GateOutcome, GateResult, GateTable
from policies.golden_set import GoldenSet, Value, differences

NAME = "parity"
NAMED = 3
EQUAL = Tolerance(absolute=Decimal(0), relative=Decimal(0))


@dataclass(frozen=True, slots=True)
class Speed:
    """Rows a second: each alone, and in batches of 64; `load_ms` is the loading, `bytes` the size of the files."""

    alone: float
    batched: float
    load_ms: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Tried:
    """A variant that was made and asked; `given` are its answers to the rows, `types` the protocol's types of its outputs.

    `together` are its answers to the same rows in batches, none where it does not answer row for row.
    Without a `digest` there is none, for the reason in `problem`: the model has no such variant, or it cannot be read.
    """

    variant: Variant
    digest: str = ""
    types: tuple[str, ...] = ()
    given: tuple[Mapping[str, Value], ...] = ()
    speed: Speed | None = None
    problem: str = ""
    together: tuple[Mapping[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """What the model answered (no set: `problem` says why), alone and `together`, how fast it was, and its variants."""

    own: GoldenSet | None = None
    types: tuple[str, ...] = ()
    speed: Speed | None = None
    variants: tuple[Tried, ...] = ()
    problem: str = ""
    together: tuple[tuple[Value, ...], ...] = ()


def judge_parity(declared: Optimise, evidence: Parity) -> GateResult:
    """Return whether the variant that is to be served answers as the model does; pure.

    Of the others it is told whether they do; one that does not is not kept, and hinders nothing.
    """
    if evidence.own is None:
        nothing = f"there is nothing to compare: {evidence.problem}"
        if declared.serve is None:
            return GateResult(NAME, GateOutcome.PASSED, ("no variant is served", nothing))
        return GateResult(NAME, GateOutcome.INCONCLUSIVE, (nothing,))
    troubles = {tried.variant: trouble(declared, evidence, tried) for tried in evidence.variants}
    figures = (("rows", str(len(evidence.own.rows))), *_won(evidence))
    tables = (_table(evidence, troubles),)
    if declared.serve is None:
        said = [f"{variant}: {found[0] if found else 'answers as the model does'}" for variant, found in troubles.items()]
        return GateResult(NAME, GateOutcome.PASSED, ("no variant is served", *said), figures, tables)
    if why := troubles.get(declared.serve, ("it was not made",)):
        reasons = tuple(f"{declared.serve}, which is to be served: {each}" for each in why)
        return GateResult(NAME, GateOutcome.FAILED, reasons, figures, tables)
    return GateResult(NAME, GateOutcome.PASSED, (f"{declared.serve} answers as the model does, and is served",), figures, tables)


def kept(declared: Optimise, evidence: Parity) -> tuple[Tried, ...]:
    """Return the variants that answer as the model does."""
    return tuple(tried for tried in evidence.variants if evidence.own is not None and not trouble(declared, evidence, tried))


def trouble(declared: Optimise, evidence: Parity, tried: Tried) -> tuple[str, ...]:
    """Return how a variant differs from the model beyond what is allowed; nothing where it does not."""
    own = evidence.own
    if own is None or tried.problem:
        return (tried.problem or evidence.problem,)
    outputs = tuple(tried.given[0]) if tried.given else ()
    if outputs != own.outputs or tried.types != evidence.types:
        return (f"it answers with {_listed(outputs, tried.types)}, and the model with {_listed(own.outputs, evidence.types)}",)
    unknown = sorted(name for name in declared.outputs if not any(name in (each, each.rpartition(".")[0]) for each in own.outputs))
    if unknown:
        return (f"optimise.outputs names {', '.join(unknown)}, and the model answers with {', '.join(own.outputs)}",)
    if len(tried.together) != len(evidence.together):
        return ("of the two only one answers a request of many rows with a row for each",)
    together = replace(own, answers=evidence.together)
    return _differ(declared, own, tried.given, "") or _differ(declared, together, tried.together, " in requests of 64 rows")


def _differ(declared: Optimise, own: GoldenSet, given: Sequence[Mapping[str, Value]], how: str) -> tuple[str, ...]:
    found = differences(_allowed(declared, own), own, given)
    rows = len({each.request for each in found})
    if rows <= declared.may_differ:
        return ()
    more = (f"and {len(found) - NAMED} more answers",) if len(found) > NAMED else ()
    return (f"{rows} of {len(own.rows)} rows differ{how} (allowed: {declared.may_differ})", *map(str, found[:NAMED]), *more)


def _allowed(declared: Optimise, own: GoldenSet) -> Golden:
    """Return what may differ as golden answers have it: nothing of whole numbers, which are labels and counts."""
    asked = Golden(parity=max(len(own.rows), declared.may_differ + 1), tolerance=declared.tolerance, outputs=declared.outputs)
    whole = [name for at, name in enumerate(own.outputs) if all(type(answers[at]) is int for answers in own.answers)]
    return asked.model_copy(update={"outputs": {**{name: asked.tolerance_of(name) for name in own.outputs}, **dict.fromkeys(whole, EQUAL)}})


def _won(evidence: Parity) -> Iterator[tuple[str, str]]:
    """Yield how much faster each variant is than the model, in times."""
    before = evidence.speed
    for tried in evidence.variants:
        if before is not None and tried.speed is not None:
            yield f"{tried.variant} alone", f"{_times(tried.speed.alone, before.alone)} times"
            yield f"{tried.variant} in batches of 64", f"{_times(tried.speed.batched, before.batched)} times"


def _times(now: float, before: float) -> Decimal:
    return (Decimal(str(now)) / Decimal(str(before))).quantize(Decimal("0.1")) if before else Decimal(0)


def _table(evidence: Parity, troubles: Mapping[Variant, tuple[str, ...]]) -> GateTable:
    rows = (
        ("the model", *_shown(evidence.speed), ""),
        *((str(each.variant), *_shown(each.speed), "; ".join(troubles[each.variant])) for each in evidence.variants),
    )
    columns = ("what", "rows/s alone", "rows/s in batches of 64", "loading ms", "bytes", "trouble")
    return GateTable("variants", columns, rows)


def _shown(speed: Speed | None) -> tuple[str, str, str, str]:
    return ("", "", "", "") if speed is None else (f"{speed.alone:.0f}", f"{speed.batched:.0f}", f"{speed.load_ms:g}", str(speed.bytes))


def _listed(outputs: tuple[str, ...], types: tuple[str, ...]) -> str:
    shown = [f"{name} ({kind})" for name, kind in zip(outputs, types, strict=False)][:NAMED]
    return ", ".join(shown) + (f" and {len(outputs) - NAMED} more" if len(outputs) > NAMED else "") or "nothing"
