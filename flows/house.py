"""Introduces the rooms to one another: everything that a flow needs, opened from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clouds.serving import ServingTarget
from clouds.targets import target_of
from fleet.addresses import Reach
from fleet.contained import is_contained
from fleet.declared import Fleet, Model
from fleet.declared_store import StorePlace, origin_place
from fleet.edges import EdgePlace, edge_places, recorded_regions
from fleet.errors import InputError, UnknownName
from fleet.home import Home
from fleet.reading import fleet_of, fleet_text, model_of
from fleet.settings import Settings, settings
from fleet.stack import Credentials, Stack, read_credentials, read_stack
from registry.attestations import Kind
from registry.captures import Captures
from registry.keys import Keyring, Trusted, ensure_keyring, trusted_in
from registry.leases import Leases
from registry.ledger import Ledger
from registry.models import MlflowModels
from registry.opening import open_store
from registry.referrers import newest_tuning
from registry.store import ContentStore
from traffic.edge_client import Edge


@dataclass(frozen=True)
class House:
    """One installation of Convoy, its rooms opened when first asked for."""

    settings: Settings
    home: Home

    @classmethod
    def open(cls) -> House:
        """Open the installation that the environment names."""
        found = settings()
        return cls(found, Home.of(found))

    @cached_property
    def fleet(self) -> Fleet:
        """The declared fleet."""
        return fleet_of(self.fleet_text, str(self.fleet_file), self.home.parsed)

    @cached_property
    def fleet_text(self) -> bytes:
        """The bytes that declare it, read once."""
        return fleet_text(self.fleet_file)

    @property
    def fleet_file(self) -> Path:
        """Where it is declared; what it names lies beside it."""
        return self.settings.fleet or self.home.fleet_file

    @property
    def reach(self) -> Reach:
        """Where one may fetch from."""
        return Reach.of(self.settings.trusted_hosts)

    @cached_property
    def stack(self) -> Stack:
        """The local stack's ports."""
        return read_stack(self.home)

    @cached_property
    def credentials(self) -> Credentials:
        """The local stack's secrets."""
        return read_credentials(self.home)

    @cached_property
    def ledger(self) -> Ledger:
        """The truth of every release."""
        return Ledger(self.ledger_url)

    @property
    def ledger_url(self) -> str:
        """The ledger's SQLAlchemy URL."""
        return self.settings.ledger_url or f"sqlite:///{self.home.ledger_file}"

    @cached_property
    def ledger_keys(self) -> Keyring:
        """What the ledger's heads are signed with, made when first asked for, and whose signatures are believed."""
        return ensure_keyring(self.home.ledger_keys)

    def attestation_keys(self, kind: Kind) -> Keyring:
        """Return what one kind of attestation is signed with, made when first asked for, and whose signatures are believed."""
        return ensure_keyring(self.home.attestation_keys(kind.value))

    def attestation_trust(self, kind: Kind) -> Trusted:
        """Return whose signatures of one kind of attestation are believed; raises InputError where no key was made yet."""
        return trusted_in(self.home.attestation_keys(kind.value))

    @cached_property
    def leases(self) -> Leases:
        """Who may act on which model."""
        return Leases(self.ledger)

    @cached_property
    def models(self) -> MlflowModels:
        """The MLflow registry."""
        return MlflowModels(self.stack.mlflow_url)

    @cached_property
    def origin(self) -> ContentStore:
        """The store that revisions are packaged into."""
        return open_store(origin_place(self.settings), self.home.origin_store)

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge of the fleet."""
        return tuple(
            Edge(place.name, place.agent_url, place.token(self.credentials.edge_token), place.admin_port) for place in self.edge_places
        )

    @cached_property
    def edge_places(self) -> tuple[EdgePlace, ...]:
        """Where every edge stands and listens; the first is the one of callers that do not choose."""
        return edge_places(self.stack, recorded_regions(self.home))

    def edge_place(self, name: str | None) -> EdgePlace:
        """Return an edge by its id, the first one without; raises UnknownName."""
        found = [place for place in self.edge_places if name in (None, place.name)]
        if not found:
            known = ", ".join(place.name for place in self.edge_places)
            raise UnknownName(f"edge '{name}'", f"is none of this stack (known: {known})")
        return found[0]

    def edge_near(self, region: str) -> EdgePlace:
        """Return the edge that callers in a region use: the one that stands there, else the first."""
        return next((place for place in self.edge_places if place.region == region), self.edge_places[0])

    def model(self, name: str) -> Model:
        """Return a declared model; raises UnknownName."""
        return model_of(self.fleet, name)

    def region_store(self, region: str) -> ContentStore:
        """Return the object store of a region; one elsewhere is opened once, for its connections are kept."""
        place = self.region_place(region)
        if place is None:
            return open_store(None, self.home.region_store(region))
        if region not in self._elsewhere:
            self._elsewhere[region] = open_store(place, self.home.region_store(region))
        return self._elsewhere[region]

    def region_place(self, region: str) -> StorePlace | None:
        """Return where a region's store lies, None for a folder in the home; raises InputError where it is the origin's."""
        declared = self.fleet.regions.get(region)
        place, origin = declared.store_place if declared else None, origin_place(self.settings)
        if place is not None and origin is not None and place.overlaps(origin):
            raise InputError(f"region '{region}'", "has its store where the origin's is", "Give it a bucket or a prefix of its own.")
        return place

    def has_store(self, region: str) -> bool:
        """Say whether a region's store was ever opened: to look into it then makes no folder."""
        return self.region_place(region) is not None or self.home.region_store(region).is_dir()

    @cached_property
    def _elsewhere(self) -> dict[str, ContentStore]:
        return {}

    def captures(self, region: str) -> Captures:
        """Return the rows that a local region answered: they stay in the home, wherever its store is."""
        return Captures.at(self.home.region_store(region))

    def fetch_from(self, region: str) -> Callable[[str, Path], None]:
        """Return the verb that unpacks a revision from a region's own store, verified, and how it was tuned beside it."""
        store = self.region_store(region)

        def fetch(digest: str, to: Path) -> None:
            _fetch(store, digest, to)
            if (tuning := newest_tuning(store, digest)) is not None:
                # At once: a service does not start beside half of one
                aside = to.with_name(f".{to.name}.tuning")
                aside.write_bytes(tuning)
                aside.replace(to.with_name(f"{to.name}.tuning"))

        return fetch

    def fetch_from_origin(self, digest: str, to: Path) -> None:
        """Unpack a revision from the origin store, verified."""
        _fetch(self.origin, digest, to)

    def target(self, region: str) -> ServingTarget:
        """Return what runs a region."""
        ports = {name: self.stack.region_ports(position) for position, name in enumerate(self.fleet.regions)}
        return target_of(self.fleet.regions[region].target)(self.home, self.stack.stack_id, ports)


def _fetch(store: ContentStore, digest: str, to: Path) -> None:
    """Unpack a revision, and beside it the root of the container that it may bring."""
    store.fetch_tree(digest, to)
    if is_contained(to):
        # Here alone: most revisions bring none
        from bentos.container.build import lay_root

        lay_root(to)
