"""What the whole stack holds in memory when nothing happens: proportional set size, so that shared pages count once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from benchmarks.form import Row
from clouds.local.supervisor import Supervisor
from control.stack.marked import marked

if TYPE_CHECKING:
    from support.stack import TestStack


def at_rest(stack: TestStack) -> list[Row]:
    """Return the memory of each supervised program with its children, and of all processes that carry the stack's mark."""
    sizes = {process.pid: process.memory_full_info().pss / 2**20 for process in marked(stack.house.stack.stack_id)}
    rows = [Row("memory of the stack at rest", "all of it", round(sum(sizes.values()), 1), "MiB")]
    for each in Supervisor.of(stack.house.home).processes():
        if each.pid is None:
            continue
        family = [each.pid, *(child.pid for child in psutil.Process(each.pid).children(recursive=True))]
        rows.append(
            Row("memory of the stack at rest", each.name.split("-toy-")[0], round(sum(sizes.get(pid, 0.0) for pid in family), 1), "MiB")
        )
    return rows
