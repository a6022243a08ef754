"""The one hand on an edge: decides which table is in force, writes Envoy's files, and reads back what Envoy made of it.

Order of every change: the accepted table is remembered first, then clusters are written, then routes; so a keeper that
is killed anywhere writes the same files again. Nobody waits for Envoy's work while the lock is held, so that a table
expires on time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.canonical import short
from fleet.errors import ConvoyError, OperationFailed, Refused, TooLate, UnknownName, Unreachable
from traffic.admin import EnvoyAdmin, Report
from traffic.attempts.terms import Terms
from traffic.clusters import clusters_of
from traffic.edge_state import EdgeState
from traffic.envoy import EdgePorts
from traffic.identity import EdgeIdentity
from traffic.memory import Held, Memory
from traffic.placement import Placement
from traffic.table import Backend, RoutingTable, raised_revisions
from traffic.validation import Validator
from traffic.view import dead_revisions, model_state, unwell
from traffic.writer import Wanted, Writer

PREPARE_SECONDS = 10.0
CONFIRM_SECONDS = 5.0
PREPARED_HOLDS_SECONDS = 60.0
POLL_SECONDS = 0.01
LOOKS_UNTIL_DEAD = 2
NOTHING = "Nothing was changed."
EXPIRED = "the table has expired"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table whose backends are warmed; `warm` once all it raises were seen healthy, `since` on the steady clock."""

    table: RoutingTable
    warm: bool
    since: float


