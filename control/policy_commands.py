"""`convoy policy`: the rules of the gates, asked about files in a pipeline, and their tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from control.printing import out, print_json
from fleet.errors import ExitCode
from fleet.reading import read_fleet
from policies.rego.asking import Guard, ask, ask_tests
from policies.rego.bundle import RULES, merged, read_bundle, read_data, shipped_data
from policies.rego.chosen import Own, policies
from policies.rego.decision import PACKAGE, Decision
from policies.rego.documents import Document, Kind, read_documents
from policies.rego.testing import TestReport


@dataclass(frozen=True, slots=True)
class Asking:
    """What the commands are told: one's own rules, their package, data, and how long they may take."""

    rules: Path | None = None
    package: str = PACKAGE
    data: Path | None = None
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """What one policy said of one document."""

    document: str
    kind: Kind
    policy: str
    decision: Decision


def check_files(files: Sequence[Path], asking: Asking, as_json: bool) -> ExitCode:
    """Ask every policy about every document and print what they say.

    Returns 3 where something is refused, 2 where a policy could not be evaluated. Raises InputError for a file of no
    known kind before any policy is asked.
    """
    documents = [document for file in dict.fromkeys(files) for document in read_documents(file)]
    own = Own(asking.rules, asking.package, asking.data)
    with tempfile.TemporaryDirectory(prefix="convoy-policy-") as work:
        guard = Guard(Path(work), asking.seconds)
        said = [each for document in documents for each in _asked(document, own, guard)]
    if as_json:
        print_json({"allowed": all(each.decision.allowed for each in said), "decisions": [_payload(each) for each in said]})
    else:
        _show(said)
    if any(each.decision.reasons for each in said):
        return ExitCode.REJECTED
    return ExitCode.DONE if all(each.decision.allowed for each in said) else ExitCode.BAD_INPUT


def run_tests_of(path: Path | None, asking: Asking, as_json: bool) -> ExitCode:
    """Run the tests of a folder and print which held and what they reached; raises InputError for what cannot be read."""
    data = merged((shipped_data(), read_data(asking.data) if asking.data else {}))
    with tempfile.TemporaryDirectory(prefix="convoy-policy-") as work:
        report = ask_tests(read_bundle(path or RULES), data, Guard(Path(work), asking.seconds))
    if as_json:
        print_json(asdict(report) | {"held": report.held})
    else:
        _show_tests(report)
    return ExitCode.DONE if report.held else ExitCode.FAILED


def _asked(document: Document, own: Own, guard: Guard) -> Iterator[Said]:
    """Ask about a document; a fleet's models that declare policies of their own are asked about one by one, by theirs."""
    for name, value, chosen in _parts(document, own):
        for policy, rules in policies(chosen):
            yield Said(name, document.kind, policy, ask(rules, [value], guard)[0])


def _parts(document: Document, own: Own) -> Iterator[tuple[str, Any, Own]]:
    if document.kind is not Kind.FLEET:
        yield document.name, document.value, own
        return
    declared = {name: model.gates.policy for name, model in read_fleet(document.file).models.items()}
    common = {name for name, files in declared.items() if files is None}
    if common:
        yield document.name, _of_models(document.value, common), own
    for name, files in declared.items():
        if files is not None:
            part = (f"{document.name}, model {name}", _of_models(document.value, {name}))
            yield *part, Own.declared(files, document.file.parent)
            if own != Own():
                yield *part, own


def _of_models(fleet: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {**fleet, "models": {name: model for name, model in fleet["models"].items() if name in names}}


def _payload(said: Said) -> dict[str, Any]:
    return {"document": said.document, "kind": said.kind.value, "policy": said.policy, **asdict(said.decision)}


def _show(said: Sequence[Said]) -> None:
    for each in said:
        decision = each.decision
        word = "[green]allowed[/]" if decision.allowed else "[red]refused[/]" if decision.reasons else "[red]no answer[/]"
        out.print(f"{word} ", end="")
        out.print(f"{each.document} ({each.kind}) by {each.policy} {decision.policy_digest[7:19]}", markup=False)
        for sign, texts in (("-", decision.reasons), ("~ warning:", decision.warnings), ("!", (decision.failure,))):
            for text in filter(None, texts):
                out.print(f"  {sign} {text}", markup=False)
    refused = sum(not each.decision.allowed for each in said)
    out.print(f"{len(said)} decisions, {refused} of them no.")


def _show_tests(report: TestReport) -> None:
    for test in report.failed:
        out.print("[red]failed[/] ", end="")
        out.print(f"{test.name} ({test.file}): {test.problem}", markup=False)
    for file in report.coverage:
        missed = f", not lines {', '.join(map(str, file.missed))}" if file.missed else ""
        out.print(f"{file.file}: {file.reached} of {file.of} lines reached{missed}", markup=False)
    reached, of = sum(file.reached for file in report.coverage), sum(file.of for file in report.coverage)
    share = f"{100 * reached / of:.0f} %" if of else "nothing"
    out.print(f"{len(report.tests) - len(report.failed)} of {len(report.tests)} tests held; {share} of the lines reached.")
