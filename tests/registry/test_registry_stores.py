"""One contract for every store: a folder, memory, S3's interface on SeaweedFS and Azure's on Azurite, all real servers."""

from __future__ import annotations

import random
import threading
import time
import uuid
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore

from fleet.canonical import digest_of
from fleet.cutting import PART_BYTES
from fleet.declared_store import StorePlace
from fleet.errors import ConvoyError, Denied, IntegrityError, OperationFailed, Refused, UnknownName, Unreachable
from fleet.manifest import manifest_of
from registry import entropy, garbage
from registry.opening import open_store, prove
from registry.receipts import Receipts
from registry.repair import repair
from registry.replicate import How, replicate
from registry.scrub import Kind, Pace, ScrubIndex, scrub
from registry.store import ContentStore, Ref
from support.object_stores import (
    AZURITE_KEYS,
    S3_KEYS,
    Meddler,
    azure_place,
    meddling,
    s3_place,
)
from support.ports import HOST, free_port

NOWHERE = Path("/nowhere")
QUICKLY = 10.0


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has the right credentials, and no others."""
    for name, value in {**S3_KEYS, **AZURITE_KEYS}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["s3", "azure"])
def place(request: pytest.FixtureRequest, keys: None) -> StorePlace:
    """A place of its own on a real server."""
    of, server = {"s3": (s3_place, "seaweedfs"), "azure": (azure_place, "azurite")}[request.param]
    return of(request.getfixturevalue(server), f"of-{uuid.uuid4().hex}")


@pytest.fixture(params=["folder", "memory", "s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path, keys: None) -> ContentStore:
    match request.param:
        case "folder":
            return ContentStore.at(tmp_path / "store")
        case "memory":
            return ContentStore(MemoryStore(), "memory")
        case "s3":
            return open_store(s3_place(request.getfixturevalue("seaweedfs"), f"of-{uuid.uuid4().hex}"), NOWHERE)
        case _:
            return open_store(azure_place(request.getfixturevalue("azurite"), f"of-{uuid.uuid4().hex}"), NOWHERE)


@pytest.fixture
def s3(seaweedfs: str, keys: None) -> ContentStore:
    return open_store(s3_place(seaweedfs, f"of-{uuid.uuid4().hex}"), NOWHERE)


@pytest.fixture
def meddler(seaweedfs: str, keys: None) -> Iterator[Meddler]:
    """A proxy before SeaweedFS."""
    with meddling(seaweedfs) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "folder")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    for number in range(4):
        (root / "src" / f"weights-{number}.bin").write_bytes(random.Random(number).randbytes(50_000))
    (root / "src" / "__init__.py").touch()
    return root


def overwritten(store: ContentStore, digest: str, data: bytes) -> None:
    """Have other bytes where a blob is, as one who may write past Convoy."""
    obstore.put(store._store, f"blobs/sha256/{digest.removeprefix('sha256:')}", data)


def test_a_blob_is_created_once_and_read_back(store: ContentStore) -> None:
    digest = digest_of(b"weights")
    assert not store.has_blob(digest)
    assert [store.put_blob(digest, b"weights"), store.put_blob(digest, b"weights")] == [True, False]
    assert (store.get_blob(digest), store.begin(digest)) == (b"weights", b"weights")
    said = store.read_back(digest)
    assert (said.size, said.path) == (7, f"blobs/sha256/{digest.removeprefix('sha256:')}")
    assert store.blob(digest) == said
    with pytest.raises(UnknownName, match="is not in store"):
        store.get_blob(digest_of(b"nowhere"))


def test_an_empty_blob_and_one_of_a_whole_part_come_back(store: ContentStore) -> None:
    for data in (b"", bytes(PART_BYTES)):
        assert store.put_blob(digest_of(data), data)
        assert store.get_blob(digest_of(data)) == data


def test_a_wrong_blob_is_found_never_overwritten_and_moved_aside_byte_for_byte(store: ContentStore) -> None:
    digest = digest_of(b"weights")
    store.put_blob(digest, b"weights")
    overwritten(store, digest, b"weighty")
    for act in (lambda: store.get_blob(digest), lambda: store.read_back(digest), lambda: store.put_blob(digest, b"weights")):
        with pytest.raises(IntegrityError, match="has other bytes"):
            act()
    aside = store.quarantine(digest)
    assert (store.notes("quarantine"), store.noted("quarantine", str(aside))) == ((aside,), b"weighty")
    assert not store.has_blob(digest)
    assert store.put_blob(digest, b"weights")
    assert store.quarantine(digest) is None


def test_what_is_deleted_had_a_tombstone(store: ContentStore) -> None:
    digest = digest_of(b"weights")
    store.put_blob(digest, b"weights")
    with pytest.raises(Refused, match="has no tombstone"):
        store.delete_blob(digest)
    now = datetime.now(UTC) + timedelta(seconds=5)
    assert garbage.mark(store, (), now, now).set == 1
    assert garbage.sweep(store, (), now + timedelta(seconds=1), lambda: None).deleted == (digest,)
    assert (store.has_blob(digest), store.notes("tombstones")) == (False, ())
    store.unmark(digest)


def test_a_note_is_written_once(store: ContentStore) -> None:
    assert [store.note("heads", "000000000001", b"head"), store.note("heads", "000000000001", b"head")] == [True, False]
    with pytest.raises(IntegrityError, match="other bytes than were written"):
        store.note("heads", "000000000001", b"another")
    assert store.noted("heads", "000000000001") == b"head"


def test_a_name_gains_generations_and_an_older_epoch_is_refused(store: ContentStore) -> None:
    first, second = (digest_of(data) for data in (b"1", b"2"))
    with pytest.raises(UnknownName, match="is not in store"):
        store.point("model", first, 1)
    store.put_blob(first, b"1")
    store.put_blob(second, b"2")
    assert store.resolve("model") is None
    assert store.point("model", first, 1) == store.point("model", first, 1) == Ref("model", first, 1, 1)
    assert store.point("model", second, 3) == Ref("model", second, 3, 2)
    with pytest.raises(Refused, match="epoch 3 wrote it"):
        store.point("model", first, 2)
    assert store.resolve("model") == Ref("model", second, 3, 2)
    assert store.resolve("mod") is None


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_of_two_who_move_one_name_at_once_one_wins_each_round(store: ContentStore, rounds: int) -> None:
    """Reliability C.4, case 4: no update is lost, and none is made twice."""
    digests = [digest_of(data) for data in (b"one", b"two")]
    for digest, data in zip(digests, (b"one", b"two"), strict=True):
        store.put_blob(digest, data)
    ready = threading.Barrier(2)

    def move(digest: str, after: Ref | None) -> Ref | None:
        ready.wait()
        return store.move("trees/model", digest, after)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            before = store.resolve("trees/model")
            moved = [found for found in pool.map(move, digests, (before, before)) if found is not None]
            assert len(moved) == 1
            assert store.resolve("trees/model") == moved[0]
    assert store.resolve("trees/model").sequence == rounds  # type: ignore[union-attr]
    assert len(list(store.objects("refs"))) == 2


def test_a_writer_that_ends_anywhere_leaves_no_manifest_without_its_blobs(
    store: ContentStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = manifest_of(tree)
    create, writes = ContentStore._create, 0
    last = len({part.digest for part in manifest.parts()}) + 2

    def ending(self: ContentStore, path: str, data: bytes) -> bool:
        nonlocal writes
        if writes == 0:
            raise Unreachable("the writer", "ended here")
        writes -= 1
        return create(self, path, data)

    monkeypatch.setattr(ContentStore, "_create", ending)
    for until in range(last + 1):
        writes = until
        try:
            store.point("model", store.put_tree(tree).digest, 1)
        except Unreachable:
            assert store.resolve("model") is None
        if store.has_blob(manifest.digest):
            assert {part.digest for part in store.manifest(manifest.digest).parts() if not store.has_blob(part.digest)} == set()
    assert store.resolve("model") == Ref("model", manifest.digest, 1, 1)


@pytest.mark.long
def test_readers_beside_writers_never_meet_a_name_without_its_bytes(store: ContentStore, tmp_path: Path) -> None:
    trees = []
    for number in range(30):
        root = tmp_path / f"tree-{number}"
        root.mkdir()
        (root / "weights.bin").write_bytes(random.Random(number).randbytes(20_000))
        trees.append(root)
    done = threading.Event()

    def read() -> int:
        seen = 0
        while not done.is_set():
            if (ref := store.resolve("model")) is not None:
                assert all(store.get_part(part.digest) for part in store.manifest(ref.digest).parts())
                seen += 1
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for epoch, root in enumerate(trees, 1):
                store.point("model", store.put_tree(root).digest, epoch)
        finally:
            done.set()
        assert min(reader.result() for reader in readers) > 0


def test_more_objects_than_one_page_of_a_listing_are_all_listed(store: ContentStore) -> None:
    names = [f"{number:012}" for number in range(1050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: obstore.put(store._store, f"heads/{name}", b"x"), names))
    assert list(store.notes("heads")) == names
    assert len(list(store.objects("heads"))) == len(names)


def test_a_revision_is_copied_there_and_back_and_what_is_there_is_not_sent_again(
    folder: ContentStore, store: ContentStore, tree: Path, tmp_path: Path
) -> None:
    digest = folder.put_tree(tree).digest
    how = How(receipts=Receipts(tmp_path / "receipts", store.name))
    first = replicate(digest, folder, store, how)
    again = replicate(digest, folder, store, how)
    assert (first.copied, first.bytes) == (4, 200_000)
    assert (again.copied, again.bytes, again.read, again.spared) == (0, 0, 0, 200_000)
    back = ContentStore.at(tmp_path / "back")
    replicate(digest, store, back)
    store.fetch_tree(digest, tmp_path / "revision")
    assert manifest_of(tmp_path / "revision") == back.manifest(digest) == manifest_of(tree)


def test_a_blob_that_rots_or_goes_is_found_by_a_scrub_and_comes_from_a_peer(
    folder: ContentStore, store: ContentStore, tree: Path, tmp_path: Path
) -> None:
    manifest = folder.put_tree(tree)
    replicate(manifest.digest, folder, store)
    entropy.change(store, "model", add=[manifest.digest])
    rotten, gone = (part.digest for part in list({part.digest: part for part in manifest.parts() if part.size}.values())[:2])
    overwritten(store, rotten, b"rotten")
    obstore.delete(store._store, f"blobs/sha256/{gone.removeprefix('sha256:')}")
    seen = scrubbed(store, tmp_path)
    assert {(fault.kind, fault.digest) for fault in seen} == {(Kind.WRONG, rotten), (Kind.MISSING, gone)}
    for fault in seen:
        assert repair(str(fault.digest), store, [folder]).source == folder.name
    assert scrubbed(store, tmp_path) == ()
    assert store.noted("quarantine", store.notes("quarantine")[0]) == b"rotten"


def scrubbed(store: ContentStore, folder: Path):
    now = datetime.now(UTC)
    with ScrubIndex.at(folder / f"{uuid.uuid4().hex}.db") as index:
        return scrub(store, index, Pace(0), now + timedelta(days=1), lambda: now).faults


def test_a_store_is_proven_by_a_blob_of_which_nothing_is_left(store: ContentStore) -> None:
    prove(store)
    assert list(store.objects()) == []


def test_an_empty_object_in_the_place_of_a_folder_is_nothing(store: ContentStore, tmp_path: Path) -> None:
    if isinstance(store._store, LocalStore):
        pytest.skip("a folder of a disk is no object")
    for name in ("tombstones", "blobs/sha256", "refs/model"):
        obstore.put(store._store, name, b"")
    assert (store.notes("tombstones"), list(store.objects()), scrubbed(store, tmp_path)) == ((), [], ())
    obstore.put(store._store, "refs/model/000000000001-000000000001", b"")
    with pytest.raises(IntegrityError, match="does not name a digest"):
        store.resolve("model")
    assert len(list(store.objects("refs"))) == 1


def asked(store: ContentStore) -> Iterator[tuple[str, object]]:
    """Every way in which a store is asked for something."""
    digest = digest_of(b"weights")
    yield "put", lambda: store.put_blob(digest, b"weights")
    yield "get", lambda: store.get_blob(digest)
    yield "head", lambda: store.has_blob(digest)
    yield "list", lambda: list(store.objects("blobs"))
    yield "notes", lambda: store.notes("heads")
    yield "resolve", lambda: store.resolve("model")
    yield "delete", lambda: store.unmark(digest)
    yield "copy", lambda: store.read_back(digest)


def test_other_credentials_are_denied_whatever_is_asked(place: StorePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IHRoZSBrZXk=")
    store = open_store(place, NOWHERE)
    for what, act in asked(store):
        with pytest.raises(Denied, match="refused our credentials") as caught:
            act()  # type: ignore[operator]
        assert "not-the-secret" not in str(caught.value), what
        assert "docs/stores.md" in caught.value.remedy


def test_a_server_that_is_down_is_told_soon(keys: None) -> None:
    endpoint = f"http://{HOST}:{free_port()}"
    for place in (s3_place(endpoint), azure_place(endpoint)):
        for what, act in asked(open_store(place, NOWHERE)):
            began = time.monotonic()
            with pytest.raises(Unreachable, match="can be reached from here"):
                act()  # type: ignore[operator]
            assert time.monotonic() - began < QUICKLY, what


def test_a_container_that_is_not_there_is_no_missing_blob(azurite: str, keys: None) -> None:
    store = open_store(azure_place(azurite, container="never-made"), NOWHERE)
    with pytest.raises(OperationFailed, match="is not there: nothing can be written"):
        store.put_blob(digest_of(b"weights"), b"weights")
    with pytest.raises(Unreachable, match="404"):
        list(store.objects())


def crc64nvme(data: bytes) -> int:
    """CRC-64/NVME (NVM Command Set Specification 1.0, 5.2.1.3.4), bit by bit."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ ((1 << 64) - 1)


