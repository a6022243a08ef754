"""Releases that only the ledger and the stores know of: revisions packaged, copied and promoted without a server."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.desires import ask_again, model_stream
from flows.house import House
from flows.journal import Journal
from flows.shipping import remember
from registry.ledger import NewEvent
from registry.replicate import replicate
from registry.store import ContentStore

MODEL = "toy"
P = ReleasePhase
ENTERED = (P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING, P.PROMOTING, P.PROMOTED)
"""The phases of a first release, which are those of any here: nobody has traffic."""


def packaged(house: House, version: str, shared: bytes = b"the service") -> Revision:
    """Package a version into the origin and return its revision; its release has not ended."""
    desire = ask_again(house.ledger, MODEL, version, "test")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "bento"
        (root / "src").mkdir(parents=True)
        (root / "src" / "service.py").write_bytes(shared)
        (root / "model.bin").write_bytes(random.Random(version).randbytes(5000))
        digest = house.origin.put_tree(root).digest
    Journal(house.ledger, desire, 0, "test").effect(effects.PACKAGE, lambda: {"digest": digest})
    return Revision(MODEL, version, digest)


def replicated(house: House, revision: Revision, regions: tuple[str, ...] | None = None) -> None:
    """Copy a revision to regions, to all without."""
    for region in regions or tuple(house.fleet.regions):
        store = house.region_store(region)
        replicate(revision.digest, house.origin, store)
        remember(store, revision)


def promoted(house: House, revision: Revision) -> None:
    """Have a revision be the stable one, and its release end."""
    desire = ask_again(house.ledger, MODEL, revision.version, "test")
    payload = {"version": revision.version, "digest": revision.digest, "release": desire.release}
    house.ledger.append(NewEvent(model_stream(MODEL), "stable.set", payload, "test"))
    journal = Journal(house.ledger, desire, 0, "test")
    for phase in ENTERED:
        journal.enter(phase)
    for region in house.fleet.regions:
        house.region_store(region).point(MODEL, revision.digest, 1)


def released(house: House, version: str) -> Revision:
    """Package, copy everywhere and promote a version."""
    revision = packaged(house, version)
    replicated(house, revision)
    promoted(house, revision)
    return revision


def blob_file(store: ContentStore, digest: str) -> Path:
    """Return the file of a blob in a local store."""
    return Path(store.name) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def flip_one_byte(file: Path) -> bytes:
    """Change one byte of a file and return what it holds then."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return bytes(data)
