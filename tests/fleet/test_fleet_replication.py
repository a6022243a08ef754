"""Where a revision may lie, and who must have it before a release goes on, is decided by what fleet.yaml declares."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.declared import Fleet
from fleet.errors import FleetFileError, Refused
from fleet.home import Home
from fleet.reading import read_fleet
from fleet.transfers import grants_for
from support.stack import REGIONS, toy_fleet, write_fleet

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
GRANT = {"classes": ["personal"], "home": "NL", "to": ["US"], "basis": "SCC", "approver": "dpo@example.org", "expires": "2026-11-23"}
PERSONAL = {"classes": ["personal"], "home": "NL"}


def declared(folder: Path, replication: dict[str, Any], transfers: dict[str, Any] | None = None, **model: Any) -> Fleet:
    fleet = toy_fleet(("m",))
    fleet["models"]["m"] = {**fleet["models"]["m"], "replication": replication, **model}
    home = Home(folder / "home")
    write_fleet(home, {**fleet, "transfers": transfers or {}})
    return read_fleet(home.fleet_file)


def test_without_a_word_every_region_acknowledges_and_no_border_needs_a_grant(tmp_path: Path) -> None:
    fleet = declared(tmp_path, {})
    assert fleet.models["m"].quorum == tuple(REGIONS)
    assert all(grants_for(fleet, "m", region, NOW) == () for region in REGIONS)


def test_a_quorum_is_its_primary_and_standbys(tmp_path: Path) -> None:
    told = {"consistency": "eventual", "primary": "europe-west4", "standbys": ["us-east-1"]}
    assert declared(tmp_path, told).models["m"].quorum == ("europe-west4", "us-east-1")


@pytest.mark.parametrize(
    ("replication", "model", "says"),
    [
        ({"consistency": "eventual"}, {}, "eventual needs a primary and at least one of standbys"),
        ({"consistency": "eventual", "primary": "us-east-1"}, {}, "at least one of standbys"),
        ({"primary": "us-east-1"}, {}, "strict waits for every region"),
        ({"consistency": "eventual", "primary": "us-east-1", "standbys": ["us-east-1"]}, {}, "must be different regions"),
        ({"consistency": "eventual", "primary": "mars", "standbys": ["us-east-1"]}, {}, "names mars, which this model does not use"),
        ({"classes": ["personal"]}, {}, "home and classes belong together"),
        ({"quorum": 2}, {}, "quorum"),
        ({"lag_seconds": 0}, {}, "lag_seconds"),
        (
            {"consistency": "eventual", "primary": "us-east-1", "standbys": ["europe-west4"]},
            {"canary": {"waves": [[region] for region in REGIONS], "steps": [{"weight": 20, "seconds": 1}], "max_seconds": 60}},
            "canary.waves walk every region",
        ),
        (
            {"consistency": "eventual", "primary": "us-east-1", "standbys": ["europe-west4"]},
            {"traffic": {"residency": {"marks": {"asia": ["SG"]}}}},
            "no region that may answer asia",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, replication: dict[str, Any], model: dict[str, Any], says: str) -> None:
    with pytest.raises(FleetFileError, match=says):
        declared(tmp_path, replication, **model)


@pytest.mark.parametrize("change", [{"expires": "2026-02-30"}, {"expires": "soon"}, {"approver": ""}, {"to": []}, {"classes": []}])
def test_a_grant_that_nobody_can_be_held_to_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(FleetFileError, match=next(iter(change))):
        declared(tmp_path, PERSONAL, {"eu-to-us": GRANT | change})


def test_a_grant_lets_its_classes_over_its_border_until_the_end_of_its_last_day(tmp_path: Path) -> None:
    fleet = declared(tmp_path, PERSONAL, {"eu-to-us": GRANT})
    assert grants_for(fleet, "m", "europe-west4", NOW) == ()
    assert grants_for(fleet, "m", "us-east-1", datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)) == ("eu-to-us",)
    with pytest.raises(Refused, match="lacks a grant that holds for personal data from NL to US"):
        grants_for(fleet, "m", "us-east-1", datetime(2026, 11, 24, tzinfo=UTC))
    with pytest.raises(Refused, match="from NL to SG"):
        grants_for(fleet, "m", "southeastasia", NOW)


@pytest.mark.parametrize("change", [{"classes": ["public"]}, {"home": "SG"}])
def test_a_grant_for_other_data_does_not_count(tmp_path: Path, change: dict[str, Any]) -> None:
    fleet = declared(tmp_path, PERSONAL, {"eu-to-us": GRANT | change})
    with pytest.raises(Refused, match="lacks a grant"):
        grants_for(fleet, "m", "us-east-1", NOW)


def test_each_class_needs_its_own_grant_and_one_may_be_for_several(tmp_path: Path) -> None:
    both = {"classes": ["personal", "health"], "home": "NL"}
    with pytest.raises(Refused, match="for health data"):
        grants_for(declared(tmp_path, both, {"a": GRANT}), "m", "us-east-1", NOW)
    apart = {"a": GRANT, "b": GRANT | {"classes": ["health"]}}
    assert grants_for(declared(tmp_path, both, apart), "m", "us-east-1", NOW) == ("a", "b")
    together = {"a": GRANT | {"classes": ["health", "personal"]}}
    assert grants_for(declared(tmp_path, both, together), "m", "us-east-1", NOW) == ("a",)


def test_what_must_stay_within_stays_whatever_is_granted(tmp_path: Path) -> None:
    fleet = declared(tmp_path, PERSONAL | {"within": ["NL"]}, {"eu-to-us": GRANT})
    with pytest.raises(Refused, match=r"must not lie in US: models\.m\.replication\.within has NL"):
        grants_for(fleet, "m", "us-east-1", NOW)
