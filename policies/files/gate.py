"""The gate of a model's files: what they are, what they import, and what the model would have trusted."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.declared import Model
from fleet.declared_files import FORMATS, Files
from fleet.evidence import GateResult, GateTable
from policies.candidate import Candidate, Figures, Gate, failed, passed
from policies.files.allowlist import Allowlist, allowlist
from policies.files.seen import Bounds, Described, FileSeen, Import, Kind, ScanReport, ScanRequest
from policies.sandbox import GIB, Job, Limits, run

MOST_REASONS = 20
MOST_ROWS = 100
MIB = 1 << 20
SAFER = "Log the model as skops or in its library's own format, or let two people sign a waiver for this version"
HARMLESS = "Name it in gates.files.allow only if it is harmless whatever the file does with it"
BY_VALUE = "The model's class was pickled with its code: log it from a file (python_model='model.py') and set gates.files.code"
CODE = "Set gates.files.code in fleet.yaml to let this model bring code of its own, which then runs as it is"


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the scan found (None: `failure` says why it found nothing), what was waived, and what kept the scanner in."""

    report: ScanReport | None
    failure: str = ""
    waived: frozenset[str] = frozenset()
    barriers: Figures = ()


class ModelFiles(Gate[Scanned]):
    """Passes a model all of whose files are of allowed formats and import nothing but what is on the allowlist.

    It always applies. A scanner that fails, or that is stopped, fails the model: whether a file breaks its reader or
    hides from it, asking again must not be a way in.
    """

    name = "model files"

    def gather(self, candidate: Candidate) -> Scanned:
        """Return what lies in the model's folder, as a sandboxed worker saw it."""
        declared = candidate.declared.gates.files
        bounds = Bounds(declared.file_mib * MIB, declared.most_files, declared.unpack_ratio)
        job = Job("scan_files", ScanRequest(candidate.folder, bounds), (candidate.folder,), candidate.work)
        # A reader may hold a file as it is, as opcodes and as text
        room = GIB + 4 * _largest(candidate.folder, bounds.file_bytes)
        done = run(job, ScanReport, Limits(candidate.seconds, address_space=8 * GIB + room, memory=room, processes=4))
        return Scanned(done.answer, done.failure, candidate.waived, done.barriers.figures)

    def judge(self, declared: Model, evidence: Scanned) -> GateResult:
        """Return whether every file is allowed."""
        report = evidence.report
        if report is None:
            return failed(
                self, f"the model's files could not be scanned: {evidence.failure}. Log the model again", figures=evidence.barriers
            )
        reasons = tuple(dict.fromkeys(_refusals(declared.gates.files, evidence.waived, report)))
        figures = (*_figures(declared.gates.files, evidence.waived, report), *evidence.barriers)
        if reasons:
            more = (f"and {len(reasons) - MOST_REASONS} more",) if len(reasons) > MOST_REASONS else ()
            result = failed(self, *reasons[:MOST_REASONS], *more, figures=figures)
        else:
            result = passed(self, f"its {len(report.files)} files are of allowed formats and import only what is on the allowlist", figures)
        return replace(result, tables=(_table(report),))


def _largest(folder: Path, most: int) -> int:
    """Return the size of the largest file that is scanned; links are not followed."""
    found = 0
    for where, _, names in os.walk(folder):
        for name in names:
            status = (Path(where) / name).lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= most:
                found = max(found, status.st_size)
    return found


def _refusals(declared: Files, waived: frozenset[str], report: ScanReport) -> Iterator[str]:
    allowed = allowlist().with_added(declared.allow)
    kinds = {seen.path: seen.kind for seen in report.files}
    described = report.described
    if not described.problems and not report.files:
        yield "MLmodel is not there"
    yield from (f"MLmodel {problem}. Log the model again with MLflow" for problem in described.problems)
    yield from _self_trust(described, allowed)
    for path, kind in described.loaded:
        if "/" in path:
            yield f"MLmodel has '{path}' loaded, which does not lie beside it. Log the model again with MLflow"
        elif kinds.get(path) is not kind:
            yield f"MLmodel has '{path}' loaded as {kind}, and it is {kinds.get(path, 'not there')}. Log the model again with MLflow"
    for seen in report.files:
        yield from (f"{seen.path}: {problem}. Log the model again without it" for problem in seen.problems)
        yield from _format(seen, declared, waived, described)
        yield from (f"{seen.path}: {why}. {_remedy(found)}" for found, why in _imports(seen, allowed, _own(declared, report)))


def _self_trust(described: Described, allowed: Allowlist) -> Iterator[str]:
    """Refuse what the model itself would have trusted: that list is the author's, and trust is not the author's to give."""
    for name in described.trusted:
        if not allowed.allows_type(name):
            yield f"MLmodel lists {name} among its skops_trusted_types, and it is not on the allowlist. {HARMLESS}"


def _remedy(found: Import) -> str:
    return BY_VALUE if found.module.startswith("cloudpickle.") else f"{HARMLESS}, as {found.path}"


def _own(declared: Files, report: ScanReport) -> frozenset[str]:
    """Return the modules that the model brings itself, where it may."""
    return frozenset(report.modules) if declared.code else frozenset()


def _format(seen: FileSeen, declared: Files, waived: frozenset[str], described: Described) -> Iterator[str]:
    if seen.kind in (Kind.UNKNOWN, Kind.ARCHIVE):
        yield f"{seen.path}: is {seen.detail or 'of no known format'}. Allowed are {', '.join(declared.formats)}, and texts"
    elif seen.kind is Kind.CODE:
        if not declared.code:
            yield f"{seen.path}: is code. {CODE}"
        elif not any(seen.path == code or seen.path.startswith(f"{code}/") for code in described.code):
            yield f"{seen.path}: is code, and MLmodel does not say that it belongs to the model. Log it through code_paths"
    elif (found := seen.kind.value) in FORMATS and found not in declared.formats and found not in waived:
        yield f"{seen.path}: is {seen.kind}, which gates.files.formats does not allow ({', '.join(declared.formats)}). {SAFER}"


def _imports(seen: FileSeen, allowed: Allowlist, own: frozenset[str]) -> Iterator[tuple[Import, str]]:
    """Give the imports that are not allowed, each once: where it is not on the list, not how it is used."""
    told: set[str] = set()
    for found in seen.imports:
        if {found.module.partition(".")[0], found.holder.partition(":")[0].partition(".")[0]} & own or found.path in told:
            continue
        if why := allowed.refusal(found):
            told.add(found.path)
            yield found, why


def _figures(declared: Files, waived: frozenset[str], report: ScanReport) -> Figures:
    kinds = Counter(seen.kind.value for seen in report.files)
    code = kinds.get(Kind.CODE, 0)
    return (
        ("files", str(len(report.files))),
        ("formats", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))),
        ("imports", str(len({found.path for seen in report.files for found in seen.imports}))),
        *((("code", f"{code} files, which nothing here judges"),) if code and declared.code else ()),
        *((("added to the allowlist", ", ".join(declared.allow)),) if declared.allow else ()),
        *((("waived", ", ".join(sorted(waived))),) if waived else ()),
    )


def _table(report: ScanReport) -> GateTable:
    return GateTable("Files", ("file", "what it is", "bytes", "imports", "ms"), tuple(map(_row, report.files[:MOST_ROWS])))


def _row(seen: FileSeen) -> tuple[str, ...]:
    imports = {each.path for each in seen.imports}
    return seen.path, seen.detail or seen.kind.value, str(seen.size), str(len(imports)), f"{seen.milliseconds:.1f}"
