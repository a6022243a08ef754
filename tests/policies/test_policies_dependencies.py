"""The gate of dependencies: advisories in OSV form against what a model needs."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rights_world import CRITICAL_V3, CRITICAL_V4, HIGH_V3, NOW, advisory, candidate, feed, gated, needs

from fleet.components import Component, Needs
from fleet.errors import InputError
from fleet.evidence import GateOutcome, GateResult
from policies.dependencies.gate import DependenciesSound
from policies.dependencies.osv import affects
from policies.dependencies.severity import Severity, severity_of
from policies.waived import NotHeld, Waived, Waivers

GATE = DependenciesSound()
MINE = needs("requests==2.31.0", "numpy==2.4.6")
OTHERS = advisory("GHSA-9", package="django")


def asked(tmp_path: Path, *records: Any, **gates: Any) -> GateResult:
    """Ask about a model that needs requests 2.31.0 and numpy, by some advisories and one about something else."""
    place = feed(tmp_path / "osv.json", *records, OTHERS)
    return GATE.evaluate(candidate(tmp_path, declared=gated(dependencies=gates), needs=MINE, advisories=place))


def test_a_critical_flaw_fails_and_says_what_is_needed_by_whom_and_fixed_where(tmp_path: Path) -> None:
    result = asked(tmp_path, advisory())
    assert result.outcome is GateOutcome.FAILED
    for said in (
        "GHSA-1 in requests 2.31.0 (critical)",
        "the model through mlflow",
        "Sends passwords",
        "fixed in 2.32.0",
        "two people waive",
    ):
        assert said in result.reasons[0]
    assert result.tables[0].rows[0][:4] == ("GHSA-1", "requests 2.31.0", "critical", "2.32.0")
    assert dict(result.figures)["advisories"] == "2"


def test_what_nothing_bad_is_known_of_passes(tmp_path: Path) -> None:
    result = asked(tmp_path)
    assert result.outcome is GateOutcome.PASSED
    assert dict(result.figures) == {"packages": "2", "advisories": "1", "newest advisory": "2026-11-20T08:00:00+00:00"}


def test_it_applies_where_fleet_yaml_or_the_setting_asks_for_it(tmp_path: Path) -> None:
    nobody = candidate(tmp_path, needs=MINE)
    assert GATE.evaluate(nobody).outcome is GateOutcome.NOT_APPLICABLE
    by_setting = GATE.evaluate(replace(nobody, advisories=feed(tmp_path / "osv.json", advisory())))
    assert by_setting.outcome is GateOutcome.FAILED
    by_fleet = GATE.evaluate(replace(nobody, declared=gated(dependencies={})))
    assert by_fleet.outcome is GateOutcome.INCONCLUSIVE
    assert "CONVOY_ADVISORIES" in by_fleet.reasons[0]


def test_advisories_that_are_too_old_are_inconclusive_and_say_how_old(tmp_path: Path) -> None:
    old = [advisory(modified="2026-11-15T00:00:00Z", severity=[{"type": "CVSS_V3", "score": HIGH_V3}])]
    place = feed(tmp_path / "osv.json", *old)
    given = candidate(tmp_path, declared=gated(dependencies={"advisory_days": 9}), needs=MINE, advisories=place)
    assert GATE.evaluate(given).outcome is GateOutcome.PASSED
    late = GATE.evaluate(replace(given, now=NOW + timedelta(days=1)))
    assert late.outcome is GateOutcome.INCONCLUSIVE
    assert "the newest is 9 days old, and 9 is the limit" in late.reasons[0]


def test_an_advisory_of_the_future_does_not_make_old_ones_new(tmp_path: Path) -> None:
    result = asked(tmp_path, advisory("GHSA-2", package="flask", modified="2099-01-01T00:00:00Z"))
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert "in the future" in result.reasons[0]


@pytest.mark.parametrize(
    "record",
    [{"id": ""}, "no JSON", {"id": "A", "modified": "soon"}, {"id": "A", "schema_version": "2.0.0"}, {"id": "A", "affected": 3}, None],
)
def test_an_advisory_that_cannot_be_read_is_no_all_clear(tmp_path: Path, record: Any) -> None:
    assert asked(tmp_path, record).outcome is GateOutcome.INCONCLUSIVE


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_place_without_an_advisory_is_no_all_clear(tmp_path: Path, text: str) -> None:
    place = tmp_path / "osv.json"
    place.write_text(text)
    given = candidate(tmp_path, needs=MINE, advisories=place)
    assert GATE.evaluate(given).outcome is GateOutcome.INCONCLUSIVE
    assert GATE.evaluate(replace(given, advisories=tmp_path / "nowhere")).outcome is GateOutcome.INCONCLUSIVE


def test_the_limit_of_severity_is_declared(tmp_path: Path) -> None:
    high = advisory(severity=[{"type": "CVSS_V3", "score": HIGH_V3}])
    assert asked(tmp_path, high).outcome is GateOutcome.PASSED
    assert asked(tmp_path, high).tables[0].rows[0][2] == "high", "it is shown all the same"
    assert asked(tmp_path, high, fail_at="high").outcome is GateOutcome.FAILED


def test_what_nobody_rated_is_inconclusive_or_counts_as_critical_as_declared(tmp_path: Path) -> None:
    unrated = advisory(severity=None)
    assert asked(tmp_path, unrated).outcome is GateOutcome.INCONCLUSIVE
    assert asked(tmp_path, unrated, unknown="critical").outcome is GateOutcome.FAILED


def test_a_withdrawn_advisory_counts_from_its_day_on_no_more(tmp_path: Path) -> None:
    assert asked(tmp_path, advisory(withdrawn="2026-11-21T00:00:00Z")).outcome is GateOutcome.PASSED
    assert asked(tmp_path, advisory(withdrawn="2026-12-24T00:00:00Z")).outcome is GateOutcome.FAILED


def test_several_advisories_of_one_flaw_are_told_once_under_the_name_that_others_know_and_as_the_worst_of_them(tmp_path: Path) -> None:
    records = [
        advisory("PYSEC-7", aliases=["CVE-2026-1"], severity=None),
        advisory("GHSA-1", aliases=["CVE-2026-1"]),
        advisory("GHSA-2", aliases=["CVE-2026-2"]),
    ]
    result = asked(tmp_path, *records)
    assert [reason.split(" (")[0] for reason in result.reasons] == ["CVE-2026-1 in requests 2.31.0", "CVE-2026-2 in requests 2.31.0"]
    assert result.tables[0].rows[0][0] == "CVE-2026-1 GHSA-1 PYSEC-7"


def test_packages_are_known_by_their_normalised_name_and_only_those_of_pypi(tmp_path: Path) -> None:
    place = feed(tmp_path / "osv.json", advisory(package="Flask_CORS"))
    given = candidate(tmp_path, needs=needs("flask-cors==2.0"), advisories=place)
    assert GATE.evaluate(given).outcome is GateOutcome.FAILED
    other = advisory(package="flask-cors")
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert GATE.evaluate(replace(given, advisories=feed(tmp_path / "npm.json", other))).outcome is GateOutcome.PASSED


def waived(*things: str, why: str = "") -> Waivers:
    if why:
        return Waivers(not_held=tuple(NotHeld("dependencies", thing, "w.json", why) for thing in things))
    return Waivers(tuple(Waived("dependencies", thing, "w.json", ("anna", "ben"), "behind a firewall", "2026-12-01") for thing in things))


def test_a_waiver_lets_exactly_its_flaw_go_under_any_of_its_names(tmp_path: Path) -> None:
    place = feed(tmp_path / "osv.json", advisory("GHSA-1", aliases=["CVE-2026-1"]), advisory("GHSA-2"))
    given = candidate(tmp_path, needs=MINE, advisories=place, waivers=waived("GHSA-1 in requests 2.31.0"))
    result = GATE.evaluate(given)
    assert [reason.split(" (")[0] for reason in result.reasons] == ["GHSA-2 in requests 2.31.0"]
    both = GATE.evaluate(replace(given, waivers=waived("CVE-2026-1 in requests 2.31.0", "GHSA-2 in requests 2.31.0")))
    assert both.outcome is GateOutcome.PASSED
    assert "by anna and ben until 2026-12-01: behind a firewall" in dict(both.figures).values()
    not_held = GATE.evaluate(replace(given, waivers=waived("GHSA-2 in requests 2.31.0", why="expired at noon")))
    assert any("w.json expired at noon" in reason for reason in not_held.reasons)


def test_what_the_model_needs_must_be_known(tmp_path: Path) -> None:
    place = feed(tmp_path / "osv.json", OTHERS)
    given = candidate(tmp_path, needs=Needs((), ("requirement 'x' is not installed",)), advisories=place)
    assert GATE.evaluate(given).outcome is GateOutcome.INCONCLUSIVE
    assert GATE.evaluate(replace(given, needs=None, declared=gated(dependencies={}))).outcome is GateOutcome.INCONCLUSIVE


def zipped(folder: Path, texts: dict[str, str]) -> Path:
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in texts.items():
            opened.writestr(name, text)
    return folder / "all.zip"


def tarred(folder: Path, texts: dict[str, str]) -> Path:
    with tarfile.open(folder / "all.tar.gz", "w:gz") as opened:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text.encode()))
    return folder / "all.tar.gz"


def unpacked(folder: Path, texts: dict[str, str]) -> Path:
    (folder / "all").mkdir()
    for name, text in texts.items():
        (folder / "all" / name).write_text(text)
    return folder / "all"


def lines(folder: Path, texts: dict[str, str]) -> Path:
    (folder / "all.jsonl").write_text("\n\n".join(texts.values()))
    return folder / "all.jsonl"


@pytest.mark.parametrize("form", [zipped, tarred, unpacked, lines])
def test_advisories_may_lie_in_a_folder_an_archive_or_lines(tmp_path: Path, form: Any) -> None:
    texts = {f"GHSA-{number}.json": json.dumps(advisory(f"GHSA-{number}")) for number in range(3)}
    given = candidate(tmp_path, needs=MINE, advisories=form(tmp_path, texts))
    result = GATE.evaluate(given)
    assert len(result.reasons) == 3
    assert GATE.evaluate(given) == result, "it can be asked again in the same folder"
    assert not any((tmp_path / "work").glob("*")), "what was unpacked is gone"
    assert dict(result.figures)["advisories"] == "3"


def test_everything_must_be_pinned_by_a_hash_where_a_lock_is_declared(tmp_path: Path) -> None:
    hashed = "requests==2.31.0 --hash=sha256:" + "a" * 64
    (tmp_path / "lock.txt").write_text(f"{hashed} \\\n  --hash=sha256:{'b' * 64}\nnumpy==2.4.5 --hash=sha256:{'c' * 64}\n")
    model = gated(dependencies={"lock": "lock.txt"})
    given = candidate(tmp_path, declared=model, needs=MINE, advisories=feed(tmp_path / "osv.json", OTHERS), fleet_folder=tmp_path)
    result = GATE.evaluate(given)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons == ("numpy 2.4.6 (needed by the model through mlflow) is pinned at 2.4.5 by gates.dependencies.lock",)
    (tmp_path / "lock.txt").write_text("requests==2.31.0\n")
    with pytest.raises(InputError, match="by no SHA-256 hash"):
        GATE.evaluate(given)


EVENTS = {
    "below": [{"introduced": "0"}, {"fixed": "2.0"}],
    "last": [{"introduced": "1.0"}, {"last_affected": "1.5"}],
    "twice": [{"introduced": "1.0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "2.1"}],
    "ever": [{"introduced": "1.4"}],
    "unsorted": [{"fixed": "2.0"}, {"introduced": "1.0"}],
    "limited": [{"introduced": "0"}, {"limit": "1.5"}],
}


@pytest.mark.parametrize(
    ("events", "affected", "not_affected"),
    [
        ("below", ["0.1", "1.9.9", "2.0rc1", "2.0.dev3"], ["2.0", "2.0.post1", "3"]),
        ("last", ["1.0", "1.5"], ["0.9", "1.5.1", "1.0rc1"]),
        ("twice", ["1.1", "2.0", "2.0.5"], ["0.9", "1.2", "1.9", "2.1"]),
        ("ever", ["1.4", "99"], ["1.3"]),
        ("unsorted", ["1.0", "1.9"], ["0.9", "2.0"]),
        ("limited", ["0.1", "1.4"], ["1.5", "2"]),
    ],
)
def test_ranges_are_followed_as_osv_says_and_versions_compared_by_pep_440(
    events: str, affected: list[str], not_affected: list[str]
) -> None:
    told = {"ranges": [{"type": "ECOSYSTEM", "events": EVENTS[events]}]}
    assert [version for version in affected if affects(told, version) != (True, "")] == []
    assert [version for version in not_affected if affects(told, version) != (False, "")] == []


def test_a_list_of_versions_counts_beside_the_ranges() -> None:
    told = {"versions": ["1.0", "1.1.0"], "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}
    assert affects(told, "1.1") == (True, "")
    assert affects(told, "1.2") == (False, ""), "the range of commits is said in versions beside it"


@pytest.mark.parametrize(
    "told",
    [
        {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]},
        {"ranges": [{"type": "SEMVER", "events": [{"introduced": "1.0.0"}]}]},
        {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "yesterday"}]}]},
        {"ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "1.0"}]}]},
        {"ranges": [{"type": "ECOSYSTEM", "events": []}]},
        {},
    ],
)
def test_what_cannot_be_compared_is_not_an_all_clear(tmp_path: Path, told: dict[str, Any]) -> None:
    hit, unclear = affects(told, "1.2.3")
    assert not hit
    assert unclear
    record = advisory(affected=[{"package": {"ecosystem": "PyPI", "name": "requests"}, **told}])
    assert asked(tmp_path, record).outcome is GateOutcome.INCONCLUSIVE


def rated(*scores: tuple[str, str], word: str = "") -> Severity:
    record: dict[str, Any] = {"severity": [{"type": kind, "score": score} for kind, score in scores]}
    return severity_of(record | ({"database_specific": {"severity": word}} if word else {}), {})


def test_severity_is_the_worst_that_is_said_and_a_score_that_cannot_be_read_is_no_all_clear() -> None:
    assert rated(("CVSS_V3", CRITICAL_V3)) is rated(("CVSS_V4", CRITICAL_V4)) is Severity.CRITICAL
    assert rated(("CVSS_V3", HIGH_V3), ("CVSS_V4", CRITICAL_V4)) is Severity.CRITICAL
    assert rated(("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P")) is Severity.HIGH
    assert rated(("CVSS_V3", HIGH_V3), ("CVSS_V4", "CVSS:4.0/AV:Z")) is Severity.UNKNOWN
    assert rated(("CVSS_V9", "x")) is Severity.UNKNOWN
    assert rated(("Ubuntu", "low"), word="MODERATE") is Severity.MEDIUM
    assert rated(word="whatever") is rated() is Severity.UNKNOWN
    assert severity_of({}, {"severity": [{"type": "CVSS_V3", "score": CRITICAL_V3}]}) is Severity.CRITICAL


def test_a_component_has_a_package_url() -> None:
    assert Component("torch", "2.1+cpu").purl == "pkg:pypi/torch@2.1%2Bcpu"
