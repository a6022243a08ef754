"""`make proof`: the kill sweep, the mutants, the soak and the hostile bodies; PROOF="sweep --cases 12" runs a part of it."""

from __future__ import annotations

import argparse
import importlib
import sys

from fleet.settings import silence_telemetry
from proof.results import PARTS, Report, write_results


def main() -> int:
    """Run one part, or all of them, each with its options; returns 0 when everything is as it must be."""
    parser = argparse.ArgumentParser(prog="make proof", description=__doc__)
    parser.add_argument("--no-write", action="store_true", help="leave the results that are committed alone")
    parts = parser.add_subparsers(dest="part")
    modules = {part: importlib.import_module(f"proof.{part}") for part in PARTS}
    for part, module in modules.items():
        module.arguments(parts.add_parser(part, help=(module.__doc__ or "").splitlines()[0]))
    given = parser.parse_args()
    silence_telemetry()
    right = True
    for part in [given.part] if given.part else PARTS:
        asked = given if given.part else parser.parse_args([part])
        found = Report(part)
        print(f"== {part}", flush=True)
        modules[part].run(asked, found)
        for row in found.rows:
            print(f"{row.row:<48} {row.figure:g} {row.unit}{'' if row.met is not False else '  MISSED'}", flush=True)
        if not given.no_write:
            write_results(found)
        right = right and found.right
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
