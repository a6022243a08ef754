"""The gate that keeps the callers of the stable version: what they send must still be taken, what they read still be given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from fleet.declared import Model
from fleet.evidence import GateResult
from policies.candidate import Candidate, Gate, failed, not_applicable, passed
from policies.signature import Column, Signature, read_signature

REMEDY = "Register a model with another schema under a new name: callers of this one would break"


@dataclass(frozen=True, slots=True)
class Signatures:
    """The stable version's signature (None: nothing is stable) and the candidate's, each with why there is none."""

    before: tuple[Signature, str] | None
    after: tuple[Signature, str]


class CallersKept(Gate[Signatures]):
    """Fails a version whose signature would break those who call the stable one; without a stable one it does not apply."""

    name = "callers kept"

    def gather(self, candidate: Candidate) -> Signatures:
        """Return both signatures."""
        before = None if candidate.champion is None else read_signature(candidate.champion / "MLmodel")
        return Signatures(before, read_signature(candidate.folder / "MLmodel"))

    def judge(self, declared: Model, evidence: Signatures) -> GateResult:
        """Return whether whoever calls the stable version can call this one without changing anything."""
        if evidence.before is None:
            return not_applicable(self, "no version of this model is stable yet, so nobody calls it")
        before, unknown = evidence.before
        if unknown:
            return failed(self, f"what callers of the stable version send cannot be told: {unknown}")
        after, unknown = evidence.after
        if unknown:
            return failed(self, f"{unknown}. {REMEDY}")
        breaks = breaking(before, after)
        if breaks:
            return failed(self, *(f"{reason}. {REMEDY}" for reason in breaks))
        added = len(after.inputs) - len(before.inputs), len(after.outputs) - len(before.outputs)
        told = (("inputs added", str(added[0])), ("outputs added", str(added[1])))
        return passed(self, "whoever calls the stable version can call this one", told)


def breaking(before: Signature, after: Signature) -> tuple[str, ...]:
    """Return what of a new signature would break callers of the one before, column by column; nothing when they are kept."""
    return tuple(chain(_inputs(before, after), _outputs(before, after)))


def _inputs(before: Signature, after: Signature) -> Iterator[str]:
    old, new = by_name(before.inputs, "input"), by_name(after.inputs, "input")
    for name, column in old.items():
        if name not in new:
            yield f"input '{name}' ({column.kind}) is gone, and callers send it{_instead(name, old, new)}"
        elif new[name].kind != column.kind:
            yield f"input '{name}' was {column.kind} and is {new[name].kind} now"
        elif new[name].needed and not column.needed:
            yield f"input '{name}' was optional and is required now"
    for name, column in new.items():
        if name not in old and column.needed:
            yield f"input '{name}' ({column.kind}) is new and required, and callers do not send it"


def _outputs(before: Signature, after: Signature) -> Iterator[str]:
    old, new = by_name(before.outputs, "output"), by_name(after.outputs, "output")
    for name, column in old.items():
        if name not in new:
            yield f"output '{name}' ({column.kind}) is gone, and callers read it{_instead(name, old, new)}"
        elif new[name].kind != column.kind:
            yield f"output '{name}' was {column.kind} and is {new[name].kind} now"


def by_name(columns: tuple[Column, ...], side: str) -> Mapping[str, Column]:
    """Return columns by the names under which callers know them: the serving process gives nameless ones these."""
    return {column.name or (side if index == 0 else f"{side}-{index}"): column for index, column in enumerate(columns)}


def _instead(name: str, old: Mapping[str, Column], new: Mapping[str, Column]) -> str:
    """Name the one new column of the same type, which may be the old one under another name."""
    same = [other for other in new if other not in old and new[other].kind == old[name].kind]
    return f" (is '{same[0]}' its new name?)" if len(same) == 1 else ""
