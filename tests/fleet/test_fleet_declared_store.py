"""Where a store lies: addresses that people know, no credentials, and no region in another's store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleet.declared_store import StoreKind, StorePlace, origin_place, place_of
from fleet.errors import FleetFileError, InputError
from fleet.reading import read_fleet
from fleet.settings import STORE_VARIABLES, Settings, store_environment
from support.stack import toy_fleet, write_fleet

AZURE = "https://models4eu.blob.core.windows.net/models/convoy"
SECRET = "wJalrXUtnFEMI-K7MDENG"


@pytest.mark.parametrize(
    ("address", "place", "found"),
    [
        ("s3://models-eu", "eu-west-1", StorePlace(StoreKind.S3, "models-eu", region="eu-west-1")),
        ("s3://models-eu/convoy/a/", "eu-west-1", StorePlace(StoreKind.S3, "models-eu", "convoy/a", region="eu-west-1")),
        ("gs://models_eu/convoy", "europe-west4", StorePlace(StoreKind.GOOGLE, "models_eu", "convoy")),
        (AZURE, "westeurope", StorePlace(StoreKind.AZURE, "models", "convoy", host="models4eu.blob.core.windows.net")),
    ],
)
def test_an_address_says_whose_store_it_is(address: str, place: str, found: StorePlace) -> None:
    assert place_of(address, place=place) == found
    assert found.name == address.rstrip("/")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is no address of a bucket"),
        ("/srv/store", "or leave it out for a folder in the home"),
        ("file:///srv/store", "is no file address"),
        ("ftp://models/x", "is no ftp address"),
        ("az://models/x", "must name the account"),
        ("abfss://models@models4eu.dfs.core.windows.net/x", "holds credentials"),
        ("https://models.example.org/models", "must name the account"),
        ("https://models4eu.blob.core.windows.net.example.org/models", "must name the account"),
        ("https://models4eu.blob.core.windows.net", "names no container"),
        ("s3://", "names no bucket"),
        ("s3://Models_EU/x", "names no bucket"),
        ("s3://models-eu//x", "has a prefix of other than"),
        ("s3://models-eu/../x", "has a prefix of other than"),
        ("s3://models-eu/%2e%2e/x", "has a prefix of other than"),
        ("s3://models-eu:9000/x", "declare it in store_endpoint"),
        ("s3://models-eu:x/x", "is no address"),
        (f"s3://AKIA:{SECRET}@models-eu/x", "holds credentials"),
        (f"{AZURE}?sig={SECRET}", "holds a query"),
        (f"{AZURE}#{SECRET}", "holds a query"),
    ],
)
def test_another_address_is_refused_and_not_repeated(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        place_of(address, place="eu-west-1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://s3.example.org", "https://s3.example.org"),
        ("https://s3.example.org:9000/", "https://s3.example.org:9000"),
        ("http://127.0.0.1:8333", "http://127.0.0.1:8333"),
        ("http://[::1]:8333", "http://[::1]:8333"),
        ("http://localhost:8333", "http://localhost:8333"),
    ],
)
def test_an_endpoint_is_https_or_on_this_machine(endpoint: str, kept: str) -> None:
    place = place_of("s3://models/x", endpoint)
    assert (place.endpoint, place.region, place.name) == (kept, "us-east-1", f"s3://models/x at {kept}")


@pytest.mark.parametrize(
    ("address", "endpoint", "says"),
    [
        ("s3://models/x", "http://s3.example.org", "plain http"),
        ("s3://models/x", "http://10.0.0.7:9000", "plain http"),
        ("s3://models/x", "http://localhost.example.org", "plain http"),
        ("s3://models/x", f"https://me:{SECRET}@s3.example.org", "holds credentials"),
        ("s3://models/x", "https://s3.example.org/models", "has a path"),
        ("s3://models/x", "s3.example.org", "must begin with https"),
        ("gs://models/x", "https://gcs.example.org", "Google's has one address"),
    ],
)
def test_another_endpoint_is_refused(address: str, endpoint: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        place_of(address, endpoint)
    assert SECRET not in str(caught.value)


def test_s3_is_asked_in_the_region_of_the_place_or_the_declared_one() -> None:
    assert place_of("s3://models", place="eu-west-1").region == "eu-west-1"
    assert place_of("s3://models", region="eu-central-1", place="Frankfurt").region == "eu-central-1"
    with pytest.raises(ValueError, match="store_region is missing: 'Frankfurt' is no region of S3"):
        place_of("s3://models", place="Frankfurt")
    with pytest.raises(ValueError, match="store_region is for S3"):
        place_of("gs://models", region="europe-west4")


def fleet_with(folder: Path, **regions: dict[str, Any]) -> Path:
    fleet = toy_fleet(("toy",))
    for name, declared in regions.items():
        fleet["regions"][name.replace("_", "-")] |= declared
    from fleet.home import Home

    home = Home(folder)
    write_fleet(home, fleet)
    return home.fleet_file


def test_a_region_declares_its_store_and_one_that_does_not_has_its_folder(tmp_path: Path) -> None:
    fleet = read_fleet(fleet_with(tmp_path, us_east_1={"store": "s3://models/us"}))
    assert {name: region.store_place for name, region in fleet.regions.items()} == {
        "us-east-1": StorePlace(StoreKind.S3, "models", "us", region="us-east-1"),
        "europe-west4": None,
        "southeastasia": None,
    }


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"store": f"s3://AKIA:{SECRET}@models/us"}, r"regions.us-east-1 \(line \d+\): store holds credentials"),
        ({"store_endpoint": "https://s3.example.org"}, r"store_endpoint and store_region belong to a store"),
        ({"store": 7}, r"regions.us-east-1.store"),
    ],
)
def test_a_wrong_store_is_told_with_its_line_and_without_its_secret(declared: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match=says) as caught:
        read_fleet(fleet_with(tmp_path, us_east_1=declared))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("first", "second"), [("models/a", "models/a"), ("models", "models/a"), ("models/a/b", "models/a")])
def test_two_regions_never_share_a_store(first: str, second: str, tmp_path: Path) -> None:
    places = {"us_east_1": {"store": f"s3://{first}"}, "europe_west4": {"store": f"s3://{second}", "store_region": "us-east-1"}}
    with pytest.raises(FleetFileError, match="us-east-1 and europe-west4 have one store"):
        read_fleet(fleet_with(tmp_path, **places))


def test_stores_beside_one_another_are_two(tmp_path: Path) -> None:
    elsewhere = {"store": "s3://models/a", "store_endpoint": "https://s3.example.org"}
    read_fleet(fleet_with(tmp_path, us_east_1={"store": "s3://models/a"}, europe_west4=elsewhere, southeastasia={"store": "gs://models/a"}))
    assert not place_of("s3://models/a", place="eu-west-1").overlaps(place_of("s3://models/ab", place="eu-west-1"))


def test_the_origin_has_its_address_in_the_settings(tmp_path: Path) -> None:
    assert origin_place(Settings(home=tmp_path)) is None
    found = origin_place(Settings(home=tmp_path, origin_store="s3://models/origin", origin_store_region="eu-west-1"))
    assert found == StorePlace(StoreKind.S3, "models", "origin", region="eu-west-1")
    with pytest.raises(InputError, match="CONVOY_ORIGIN_STORE: store_region is missing"):
        origin_place(Settings(home=tmp_path, origin_store="s3://models/origin"))
    with pytest.raises(InputError, match="is not set, and its endpoint or region is"):
        origin_place(Settings(home=tmp_path, origin_store_endpoint="https://s3.example.org"))


def test_only_the_credentials_of_the_kinds_that_are_used_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in STORE_VARIABLES.values():
        for name in names:
            monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.org")
    assert set(store_environment(("s3",))) == set(STORE_VARIABLES["s3"])
    assert store_environment(()) == {}
    assert set(STORE_VARIABLES) == set(StoreKind)
