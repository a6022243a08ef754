"""`python -m benchmarks [NAME [--quick] [--json]]`: run one subject, or list them."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

from benchmarks.documents import write_page
from benchmarks.form import report, write
from benchmarks.judging.picture import draw
from fleet.settings import silence_telemetry

SUBJECTS = {
    "gates": "what the gates refuse and let through, and how long each takes",
    "judge": "whether the canary judge can be trusted, beside its peers' rules",
    "plan": "how long `convoy plan` takes for 10 to 10,000 models in 24 regions",
    "serving": "what serving takes beside FastAPI, MLflow, MLServer, BentoML and LitServe, with the same model on the same core",
    "regions": "how soon a region's server answers, and what callers notice when processes and servers of three regions are killed",
    "replication": "what copying a revision to four regions takes beside rclone, DVC and cp, and what of an update is sent",
    "release": "what a release, the stack and the command take",
    "traffic": "what the edge costs beside a bare Envoy, and what callers notice when weights, servers and configurations change",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="the same rows on less work, within 50 seconds; nothing is written")
    parser.add_argument("--json", action="store_true", help="print the document instead of a table")
    given = parser.parse_args()
    if given.name is None:
        for name, says in SUBJECTS.items():
            print(f"{name:<12} {says}")
        return 0
    silence_telemetry()
    rows = importlib.import_module(f"benchmarks.{given.name}").run(quick=given.quick)
    document = report(given.name, rows)
    if not given.quick:
        write(document)
        write_page()
        if given.name == "judge":
            draw(document)
    show(document, given.json)
    return 0


def show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(document, sys.stdout, indent=2)
        print()
        return
    for row in document["rows"]:
        figure = row.get("skipped") or f"{row['figure']} {row['unit']}"
        asked = f"at {'least' if row.get('least') else 'most'} {row.get('target', 0):g}"
        target = f"  (asked for: {asked}, {'met' if row['met'] else 'MISSED'})" if row.get("met") is not None else ""
        print(f"{row['row']:<44} {row['subject']:<34} {figure}{target}")


if __name__ == "__main__":
    sys.exit(main())
