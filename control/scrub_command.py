"""`convoy scrub`: what is stored is read and repaired now, in this process, while a person looks on."""

from __future__ import annotations

from control.printing import out, print_json, print_table, progress
from fleet.errors import ExitCode, InputError
from flows.house import House
from flows.tending import STORES, Tended, tend
from flows.work import claim

ACTOR = "convoy command"


def scrub_stores(region: str | None, due: bool, as_json: bool) -> ExitCode:
    """Tend every store or one as the nightly flow does, and print what was found; exit 5 where something could not be repaired."""
    house = House.open()
    house.ledger.verify()
    with claim(house, STORES, ACTOR) as claimed:
        if claimed is None:
            raise InputError("stores", "are tended by another run now", "Try again when it has ended.")
        found = tend(house, claimed, ACTOR, lambda text: progress.print(f"  {text}", markup=False), region, everything=not due)
    if as_json:
        print_json(as_document(found))
    else:
        _show(found)
    return ExitCode.FAILED if found.problems else ExitCode.DONE


def as_document(found: Tended) -> dict[str, object]:
    """Return what was found for machines."""
    passes = {
        name: {
            "blobs": seen.blobs,
            "read": seen.read,
            "bytes": seen.bytes,
            "faults": [
                {"kind": fault.kind.value, "path": fault.path, "why": fault.why, "named_by": list(fault.named_by)} for fault in seen.faults
            ],
        }
        for name, seen in found.passes.items()
    }
    return {"stores": passes, "repaired": found.repaired, "problems": [str(problem) for problem in found.problems]}


def _show(found: Tended) -> None:
    rows = [(name, str(seen.blobs), str(seen.read), f"{seen.bytes:,}", str(len(seen.faults))) for name, seen in found.passes.items()]
    print_table("Stores", ("store", "blobs", "read", "bytes", "faults"), rows)
    for line in found.repaired:
        out.print(f"repaired: {line}", markup=False)
    for problem in found.problems:
        out.print(f"not repaired: {problem}", markup=False)