class Keeper:
    """Holds the tables of one edge's models; its verbs may be called from several threads.

    `now` is Unix time in seconds, by which tables expire, be it set back or not.
    """

    def __init__(self, identity: EdgeIdentity, folder: Path, ports: EdgePorts, now: Callable[[], float] = time.time) -> None:
        self._edge = identity.name
        self._validator = Validator(ports)
        self._now = now
        self._lock = threading.RLock()
        self._admin = EnvoyAdmin(ports.admin)
        self._memory = Memory.below(folder)
        self._writer = Writer(folder, identity)
        self._held = self._memory.read()
        self._ends = {model: self._end_of(held) for model, held in self._held.items()}
        self._prepared: dict[str, Prepared] = {}
        self._placements: dict[str, Placement] = {}
        self._started = False
        self._dead_looks: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Write what is remembered, expired tables on their safe shares; Envoy warms the clusters before it gets routes."""
        with self._lock:
            self.expire()
            self._writer.write_clusters(self._wanted())
        try:
            self._wait(self._settled, CONFIRM_SECONDS)
        except (Unreachable, OperationFailed) as problem:
            log.info("edge %s: not warmed before its routes are written: %s", self._edge, problem)
        with self._lock:
            self._started = True
            self._writer.write(self._wanted())

    def prepare(self, table: RoutingTable) -> None:
        """Check a table and warm its backends in Envoy; the routes stay as they are.

        Raises Refused when it is stale, expired, or raises a backend that is not healthy; InputError when Envoy would
        not take it; Unreachable when Envoy does not answer. After an error nothing is left changed.
        """
        with self._lock:
            self._check(table)
            rest = [held.in_force for held in self._held.values() if held.table.model != table.model]
            clusters = list(Wanted(tuple(self._held.values()), (table,)).clusters().values())
        self._validator.check(clusters, [*rest, table])
        with self._lock:
            self._check(table)
            places = self._raised_places(table)
            self._prepared[table.model] = Prepared(table, warm=False, since=time.monotonic())
            self._writer.write_clusters(self._wanted())
        try:
            self._wait(lambda report: self._settled(report) and not unwell(report, table.model, places), PREPARE_SECONDS)
            self._check_well(table, places)
            self._mark_warm(table)
        except ConvoyError:
            self._abandon(table)
            raise

    def apply(self, table: RoutingTable) -> EdgeState:
        """Put a table in force and return what Envoy reports then; the same table again changes nothing.

        Raises Refused when it is stale or expired, or raises exposure without having been prepared; OperationFailed
        when Envoy does not take it (a raise is then on its safe shares). A table that raises nothing is accepted
        even if Envoy does not answer: it reads the files when it starts.
        """
        with self._lock:
            held = self._held.get(table.model)
            places = self._raised_places(table)
        if held is not None and held.table == table:
            return self.state()
        if places:
            self._check_prepared(table)
            self._check_well(table, places)
        with self._lock:
            self._check(table)
            if self._raised_places(table):
                # A canary may have left by itself since the first look
                self._check_prepared(table)
            self._prepared.pop(table.model, None)
            accepted = Held.accepting(table, self._held.get(table.model), self._now())
            self._ends[table.model] = self._end_of(accepted)
            self._hold(accepted)
        self._confirm(table, raised=bool(places))
        return self.state()

    def take_safe_shares(self, model: str, epoch: int) -> EdgeState:
        """Put a model's safe shares in force at once; raises Refused for an epoch older than its table's.

        From then on a table of an epoch before this one is refused too, whether a newer table has come or not.
        """
        with self._lock:
            held = self._known(model)
            if epoch < held.table.epoch:
                raise Refused(f"model '{model}'", f"epoch {epoch} has passed; the edge holds {held.table.epoch}", NOTHING)
            self._prepared.pop(model, None)
            self._fall_back(held.fenced(epoch), "the controller asked for it")
        self._confirm(held.table, raised=False)
        return self.state()

    def tables(self) -> tuple[RoutingTable, ...]:
        """Return every model's table as it is in force."""
        with self._lock:
            return tuple(held.in_force for held in self._held.values())

    def place(self, placements: Mapping[str, Placement]) -> None:
        """Send each model's requests to its regions as these say, from the start on; no share of a revision changes by it."""
        with self._lock:
            if placements != self._placements:
                self._placements = dict(placements)
                if self._started:
                    self._writer.write(self._wanted())

    def terms(self, model: str) -> Terms:
        """Return by what a model's attempts are counted; raises UnknownName without a table for it."""
        with self._lock:
            table = self._known(model).table
        return Terms(table.latency_ms, table.score_range, table.score_tolerance)

    def reopen_logs(self) -> None:
        """Have Envoy open its log files anew."""
        self._admin.reopen_logs()

    def ready(self) -> bool:
        """Say whether Envoy serves."""
        return self._admin.ready()

    def state(self) -> EdgeState:
        """Return each model's table with what Envoy reports about it now."""
        try:
            report: Report | None = self._admin.report()
        except Unreachable:
            report = None
        with self._lock:
            held = [self._held[model] for model in sorted(self._held)]
        return EdgeState(self._edge, report is not None and self.ready(), tuple(model_state(one, report) for one in held))

    def expire(self) -> None:
        """Put every expired table on its safe shares."""
        with self._lock:
            for held in list(self._held.values()):
                over = held.table.expires_at <= self._now() or self._ends[held.table.model] <= time.monotonic()
                if not held.safe_because and over:
                    self._fall_back(held, EXPIRED)

    def look(self) -> None:
        """Look at Envoy once: leave canaries that have no healthy host, write again what Envoy missed, clean up."""
        if not self.ready():
            return
        report = self._admin.report()
        with self._lock:
            self._leave_dead_canaries(report)
            self._forget_old_preparations()
            if report.routes_version == self._writer.routes_version:
                self._writer.drop_leftovers(self._wanted())
            self._writer.write_again(report.clusters_version, report.routes_version)

    def _end_of(self, held: Held) -> float:
        """Return when a table ends on the steady clock."""
        return time.monotonic() + held.left(self._now())

    def _leave_dead_canaries(self, report: Report) -> None:
        seen = {held.table.model: dead_revisions(report, held.table) for held in self._held.values() if not held.safe_because}
        dead = {(model, revision) for model, revisions in seen.items() for revision in revisions}
        self._dead_looks = Counter({key: self._dead_looks[key] + 1 for key in dead})
        for (model, revision), looks in self._dead_looks.items():
            if looks >= LOOKS_UNTIL_DEAD and not self._held[model].safe_because:
                self._fall_back(self._held[model], f"revision {short(revision)} has no healthy host")

    def _forget_old_preparations(self) -> None:
        for prepared in list(self._prepared.values()):
            if prepared.table.expires_at <= self._now() or time.monotonic() - prepared.since > PREPARED_HOLDS_SECONDS:
                self._abandon(prepared.table)

    def _wanted(self) -> Wanted:
        return Wanted(tuple(self._held.values()), tuple(prepared.table for prepared in self._prepared.values()), self._placements)

    def _known(self, model: str) -> Held:
        if model not in self._held:
            raise UnknownName(f"model '{model}'", f"has no table at edge '{self._edge}' (known: {', '.join(sorted(self._held)) or 'none'})")
        return self._held[model]

    def _check(self, table: RoutingTable) -> None:
        held = self._held.get(table.model)
        if held is not None and table.order <= held.table.order:
            raise Refused(_name(table), f"is not newer than {_order(held.table)}, which the edge holds", NOTHING)
        if table.expires_at <= self._now():
            raise TooLate(_name(table), "has expired already", f"{NOTHING} Make a new one.")

    def _check_prepared(self, table: RoutingTable) -> None:
        self._check(table)
        prepared = self._prepared.get(table.model)
        if prepared is None or prepared.table != table or not prepared.warm:
            held = self._held.get(table.model)
            if held is not None and held.safe_because == EXPIRED:
                # It raised nothing when it was sent: the table that it renews ran out meanwhile
                raise TooLate(_name(table), "comes after the one that it renews had expired", f"{NOTHING} Make a new one.")
            raise Refused(_name(table), "raises exposure and was not prepared here", f"{NOTHING} Prepare it first.")

    def _check_well(self, table: RoutingTable, places: tuple[Backend, ...]) -> None:
        sick = unwell(self._admin.report(), table.model, places)
        if sick:
            named = ", ".join(f"{short(backend.revision)} in {backend.region}" for backend in sick)
            raise Refused(_name(table), f"raises backends that Envoy does not find healthy ({named})", NOTHING)

    def _mark_warm(self, table: RoutingTable) -> None:
        with self._lock:
            prepared = self._prepared.get(table.model)
            if prepared is None or prepared.table != table:
                self._check(table)
                raise Refused(_name(table), "another table was prepared meanwhile", NOTHING)
            self._prepared[table.model] = Prepared(table, warm=True, since=time.monotonic())

    def _abandon(self, table: RoutingTable) -> None:
        """Forget a prepared table, and its clusters at once: no route ever led to them."""
        with self._lock:
            prepared = self._prepared.get(table.model)
            if prepared is not None and prepared.table == table:
                del self._prepared[table.model]
                self._writer.write_clusters(self._wanted(), frozenset(cluster.name for cluster in clusters_of(table)))

    def _raised_places(self, table: RoutingTable) -> tuple[Backend, ...]:
        held = self._held.get(table.model)
        revisions = raised_revisions(held.in_force if held else None, table)
        return tuple(backend for backend in table.backends if backend.revision in revisions)

    def _hold(self, held: Held) -> None:
        self._held[held.table.model] = held
        self._memory.write(self._held)
        self._writer.write(self._wanted())

    def _fall_back(self, held: Held, why: str) -> None:
        log.warning("edge %s, model %s: the safe shares are in force, because %s", self._edge, held.table.model, why)
        self._hold(held.falling_back(why))

    def _confirm(self, table: RoutingTable, raised: bool) -> None:
        """Wait until Envoy reports the routes that were written last; a raise that it does not report is taken back."""
        try:
            if self._wait(lambda report: report.routes_version == self._writer.routes_version, CONFIRM_SECONDS):
                return
            why = "Envoy does not report it as in force"
        except Unreachable:
            if not raised:
                return
            why = "Envoy stopped answering"
        with self._lock:
            held = self._held[table.model]
            if raised and held.table == table and not held.safe_because:
                self._fall_back(held, why)
        raise OperationFailed(_name(table), why, "The edge is on its safe shares." if raised else "Look at the edge's Envoy log.")

    def _settled(self, report: Report) -> bool:
        return report.clusters_settled and report.clusters_version == self._writer.clusters_version

    def _wait(self, reached: Callable[[Report], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not reached(self._admin.report()):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def _name(table: RoutingTable) -> str:
    return f"table {_order(table)} of model '{table.model}'"


def _order(table: RoutingTable) -> str:
    return f"{table.epoch}.{table.version}"
