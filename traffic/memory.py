"""What an agent must not forget when it is killed: the tables it accepted, and which of them are on safe shares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fleet.errors import InputError, IntegrityError
from traffic.gateway import write_atomically
from traffic.table import STRICT, RoutingTable

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Held:
    """A table that an edge accepted; `label` is the version under which its routes were last written.

    `safe_because` is empty while the table's shares are in force. `seconds` is how long the table had to live when it
    was accepted (None: one that an earlier agent remembered), so that it ends in time though the clock may be set back.
    """

    table: RoutingTable
    safe_because: str
    label: str
    seconds: float | None = None

    __pydantic_config__ = STRICT

    @property
    def in_force(self) -> RoutingTable:
        """The table as Envoy should have it."""
        return self.table.on_safe_shares() if self.safe_because else self.table

    @classmethod
    def accepting(cls, table: RoutingTable, before: Held | None, now: float) -> Held:
        """Hold a new table; a mere renewal keeps the label, since Envoy need not be told."""
        renews = before is not None and before.in_force.same_routes(table)
        return cls(table, "", before.label if before and renews else f"{table.epoch}.{table.version}", table.expires_at - now)

    def left(self, now: float) -> float:
        """Return the seconds that the table has left at most; no clock gives it more than it was accepted for."""
        left = self.table.expires_at - now
        return left if self.seconds is None else min(left, self.seconds)

    def fenced(self, epoch: int) -> Held:
        """Hold the same table under a later epoch, before that epoch's first version."""
        return replace(self, table=replace(self.table, epoch=epoch, version=0)) if epoch > self.table.epoch else self

    def falling_back(self, why: str) -> Held:
        """Hold the same table on its safe shares."""
        if self.in_force.same_routes(self.table.on_safe_shares()):
            return replace(self, safe_because=why)
        return replace(self, safe_because=why, label=f"{self.label}-safe")


@dataclass(frozen=True, slots=True)
class _Remembered:
    schema: int
    held: tuple[Held, ...]

    __pydantic_config__ = STRICT


REMEMBERED: TypeAdapter[_Remembered] = TypeAdapter(_Remembered)


class Memory:
    """The agent's state file, replaced whole and durable before anything acts on it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @classmethod
    def below(cls, folder: Path) -> Memory:
        """Return the memory of the agent of an edge's folder."""
        return cls(folder.absolute() / "agent.json")

    def read(self) -> dict[str, Held]:
        """Return what is held per model; raises IntegrityError for a file that is not ours."""
        if not self.file.exists():
            return {}
        try:
            remembered = REMEMBERED.validate_json(self.file.read_bytes(), strict=True)
        except (ValidationError, InputError) as problem:
            raise IntegrityError(
                str(self.file), "cannot be read as an agent's state", "Envoy goes on serving; restore or remove the file."
            ) from problem
        if remembered.schema != SCHEMA:
            raise IntegrityError(str(self.file), f"has schema {remembered.schema}, this agent reads {SCHEMA}")
        return {held.table.model: held for held in remembered.held}

    def write(self, held: dict[str, Held]) -> None:
        """Replace what is remembered."""
        write_atomically(self.file, REMEMBERED.dump_json(_Remembered(SCHEMA, tuple(held[model] for model in sorted(held)))))
