"""A revision crosses each border once, is written nowhere it must not lie, and a region that lags is told of and brought along."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fleet.declared import Fleet
from fleet.errors import Refused, Unreachable
from fleet.home import Home
from fleet.settings import Settings
from fleet.versions import Revision
from flows import effects
from flows.catching_up import catch_up
from flows.crossing import ORIGIN, Way, bring, misplaced, price_of, ways
from flows.desires import desires, model_stream, observe_candidate
from flows.house import House
from flows.journal import Journal
from flows.lagging import behind, lagging, lags, replication_stream
from flows.work import Claim, claim
from registry.ledger import NewEvent
from registry.store import ContentStore
from support.stack import toy_fleet, write_fleet
from support.stored import blob_file, flip_one_byte

GRANT = {"classes": ["personal"], "home": "NL", "to": ["US", "SG"], "basis": "SCC", "approver": "dpo@example.org", "expires": "2999-12-31"}
EVENTUAL = {"consistency": "eventual", "primary": "us-east-1", "standbys": ["europe-west4"], "lag_seconds": 60}


def house_of(folder: Path, **model: Any) -> House:
    fleet = toy_fleet(("m",))
    transfers = model.pop("transfers", {})
    fleet["models"]["m"] = {**fleet["models"]["m"], **model}
    for region in fleet["regions"].values():
        region["prices"] = {**region["prices"], "gib_in": "0.02"}
    home = Home(folder / "home")
    write_fleet(home, {**fleet, "transfers": transfers})
    return House(Settings(home=home.root), home)


def revision_in(house: House, folder: Path) -> Revision:
    folder.mkdir()
    (folder / "weights.bin").write_bytes(random.Random(1).randbytes(200_000))
    return Revision("m", "1", house.origin.put_tree(folder).digest)


def packed(house: House, region: str) -> bool:
    return any(Path(house.region_store(region).name).rglob("sha256/*"))


def fleet_with(providers: dict[str, str]) -> Fleet:
    fleet = toy_fleet(("m",))
    given = next(iter(fleet["regions"].values()))
    regions = {name: {**given, "provider": provider} for name, provider in providers.items()}
    model = {**fleet["models"]["m"], "regions": list(regions), "slo": {name: {"latency_ms": 500, "error_rate": 0.01} for name in regions}}
    return Fleet.model_validate({**fleet, "regions": regions, "models": {"m": model}})


def test_each_border_is_crossed_once_and_inside_it_goes_on_from_the_first_region() -> None:
    fleet = fleet_with({"a1": "aws", "g1": "gcp", "a2": "aws", "a3": "aws"})
    assert ways(fleet, ("a1", "g1", "a2", "a3")) == (
        Way("a1", "aws", ORIGIN),
        Way("g1", "gcp", ORIGIN),
        Way("a2", "aws", "a1"),
        Way("a3", "aws", "a1"),
    )
    assert [way.crosses for way in ways(fleet, ("a3", "a2"))] == [True, False]


def test_a_copy_tells_its_bytes_and_the_price_of_its_border_to_the_last_digit(tmp_path: Path) -> None:
    house = house_of(tmp_path)
    revision = revision_in(house, tmp_path / "tree")
    told = bring(house, Way("us-east-1", "aws", ORIGIN), ("m", revision.digest), house.origin)
    assert (told["bytes"], told["read"], told["border"], told["currency"]) == (200_000, 200_000, "aws", "USD")
    exact = 200_000 * (Decimal("0.02") + Decimal("0.1")) / (1 << 30)
    assert abs(Decimal(str(told["price"])) - exact) < Decimal("1e-17")
    again = bring(house, Way("us-east-1", "aws", ORIGIN), ("m", revision.digest), house.origin)
    assert (again["bytes"], again["read"], again["spared"], again["price"]) == (0, 0, 200_000, "0")
    inside = bring(house, Way("europe-west4", "aws", "us-east-1"), ("m", revision.digest), house.region_store("us-east-1"))
    assert inside["bytes"] == 200_000
    assert not {"border", "price"} & set(inside)


def test_a_region_without_prices_tells_no_price() -> None:
    fleet = fleet_with({"a1": "aws"})
    fleet.regions["a1"] = fleet.regions["a1"].model_copy(update={"prices": None})
    assert price_of(fleet, "a1", 1, 1) is None


def test_nothing_is_written_where_a_revision_must_not_lie_and_the_plan_names_each_region(tmp_path: Path) -> None:
    house = house_of(tmp_path, replication={"classes": ["personal"], "home": "NL"})
    revision = revision_in(house, tmp_path / "tree")
    told = misplaced(house, "m", revision.digest)
    assert [found.partition(":")[0] for found in told] == ["model 'm' in region 'us-east-1'", "model 'm' in region 'southeastasia'"]
    with pytest.raises(Refused, match="lacks a grant"):
        bring(house, Way("us-east-1", "aws", ORIGIN), ("m", revision.digest), house.origin)
    assert not packed(house, "us-east-1")
    assert bring(house, Way("europe-west4", "gcp", ORIGIN), ("m", revision.digest), house.origin)["copied"]


def test_a_transfer_is_recorded_with_who_answers_for_it(tmp_path: Path) -> None:
    house = house_of(tmp_path, replication={"classes": ["personal"], "home": "NL"}, transfers={"eu-out": GRANT})
    revision = revision_in(house, tmp_path / "tree")
    assert misplaced(house, "m", revision.digest) == ()
    told = bring(house, Way("us-east-1", "aws", ORIGIN), ("m", revision.digest), house.origin)
    assert told["grants"] == {"eu-out": {"classes": ["personal"], "basis": "SCC", "approver": "dpo@example.org", "expires": "2999-12-31"}}


def test_a_grant_that_ran_out_takes_nothing_away_that_is_there(tmp_path: Path) -> None:
    house = house_of(tmp_path, replication={"classes": ["personal"], "home": "NL"}, transfers={"eu-out": GRANT})
    revision = revision_in(house, tmp_path / "tree")
    way = Way("us-east-1", "aws", ORIGIN)
    bring(house, way, ("m", revision.digest), house.origin)
    late = house_of(tmp_path, replication={"classes": ["personal"], "home": "NL"}, transfers={"eu-out": GRANT | {"expires": "2026-01-01"}})
    assert bring(late, way, ("m", revision.digest), late.origin)["bytes"] == 0
    assert [found.partition(":")[0] for found in misplaced(late, "m", revision.digest)] == ["model 'm' in region 'southeastasia'"]


@pytest.fixture
def promoted(tmp_path: Path) -> Iterator[tuple[House, Revision, Claim]]:
    """A revision that its quorum has and that was promoted; the third region has nothing yet."""
    house = house_of(tmp_path, replication=EVENTUAL)
    revision = revision_in(house, tmp_path / "tree")
    house.ledger.migrate()
    observe_candidate(house.ledger, "m", lambda: "1", "test")
    (desire,) = desires(house.ledger, "m")
    with claim(house, "m", "test") as held:
        assert held is not None
        journal = Journal(house.ledger, desire, held.lease.epoch, held.lease.holder)
        for way in ways(house.fleet, house.model("m").quorum):
            act = lambda way=way: bring(house, way, ("m", revision.digest), house.origin)  # noqa: E731
            journal.effect(effects.replicate(way.region), act, digest=revision.digest, region=way.region)
        stable = {"version": "1", "digest": revision.digest, "release": desire.release}
        house.ledger.append(NewEvent(model_stream("m"), "stable.set", stable, "test", epoch=held.lease.epoch, model="m"))
        yield house, revision, held


def test_a_region_outside_the_quorum_lags_until_it_has_caught_up_and_that_is_in_the_ledger(promoted) -> None:
    house, revision, held = promoted
    later = datetime.now(UTC) + timedelta(hours=1)
    assert not packed(house, "southeastasia")
    assert lagging(house, "m", datetime.now(UTC)) == []
    (late,) = lagging(house, "m", later)
    assert late.startswith("southeastasia lacks version 1 for 3,6")
    assert set(lags(house, "m")) == {"us-east-1", "europe-west4"}
    catch_up(house, revision, "southeastasia", held)
    catch_up(house, revision, "southeastasia", held)
    (event,) = house.ledger.stream(replication_stream("m"))
    assert (event.payload["region"], event.payload["digest"], event.payload["bytes"]) == ("southeastasia", revision.digest, 200_000)
    assert lagging(house, "m", later) == []
    found = lags(house, "m")["southeastasia"]
    assert (found.copies, found.p50, found.p99) == (1, found.last, found.last)
    assert found.last >= max(lag.last for lag in lags(house, "m").values())
    assert house.region_store("southeastasia").manifest(revision.digest)


def test_a_region_catches_up_from_its_neighbour_where_that_has_it_else_from_the_origin(promoted) -> None:
    house, revision, held = promoted
    region = house.fleet.regions["southeastasia"]
    house.fleet.regions["southeastasia"] = region.model_copy(update={"provider": "gcp"})
    catch_up(house, revision, "southeastasia", held)
    (event,) = house.ledger.stream(replication_stream("m"))
    assert event.payload["from"] == "europe-west4"
    other = replace(revision, version="2", digest=house.origin.put_tree(Path(house.home.root)).digest)
    catch_up(house, other, "southeastasia", held)
    assert house.ledger.stream(replication_stream("m"))[-1].payload["from"] == ORIGIN


def test_a_region_catches_up_inside_its_provider_whichever_of_its_regions_has_the_revision(promoted) -> None:
    """Whatever the order in which regions are declared or come back, a border that was crossed is not crossed again."""
    house, revision, held = promoted
    us = house.fleet.regions["us-east-1"]
    model = house.model("m")
    for name in ("southeastasia", "europe-west4"):
        house.fleet.regions[name] = us.model_copy(update={"place": name})
    # The one that has nothing yet stands first, and would take the revision in for the others
    house.fleet.models["m"] = model.model_copy(update={"regions": ("southeastasia", "us-east-1", "europe-west4")})
    catch_up(house, revision, "southeastasia", held)
    (event,) = house.ledger.stream(replication_stream("m"))
    assert event.payload["from"] == "us-east-1"
    assert "border" not in event.payload


def test_a_neighbour_whose_store_is_away_keeps_no_region_from_its_revision(promoted, monkeypatch: pytest.MonkeyPatch) -> None:
    house, revision, held = promoted
    region = house.fleet.regions["southeastasia"]
    house.fleet.regions["southeastasia"] = region.model_copy(update={"provider": "gcp"})
    away, plain = house.region_store("europe-west4").name, ContentStore.has_blob

    def has_blob(self: ContentStore, digest: str) -> bool:
        if self.name == away:
            raise Unreachable(f"store {away}", "does not answer")
        return plain(self, digest)

    monkeypatch.setattr(ContentStore, "has_blob", has_blob)
    catch_up(house, revision, "southeastasia", held)
    assert house.ledger.stream(replication_stream("m"))[-1].payload["from"] == ORIGIN


def test_how_far_a_region_is_behind_counts_from_the_release_that_is_stable_now_and_says_whether_that_is_too_far(promoted) -> None:
    house, revision, held = promoted
    assert [(each.region, each.asset, each.version, each.limit, each.over) for each in behind(house, "m", datetime.now(UTC))] == [
        ("southeastasia", "revision", "1", 60, False)
    ]
    (late,) = behind(house, "m", datetime.now(UTC) + timedelta(minutes=2))
    assert late.over
    assert 120 <= late.seconds < 180
    catch_up(house, revision, "southeastasia", held)
    assert behind(house, "m", datetime.now(UTC) + timedelta(hours=1)) == ()


def test_a_neighbour_whose_copy_has_rotted_keeps_no_region_from_its_revision(promoted) -> None:
    house, revision, held = promoted
    region = house.fleet.regions["southeastasia"]
    house.fleet.regions["southeastasia"] = region.model_copy(update={"provider": "gcp"})
    part = next(house.origin.manifest(revision.digest).parts())
    flip_one_byte(blob_file(house.region_store("europe-west4"), part.digest))
    catch_up(house, revision, "southeastasia", held)
    (event,) = house.ledger.stream(replication_stream("m"))
    assert (event.payload["from"], event.payload["border"]) == (ORIGIN, "gcp")
    assert house.region_store("southeastasia").get_part(part.digest)
