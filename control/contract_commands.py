"""`convoy contract`: what data must be like, learnt from rows that are known to be good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from control.printing import out, print_json
from flows.contracts import Rows, learn_from_file, learn_from_model
from flows.house import House
from policies.learning import Slack


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be learnt from, what the contract is to allow, and where it goes."""

    subject: str
    rows: Rows
    slack: Slack
    out: Path | None
    force: bool


def learn_contract(wanted: Wanted, as_json: bool) -> None:
    """Learn a contract from a file or from a model's rows, and print where it is."""
    file = Path(wanted.subject)
    if file.suffix in (".parquet", ".csv"):
        learnt = learn_from_file(file, wanted.rows, wanted.out or file.with_suffix(".contract.json"), wanted.slack, force=wanted.force)
    else:
        learnt = learn_from_model(House.open(), wanted.subject, wanted.rows, wanted.slack, wanted.out, force=wanted.force)
    if as_json:
        print_json({"contract": str(learnt.file), "expectations": learnt.expectations})
        return
    out.print(f"{learnt.file}: {learnt.expectations} expectations. Read them, edit them, keep them beside fleet.yaml.", markup=False)
