"""Where may be fetched from: server-side request forgery, CVE-2025-54381 (BentoML), and what Git and URLs can hide."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.addresses import Reach, is_remote, shown
from fleet.errors import Refused, Unreachable
from support.attacks import ADDRESSES, DISGUISED, INSIDE, PUBLIC

REACH = Reach(resolve=lambda host: ADDRESSES.get(host, ()))


@pytest.mark.parametrize("url", INSIDE)
def test_ssrf_an_address_of_this_machine_its_network_or_a_metadata_service_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        REACH.check(url, "the DVC remote")


@pytest.mark.parametrize("url", DISGUISED)
def test_what_a_place_hides_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        REACH.check(url, "the DVC remote")


@pytest.mark.parametrize("url", PUBLIC)
def test_public_places_buckets_and_this_disk_may_be_fetched_from(url: str) -> None:
    REACH.check(url, "the DVC remote")


def test_private_places_that_are_trusted_may_and_a_metadata_service_never() -> None:
    trusting = Reach(Reach.of("Inside.example.org, 192.168.0.0/16, 169.254.0.0/16, cloud.example.org").trusted, REACH.resolve)
    trusting.check("https://inside.example.org/rows", "rows")
    trusting.check("http://192.168.7.7/rows", "rows")
    for url in ("http://192.169.0.1.nip/", "http://10.0.0.1/", "http://169.254.169.254/", "https://cloud.example.org/"):
        with pytest.raises((Refused, Unreachable)):
            trusting.check(url, "rows")


def test_a_name_without_an_address_may_have_one_later() -> None:
    with pytest.raises(Unreachable, match="has no address"):
        REACH.check("https://gone.example.org/rows", "rows")


def test_a_password_is_never_shown() -> None:
    with pytest.raises(Refused) as told:
        REACH.check("https://anna:hunter2@git.example.org/", "rows")
    assert "hunter2" not in str(told.value)
    assert shown("ssh://a:b@c/d\n") == "ssh://…@c/d?"


@settings(deadline=None)
@given(st.ip_addresses())
def test_no_address_that_is_not_public_is_ever_asked(address: object) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    unfit = REACH.unfit(f"https://{host}/")
    if not address.is_global or address.is_multicast:  # type: ignore[attr-defined]
        assert unfit


def test_what_git_takes_for_a_host_is_remote() -> None:
    assert is_remote("git@host:rows.git")
    assert is_remote("host:rows.git")
    assert is_remote("host:/srv/rows.git")
    assert is_remote("a:rows.git")
    assert is_remote("some one+x@host:rows.git")
    assert is_remote("host:rows\n.git")
    assert is_remote("ext::sh")
    assert not is_remote("./host:rows")
    assert not is_remote("/srv/rows")
    assert not is_remote("/srv/rows:of/people")
    assert not is_remote("rows/of:people")
