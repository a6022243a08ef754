"""`convoy doctor`."""

from __future__ import annotations

import time

from rich.markup import escape

from control.doctor.examine import examine
from control.doctor.findings import Finding, Level, exit_code_of
from control.printing import out, print_json
from fleet.errors import ExitCode

COLOURS = {Level.PROBLEM: "bold red", Level.WARNING: "yellow", Level.OK: "green"}


def show_findings(as_json: bool, everything: bool) -> ExitCode:
    """Examine the installation, print what was found, worst first, and return what it comes to."""
    began = time.monotonic()
    case, findings = examine()
    code = exit_code_of(findings)
    if as_json:
        print_json(
            {
                "home": str(case.home.root) if case.opened else None,
                "exit_code": int(code),
                "seconds": round(time.monotonic() - began, 2),
                "counts": {level.value: sum(found.level is level for found in findings) for level in Level},
                "findings": [found.model_dump(mode="json", exclude={"exit_code"}) for found in findings],
            }
        )
        return code
    for level in (Level.PROBLEM, Level.WARNING):
        for found in findings:
            if found.level is level:
                _tell(found)
    _tell_what_is_well([found for found in findings if found.level is Level.OK], everything)
    counts = {level: sum(found.level is level for found in findings) for level in Level}
    out.print(f"problems: {counts[Level.PROBLEM]}, warnings: {counts[Level.WARNING]}, ok: {counts[Level.OK]}", markup=False)
    return code


def _tell(found: Finding) -> None:
    colour = COLOURS[found.level]
    out.print(f"[{colour}]{found.level.value:<8}[/] [bold]{escape(found.subject)}[/]: {escape(found.reason)}")
    if found.remedy:
        out.print(f"         {found.remedy}", markup=False)


def _tell_what_is_well(well: list[Finding], everything: bool) -> None:
    """Tell all of it, or only the names of the checks that found nothing but good."""
    if everything:
        for found in well:
            _tell(found)
    elif well:
        names = dict.fromkeys(found.check for found in well)
        out.print(f"[{COLOURS[Level.OK]}]{'ok':<8}[/] {escape(', '.join(names))} (--all tells each)")
