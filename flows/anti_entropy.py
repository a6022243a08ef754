"""Anti-entropy: every night the stores are scrubbed, repaired from one another, and compared by what they hold."""

from __future__ import annotations

from prefect import flow, get_run_logger

from fleet.errors import ConvoyError, LedgerBroken
from flows.collecting import collect
from flows.house import House
from flows.late_runs import drop_late_runs
from flows.showing import markdown
from flows.tending import STORES, Tended, tend
from flows.work import Claim, claim

ACTOR = "anti_entropy flow"


@flow(name="anti_entropy", description="Read what is stored, repair what is wrong or missing from its peers, and compare the regions.")
def anti_entropy(region: str | None = None) -> str:
    """Tend every store, or one region's (`origin` for the store that revisions are packaged into); returns one line.

    One store's trouble does not keep the others: all are tended, then the first error is raised.
    """
    drop_late_runs()
    house = House.open()
    house.ledger.verify()
    with claim(house, STORES, ACTOR) as claimed:
        if claimed is None:
            return "another run tends the stores"
        found = tend(house, claimed, ACTOR, get_run_logger().info, region)
        said = collect_garbage(house, claimed, found) if region is None else ""
    show(found, said)
    if found.problems:
        raise found.problems[0]
    return f"{found.sentence}; {said}" if said else found.sentence


def collect_garbage(house: House, claimed: Claim, found: Tended) -> str:
    """Delete what nothing needs any more, unless something is wrong with a store: then nobody knows what is needed."""
    if found.problems:
        return "no garbage is collected before that is repaired"
    try:
        return collect(house, claimed, ACTOR, get_run_logger().info).sentence
    except LedgerBroken:
        raise
    except ConvoyError as problem:
        found.problems.append(problem)
        return f"no garbage is collected: {problem}"


def show(found: Tended, said: str) -> None:
    """Show what was found as an artifact of the run, and log what could not be repaired."""
    for problem in found.problems:
        get_run_logger().error("not repaired: %s", problem)
    markdown(as_markdown(found, said), key="anti-entropy", description=found.sentence)


def as_markdown(found: Tended, said: str) -> str:
    """Return a pass over the stores for people: store by store, what was deleted, then each repair and each problem."""
    rows = [f"| {name} | {seen.blobs} | {seen.read} | {seen.bytes:,} | {len(seen.faults)} |" for name, seen in found.passes.items()]
    table = "\n".join(["| store | blobs | read | bytes | faults |", "| --- | --- | --- | --- | --- |", *rows])
    return f"# {found.sentence}\n\n{table}\n\n{said}\n\n{_list('Repaired', found.repaired)}{_list('Not repaired', found.problems)}"


def _list(title: str, lines: list[str] | list[ConvoyError]) -> str:
    told = "\n".join(f"- {line}" for line in lines)
    return f"## {title}\n\n{told}\n\n" if lines else ""
