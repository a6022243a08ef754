"""Where everything of one local stack lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.settings import Settings


@dataclass(frozen=True, slots=True)
class Home:
    """The layout of a home; nothing here touches the disk."""

    root: Path

    @classmethod
    def of(cls, settings: Settings) -> Home:
        """Return the home that the settings name, as an absolute path."""
        return cls(settings.home.expanduser().absolute())

    @property
    def fleet_file(self) -> Path:
        """The fleet that is wanted."""
        return self.root / "fleet.yaml"

    @property
    def ledger_file(self) -> Path:
        """The ledger's SQLite file."""
        return self.root / "ledger.db"

    @property
    def stack_file(self) -> Path:
        """Id and ports of the stack (JSON), written once."""
        return self.root / "stack.json"

    @property
    def credentials_file(self) -> Path:
        """Generated credentials (JSON), readable by the owner alone."""
        return self.root / "credentials.json"

    @property
    def parsed(self) -> Path:
        """Large fleet files as they were parsed, by the digest of their bytes; may be deleted at any time."""
        return self.root / "parsed"

    @property
    def observed_file(self) -> Path:
        """What reconcile saw last of every model (JSON); made anew with each look."""
        return self.root / "observed.json"

    @property
    def edges_file(self) -> Path:
        """The regions in which the stack has an edge each (JSON); absent where it has one for all."""
        return self.root / "edges.json"

    @property
    def operators_file(self) -> Path:
        """Who may command releases (JSON, name to token), readable by the owner alone."""
        return self.root / "operators.json"

    @property
    def keys(self) -> Path:
        """What Convoy signs with, readable by the owner alone, and the public halves that it believes."""
        return self.root / "keys"

    @property
    def ledger_keys(self) -> Path:
        """The key of the ledger's heads, and its public half."""
        return self.keys / "ledger"

    def attestation_keys(self, kind: str) -> Path:
        """The key of one kind of attestation, and its public half."""
        return self.keys / kind

    @property
    def logs(self) -> Path:
        """Logs of every supervised process."""
        return self.root / "logs"

    @property
    def supervisor(self) -> Path:
        """The supervisor's configuration, socket and programs."""
        return self.root / "supervisor"

    @property
    def programs(self) -> Path:
        """One file per supervised program."""
        return self.supervisor / "programs"

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor listens (owner only)."""
        return self.supervisor / "supervisor.sock"

    @property
    def prefect(self) -> Path:
        """Prefect's own home."""
        return self.root / "prefect"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.root / "mlflow"

    @property
    def origin_store(self) -> Path:
        """The store that revisions are packaged into and copied from, unless CONVOY_ORIGIN_STORE has it elsewhere."""
        return self.root / "store"

    def scrub_index(self, store: str) -> Path:
        """Which blobs of a store were read and right, and when (SQLite); may be deleted."""
        return self.root / "scrub" / f"{store}.db"

    @property
    def work(self) -> Path:
        """Scratch space of releases; may be deleted when none is under way."""
        return self.root / "work"

    @property
    def parity(self) -> Path:
        """What MLflow answered for each revision, or why it alone is asked: written by a first server, read by all later ones."""
        return self.root / "parity"

    @property
    def receipts(self) -> Path:
        """Which blobs of each store were read back and found right; losing them costs one reading."""
        return self.root / "receipts"

    @property
    def lines(self) -> Path:
        """When each bounded line to a region is free."""
        return self.root / "lines"

    @property
    def reports(self) -> Path:
        """Reports for people, one folder per subject; the HTTP API shows them below /reports."""
        return self.root / "reports"

    @property
    def regions(self) -> Path:
        """One folder per local region."""
        return self.root / "regions"

    def region(self, region: str) -> Path:
        """Everything of one local region."""
        return self.regions / region

    def region_store(self, region: str) -> Path:
        """The object store of one local region, unless fleet.yaml has it elsewhere."""
        return self.region(region) / "store"

    def captured(self, region: str) -> Path:
        """The rows that a local region answered: Parquet on this machine, bounded; a store elsewhere gets none of them."""
        return self.region_store(region) / "captured"

    def usage(self, region: str) -> Path:
        """What a local region's servers used: counters of the processes, and the meter's samples."""
        return self.region(region) / "usage"

    def bills(self, region: str) -> Path:
        """The FOCUS bills of a local region."""
        return self.region(region) / "bills"

    def revisions(self, region: str) -> Path:
        """The unpacked revisions that a local region serves."""
        return self.region(region) / "revisions"

    def edge(self, edge: str) -> Path:
        """The files of one edge: its agent's state, its Envoy's configuration and logs."""
        return self.root / "edges" / edge