def test_every_upload_to_s3_carries_the_crc_of_its_bytes(meddler: Meddler) -> None:
    assert crc64nvme(b"123456789") == 0xAE8B14860A799888
    store = open_store(s3_place(meddler.endpoint, f"of-{uuid.uuid4().hex}"), NOWHERE)
    store.put_blob(digest_of(b"weights"), b"weights")
    (sent,) = meddler.sent
    assert sent["x-amz-checksum-crc64nvme"] == b64encode(crc64nvme(b"weights").to_bytes(8, "big")).decode()
    assert sent["if-none-match"] == "*"


def test_bytes_that_change_on_the_way_to_s3_are_not_kept(meddler: Meddler) -> None:
    place = s3_place(meddler.endpoint, f"of-{uuid.uuid4().hex}")
    store, digest = open_store(place, NOWHERE), digest_of(b"weights")
    meddler.spoil_sent = True
    with pytest.raises(ConvoyError):
        store.put_blob(digest, b"weights")
    meddler.spoil_sent = False
    assert not store.has_blob(digest)
    assert store.put_blob(digest, b"weights")


@pytest.mark.parametrize("answer", [b"weighty", b"weig", b""], ids=["other bytes", "cut off", "nothing"])
def test_a_store_that_lies_about_what_it_holds_is_found_by_reading_back(
    meddler: Meddler, folder: ContentStore, tree: Path, answer: bytes
) -> None:
    """Its e-tags and its listing are right, and its bytes are not."""
    store = open_store(s3_place(meddler.endpoint, f"of-{uuid.uuid4().hex}"), NOWHERE)
    digest = folder.put_tree(tree).digest
    meddler.spoil_read = answer
    with pytest.raises(ConvoyError):
        replicate(digest, folder, store)
    meddler.spoil_read = None
    assert not store.has_blob(digest)
    assert replicate(digest, folder, store).copied < 5


def again(act):
    """Do what may be repeated until an answer comes, as a task that is tried again; returns it and how many tries failed."""
    failed = 0
    while True:
        try:
            return act(), failed
        except Unreachable:
            failed += 1


def test_a_write_whose_answer_was_lost_is_its_own_when_it_is_tried_again(meddler: Meddler) -> None:
    store = open_store(s3_place(meddler.endpoint, f"of-{uuid.uuid4().hex}"), NOWHERE)
    digest, head = digest_of(b"weights"), "000000000001"

    def lost(act):
        meddler.lose = 1
        found = again(act)
        assert meddler.lose == 0
        return found[0]

    assert lost(lambda: store.put_blob(digest, b"weights")) is False
    assert lost(lambda: store.note("heads", head, b"head")) is False
    assert lost(lambda: store.point("model", digest, 4)) == Ref("model", digest, 4, 1) == store.resolve("model")
    assert lost(lambda: entropy.change(store, "model", add=[digest])) in (True, False)
    assert list(entropy.members(store, "model")) == [digest]
    assert len(list(store.objects("refs/model"))) == 1
