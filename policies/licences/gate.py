"""The gate of licences: may this be served, by what the model, its data and its packages stand under?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fleet.components import Needs
from fleet.declared import Model
from fleet.declared_rights import Licences
from fleet.evidence import GateResult, GateTable
from policies.candidate import Candidate, Gate, failed, first_of, inconclusive, not_applicable, passed
from policies.licences.expressions import Right, expression_of, judged
from policies.metadata import metadata_of
from policies.waived import Waivers

TAG = "convoy.licence"
"""The MLflow tag of a version that holds the model's licence; in MLmodel the key `licence` of its metadata."""
DATA_TAG = "convoy.data.licence"


@dataclass(frozen=True, slots=True)
class Item:
    """A thing with a licence: what it is, who brings it, and the licence as far as it says one (empty: nothing).

    `key` is where fleet.yaml may say it: `model`, `data` or `packages`.
    """

    key: str
    name: str
    brought_by: str
    expression: str


@dataclass(frozen=True, slots=True)
class Stated:
    """What everything says of its licence; `problems` say what could not be told."""

    items: tuple[Item, ...]
    problems: tuple[str, ...]
    waivers: Waivers


class LicencesAllowed(Gate[Stated]):
    """Passes a model whose licence, data and packages the declared allowlist allows; what is unknown is inconclusive.

    Not applicable where fleet.yaml declares no allowlist (`gates.licences`).
    """

    name = "licences"

    def gather(self, candidate: Candidate) -> Stated:
        """Return what each thing says of its licence."""
        declared = candidate.declared.gates.licences
        if declared is None:
            return Stated((), (), candidate.waivers)
        model = candidate.tags.get(TAG) or metadata_of(candidate.folder).get("licence", "") or declared.model or ""
        needs = candidate.needs or Needs((), ("nobody told what the model needs",))
        items = (Item("model", "the model", "itself", model), *_data(candidate, declared), *_packages(needs, declared))
        return Stated(items, needs.problems, candidate.waivers)

    def judge(self, declared: Model, evidence: Stated) -> GateResult:
        """Return what may not be used, one by one, each with who brings it in."""
        rules = declared.gates.licences
        if rules is None:
            return not_applicable(self, "fleet.yaml declares no allowlist of licences for this model")
        waived = evidence.waivers.things(self.name)
        judged_ = [(item, judged(item.expression, rules.allow), item.name in waived) for item in evidence.items]
        denied = [self._denied(item, evidence.waivers) for item, right, free in judged_ if right is Right.DENIED and not free]
        unknown = [_unknown(item) for item, right, free in judged_ if right is Right.UNKNOWN and not free]
        unknown += [f"what the model needs cannot be told: {problem}" for problem in evidence.problems]
        figures = (("looked at", str(len(evidence.items))), ("allowed", ", ".join(rules.allow)), *evidence.waivers.figures(self.name))
        if denied:
            result = failed(self, *first_of([*denied, *unknown]), figures=figures)
        elif unknown:
            result = inconclusive(self, *first_of(unknown), figures=figures)
        else:
            result = passed(self, f"the model, its data and its packages, {len(evidence.items)} in all, have allowed licences", figures)
        return replace(result, tables=_tables(judged_))

    def _denied(self, item: Item, waivers: Waivers) -> str:
        return (
            f"{item.name} (brought by {item.brought_by}) is under {item.expression}, which gates.licences.allow does not allow. Do without"
            f" it, allow it, or have two people waive '{item.name}'{waivers.why_not(self.name, item.name)}"
        )


def _data(candidate: Candidate, declared: Licences) -> Iterator[Item]:
    """Give the data sets that the model was trained and is evaluated on, and is watched by, each once."""
    model, lineage = candidate.declared, candidate.lineage
    if lineage is not None:
        said = declared.data.get(lineage.path) or candidate.tags.get(DATA_TAG, "")
        yield Item("data", f"data {lineage.path}", "the model's training", said)
    others = ((model.evaluation, "evaluation"), (model.drift.reference if model.drift else None, "drift.reference"))
    for found, key in others:
        if found is not None and (lineage is None or found.path != lineage.path):
            yield Item("data", f"data {found.path}", f"{key} in fleet.yaml", declared.data.get(found.path, ""))


def _packages(needs: Needs, declared: Licences) -> Iterator[Item]:
    told: Mapping[str, str] = declared.packages
    for component in needs.components:
        expression = told.get(component.name) or expression_of(component)
        yield Item("packages", f"{component.name} {component.version}", component.brought_by, expression)


def _unknown(item: Item) -> str:
    said = f"is under '{item.expression[:80]}', which SPDX does not know" if item.expression else "does not say under which licence it is"
    return f"{item.name} (brought by {item.brought_by}) {said}. Say it in gates.licences.{item.key}"


def _tables(found: list[tuple[Item, Right, bool]]) -> tuple[GateTable, ...]:
    rows = tuple(
        (item.name, item.expression or "not said", f"{right.value}{', waived' if free else ''}", item.brought_by)
        for item, right, free in found
    )
    return (GateTable("Licences", ("what", "licence", "said", "brought by"), rows),)
