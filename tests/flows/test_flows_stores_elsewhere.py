"""Regions whose stores lie at an address: a real S3-compatible server has what a release, a repair or an export needs."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import pytest
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from control.cli import app
from control.doctor import kept
from control.doctor.case import Case
from control.doctor.findings import Level
from control.stack.up import carried_for
from fleet.canonical import digest_of
from fleet.errors import Denied, InputError, Unreachable
from fleet.home import Home
from fleet.manifest import manifest_of
from fleet.settings import STORE_VARIABLES, Settings
from flows.anchoring import anchor
from flows.collecting import collect
from flows.crossing import Way, bring
from flows.exporting import export
from flows.house import House
from flows.images import keep_image
from flows.tending import STORES, Tended, tend
from flows.work import claim
from registry.ledger import NewEvent
from registry.store import ContentStore
from support.object_stores import CONTAINER, S3_KEYS
from support.ports import HOST, free_port
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet
from support.stored import MODEL, packaged, released
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.stack import TestStack

FIRST, SECOND, THIRD = REGIONS


def fleet_with(endpoint: str, prefix: str, regions: tuple[str, ...], models: tuple[str, ...] = (MODEL,)) -> dict[str, Any]:
    """A fleet in which some regions have their stores on a server."""
    fleet = toy_fleet(models)
    for region in regions:
        fleet["regions"][region] |= {"store": f"s3://{CONTAINER}/{prefix}/{region}", "store_endpoint": endpoint}
    return fleet


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for names in STORE_VARIABLES.values() for name in names):
        monkeypatch.delenv(name, raising=False)
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def house(tmp_path: Path, seaweedfs: str, keys: None) -> House:
    """Two regions have their stores on the server, and so has the origin; the third has a folder."""
    prefix = f"of-{uuid.uuid4().hex}"
    plain = house_without_servers(tmp_path)
    write_fleet(plain.home, fleet_with(seaweedfs, prefix, (FIRST, SECOND)))
    given = {"origin_store": f"s3://{CONTAINER}/{prefix}/origin", "origin_store_endpoint": seaweedfs}
    return House(Settings(home=plain.home.root, **given), plain.home)


def tended(house: House) -> Tended:
    with claim(house, STORES, "test") as held, disable_run_logger():
        assert held is not None
        return tend(house, held, "test", lambda _: None, None, True)


def overwritten(store: ContentStore, digest: str) -> None:
    obstore.put(store._store, f"blobs/sha256/{digest.removeprefix('sha256:')}", b"rotten")


def test_a_revision_gets_there_is_served_from_there_and_the_homes_folders_stay_empty(house: House, tmp_path: Path) -> None:
    revision = released(house, "1")
    assert {region: house.region_store(region).resolve(MODEL).digest for region in REGIONS} == dict.fromkeys(REGIONS, revision.digest)  # type: ignore[union-attr]
    house.fetch_from(FIRST)(revision.digest, tmp_path / "unpacked")
    assert manifest_of(tmp_path / "unpacked").digest == revision.digest
    export(house, MODEL, "1", tmp_path / "oci", SECOND)
    assert (tmp_path / "oci" / "index.json").exists()
    assert [home.exists() for home in (house.home.origin_store, *map(house.home.region_store, REGIONS))] == [False, False, False, True]
    assert house.region_store(FIRST) is house.region_store(FIRST)


def test_a_copy_says_where_it_came_from_and_a_second_one_reads_nothing_again(house: House) -> None:
    revision = packaged(house, "1")
    way = Way(FIRST, "aws", "origin")
    first = bring(house, way, (MODEL, revision.digest), house.origin)
    again = bring(house, way, (MODEL, revision.digest), house.origin)
    assert (first["copied"], first["from"], again["copied"], again["read"]) == (2, "origin", 0, 0)


def test_what_rots_there_is_repaired_from_another_region(house: House) -> None:
    revision = released(house, "1")
    store = house.region_store(SECOND)
    part = store.manifest(revision.digest).entries[0].parts[0].digest
    overwritten(store, part)
    found = tended(house)
    assert (len(found.repaired), found.problems) == (1, [])
    assert store.get_part(part)
    assert tended(house).repaired == []


def test_what_nothing_needs_is_deleted_there(house: House) -> None:
    released(house, "1")
    before = {found.path for found in house.region_store(FIRST).objects()}
    house.region_store(FIRST).put_blob(digest_of(b"of nobody"), b"of nobody")
    later = [datetime.now(UTC) + timedelta(days=days) for days in (30, 60)]
    for now in later:
        with claim(house, STORES, "test") as held:
            assert held is not None
            collect(house, held, "test", lambda _: None, lambda now=now: now)
    assert {found.path for found in house.region_store(FIRST).objects()} == before


def test_the_doctor_uses_a_store_as_a_release_does_and_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {found.subject: found for found in kept.stores(Case(house))}
    assert {found.level for found in told.values()} == {Level.OK}
    assert "can be written, listed and read" in told[f"store of {FIRST}"].reason
    assert list(house.region_store(FIRST).objects()) == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    refused = {found.subject: found for found in kept.stores(Case(House(house.settings, house.home))) if found.level is Level.PROBLEM}
    assert set(refused) == {f"store of {name}" for name in (FIRST, SECOND, "origin")}
    assert all("refused our credentials" in found.reason and "another" not in found.reason for found in refused.values())


def test_a_store_that_is_away_is_told_and_the_others_are_tended(house: House) -> None:
    released(house, "1")
    away = fleet_with(f"http://{HOST}:{free_port()}", "away", (FIRST,))
    write_fleet(house.home, away)
    found = tended(House(house.settings, house.home))
    assert {type(problem) for problem in found.problems} == {Unreachable}
    assert set(found.passes) == {"origin", SECOND, THIRD}


def test_no_region_has_the_origins_store(house: House) -> None:
    settings = house.settings.model_copy(update={"origin_store": house.fleet.regions[FIRST].store})
    with pytest.raises(InputError, match=f"region '{FIRST}': has its store where the origin's is"):
        House(settings, house.home).region_store(FIRST)


def test_no_credential_is_a_clear_refusal(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in S3_KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(Denied, match="no credentials were found"):
        House(house.settings, house.home).region_store(FIRST)


def test_only_convoys_own_programs_get_the_credentials_and_only_of_what_is_declared(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from control.stack.components import Site, components

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "of another matter")
    carried = carried_for(house.settings, house.fleet)
    assert carried == S3_KEYS
    assert carried_for(Settings(home=house.home.root), house_without_servers(tmp_path / "plain").fleet) == {}
    table = components(Site(house.home, house.settings, house.stack, house.credentials, carried))
    assert {part.name for part in table if S3_KEYS.items() <= part.environment.items()} == {"control", "runner"}
    assert {part.name for part in table if set(S3_KEYS) & set(part.environment)} == {"control", "runner"}


def test_the_ledgers_heads_are_copied_there_and_a_store_that_is_away_is_not_counted_as_seen(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "origin_store", "origin_store_endpoint"):
        monkeypatch.setenv(f"CONVOY_{name.upper()}", str(getattr(house.settings, name)))
    for phase in ("requested", "rejected"):
        house.ledger.append(NewEvent("release/toy-1", "phase.entered", {"phase": phase}, "test"))
    with disable_run_logger():
        assert anchor(house) is None
    assert verified() == {f"store {region}": 1 for region in REGIONS}
    write_fleet(house.home, fleet_with(f"http://{HOST}:{free_port()}", "away", (FIRST,)))
    told = json.loads(CliRunner().invoke(app, ["ledger", "verify", "--json"]).stdout)
    assert [each.partition(" (")[0] for each in told["not_looked_at"]] == [f"store {FIRST}"]
    assert f"Not looked at: store {FIRST}" in " ".join(CliRunner().invoke(app, ["ledger", "verify"]).stdout.split())
    house.home.fleet_file.write_text("version: 2\n")
    told = json.loads(CliRunner().invoke(app, ["ledger", "verify", "--json"]).stdout)
    assert "stores that fleet.yaml may have elsewhere" in told["not_looked_at"][0]


def verified() -> dict[str, int]:
    """Return how many heads a verification found in each store."""
    done = CliRunner().invoke(app, ["ledger", "verify", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert "not_looked_at" not in told
    copies: dict[str, int] = told["copies"]
    return copies


def test_what_is_kept_beside_a_revision_gets_to_the_stores_that_have_it(house: House) -> None:
    revision = released(house, "1")

    class Made:
        index, manifests, beside = b"{}", {"linux/amd64": b"{ }"}, ()

    keep_image(house, revision, Made())  # type: ignore[arg-type]
    assert len(house.region_store(FIRST).notes("referrers", revision.digest.removeprefix("sha256:"))) == 2


@pytest.fixture(scope="module")
def stack_elsewhere(seaweedfs: str) -> Iterator[TestStack]:
    """A stack of its own: the origin and one region have their stores on the server."""
    from control.stack.down import down
    from control.stack.up import up
    from support.stack import TestStack

    root = Path(tempfile.mkdtemp(prefix="cv-"))
    given = {"origin_store": f"s3://{CONTAINER}/{root.name}/origin", "origin_store_endpoint": seaweedfs}
    settings = Settings(home=root, tick_seconds=0.5, lease_seconds=5, table_seconds=6, **given)
    write_fleet(Home.of(settings), fleet_with(seaweedfs, root.name, (SECOND,), ("elsewhere",)))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in S3_KEYS.items():
            patch.setenv(name, value)
        try:
            up(settings, lambda _: None)
            yield TestStack(settings, House(settings, Home.of(settings)))
        finally:
            down(settings)
            shutil.rmtree(root)


@pytest.mark.long
@pytest.mark.stack
@pytest.mark.timeout(400)
def test_two_versions_are_released_to_a_region_whose_store_is_elsewhere(stack_elsewhere: TestStack) -> None:
    stack = stack_elsewhere
    stack.candidate("elsewhere", stack.register("elsewhere"))
    first = stack.ended("elsewhere", 1)
    assert first.phase == "promoted", first.reasons
    with stack.load("elsewhere") as load:
        stack.candidate("elsewhere", stack.register("elsewhere", offset=1.0))
        second = stack.ended("elsewhere", 2)
    assert second.phase == "promoted", second.reasons
    assert load.failed() == []
    ref = stack.house.region_store(SECOND).resolve("elsewhere")
    assert ref is not None
    assert ref.digest == second.digest
    assert not (stack.house.home.region_store(SECOND) / "blobs").exists()
    # reconcile copies the heads, and runs once a minute
    assert wait_until(lambda: stack.house.region_store(SECOND).notes("heads"), 180, every=1, what="a copy of the ledger's head")
    held = [file for file in stack.house.home.root.rglob("*") if file.is_file() and S3_KEYS["AWS_SECRET_ACCESS_KEY"].encode() in read(file)]
    assert {file.name for file in held} == {"control.conf", "runner.conf"}
    assert {file.stat().st_mode & 0o777 for file in held} == {0o600}


def read(file: Path) -> bytes:
    """Return a file's bytes, none of one that went meanwhile."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
