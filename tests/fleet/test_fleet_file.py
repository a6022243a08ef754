"""fleet.yaml is read whole, and every problem names its path, its line and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.declared import Predictions
from fleet.errors import FleetFileError, UnknownName
from fleet.reading import model_of, read_fleet

GOOD = """\
version: 1
name: demo
regions:
  us-east-1: {target: local, provider: aws, place: us-east-1, jurisdiction: US}
models:
  employment:
    owner: a@example.org
    on_call: "#oncall"
    runbook: https://runbooks.example.org
    regions: [us-east-1]
    slo:
      us-east-1: {latency_ms: 300, error_rate: 0.01}
    rto_seconds: 60
    rpo_releases: 0
    rollback: {margin: 0.01}
"""

ROLLBACK = "rollback: {margin: 0.01}"
BLUE_GREEN = "traffic: {mode: blue-green, bake_seconds: 60}"


def drift(key: str) -> tuple[str, str]:
    """Add a drift section that has one key more than it needs."""
    return ROLLBACK, f"{ROLLBACK}\n    drift: {{reference: {{repository: rows, path: v1.parquet}}, {key}}}"


def predictions(keys: str) -> tuple[str, str]:
    """Add a section on the model's answers."""
    return ROLLBACK, f"{ROLLBACK}\n    predictions: {{{keys}}}"


def traffic(keys: str) -> tuple[str, str]:
    """Add a traffic section."""
    return ROLLBACK, f"{ROLLBACK}\n    traffic: {{{keys}}}"


def written(folder: Path, text: str) -> Path:
    file = folder / "fleet.yaml"
    file.write_text(text)
    return file


def test_a_good_file_is_read_into_frozen_models(tmp_path: Path) -> None:
    fleet = read_fleet(written(tmp_path, GOOD))
    assert fleet.models["employment"].slo["us-east-1"].latency_ms == 300
    with pytest.raises(ValueError, match="frozen"):
        fleet.models["employment"].owner = "somebody else"  # type: ignore[misc]


def test_what_a_model_answers_by_number_is_optional_and_has_defaults(tmp_path: Path) -> None:
    assert read_fleet(written(tmp_path, GOOD)).models["employment"].predictions is None
    found = read_fleet(written(tmp_path, GOOD.replace(*predictions("low: -1, high: 2.5, shift: 0.1")))).models["employment"].predictions
    assert found == Predictions(low=-1.0, high=2.5, shift=0.1, disagreement=0.05, tolerance=0.05)


def test_the_fleet_that_is_shipped_is_good() -> None:
    assert read_fleet(Path(__file__).parents[2] / "examples/fleet.yaml").models


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("    owner: a@example.org\n", ""), "models.employment.owner (line 6): is missing"),
        (("rto_seconds: 60", "rto_seconds: -1"), "models.employment.rto_seconds (line 13): Input should be greater than 0"),
        (("margin: 0.01", "margin: 0.01, alpa: 0.1"), "models.employment.rollback.alpa (line 15): unknown key (known: alpha"),
        (("target: local", "target: lokal"), "regions.us-east-1.target (line 4): Input should be 'local', 'aws'"),
        (("regions: [us-east-1]", "regions: [us-east-1, mars]"), "has none for mars"),
        (("latency_ms: 300", "latency_ms: 1000000000000"), "models.employment.slo.us-east-1.latency_ms (line 12): Input should be less"),
        (("jurisdiction: US", "jurisdiction: usa"), "regions.us-east-1.jurisdiction (line 4)"),
        (("version: 1", "version: 2"), "version (line 1): Input should be 1"),
        (("rollback: {margin: 0.01}", "rollback: {margin: 0.01}\n    contract: ../../etc/passwd"), "must be a path below"),
        (("rollback: {margin", "rollback: {margin: 0.01"), "line 15: expected"),
        (drift("psi: '0'"), "models.employment.drift.psi (line 16): Input should be greater than 0"),
        (drift("limit: 1"), "models.employment.drift.limit (line 16): unknown key (known: reference, window_seconds, minimum_rows, psi"),
        (drift("share: 1.5"), "models.employment.drift.share (line 16)"),
        (drift("minimum_rows: 5"), "models.employment.drift.minimum_rows (line 16): Input should be greater than or equal to 100"),
        ((ROLLBACK, ROLLBACK + "\n    drift: {psi: '0.2'}"), "models.employment.drift.reference (line 16): is missing"),
        (predictions("low: 1, high: 1, shift: 0.1"), "models.employment.predictions (line 16): low must be below high (found 1 and 1)"),
        (predictions("low: 0, high: .inf, shift: 0.1"), "models.employment.predictions.high (line 16): Input should be a finite number"),
        (predictions("low: 0, high: 1"), "models.employment.predictions.shift (line 16): is missing"),
        (predictions("low: 0, high: 1, shift: 0"), "models.employment.predictions.shift (line 16): Input should be greater than 0"),
        (
            predictions("low: 0, high: 1, shift: 0.1, disagreement: 1"),
            "models.employment.predictions.disagreement (line 16): Input should be",
        ),
        (predictions("low: 0, high: 1, shift: 0.1, tolerance: -1"), "models.employment.predictions.tolerance (line 16): Input should be"),
        ((ROLLBACK, f"{ROLLBACK}\n    canary: {{max_seconds: 60}}"), "canary.max_seconds must cover the steps"),
        (traffic("limits: {requests: 5000000000}"), "models.employment.traffic.limits.requests (line 16): Input should be less"),
        (traffic("modus: canary"), "models.employment.traffic.modus (line 16): unknown key (known: mode, bake_seconds, pin_header"),
        (traffic("mode: rainbow"), "models.employment.traffic.mode (line 16): Input should be 'canary' or 'blue-green'"),
        (traffic("mode: blue-green"), "blue-green needs bake_seconds"),
        (traffic("mode: blue-green, bake_seconds: 60, sticky: {header: x-user}"), "never splits them"),
        ((ROLLBACK, f"{ROLLBACK}\n    canary: {{steps: [{{weight: 5, seconds: 9}}]}}\n    {BLUE_GREEN}"), "declare one of them"),
        (traffic("bake_seconds: 0"), "models.employment.traffic.bake_seconds (line 16): Input should be greater than 0"),
        (traffic("pin_header: X-Pin"), "'X-Pin' must be a header's name in small letters"),
        (traffic("pin_header: x-convoy-residency"), "'x-convoy-residency' has another meaning already"),
        (traffic("pin_header: x-user, sticky: {header: x-user}"), "cannot be pin_header and sticky at once"),
        (traffic("sticky: {header: x-user, cookie: session}"), "needs a header or a cookie, and not both"),
        (traffic("sticky: {}"), "needs a header or a cookie, and not both"),
        (traffic("shadow: {percent: 20}"), "models.employment.traffic.shadow.seconds (line 16): is missing"),
        (traffic("shadow: {percent: 0, seconds: 5}"), "models.employment.traffic.shadow.percent (line 16)"),
        (traffic("residency: {marks: {}}"), "models.employment.traffic.residency.marks (line 16)"),
        (traffic("residency: {marks: {us: []}}"), "models.employment.traffic.residency.marks.us (line 16)"),
        (traffic("residency: {marks: {us: [US]}, unmarked: eu}"), "unmarked is 'eu', which is none of the marks us"),
        (traffic("residency: {marks: {eu: [NL]}}"), "traffic.residency.marks.eu names NL, where no region is (known: US)"),
        (traffic("limits: {requests: 4, pending: 21}"), "pending must be 20 at most (5 times requests)"),
        (traffic("choice: {speed: 1}"), "models.employment.traffic.choice.speed (line 16): unknown key (known: latency, load, price"),
        (traffic("choice: {latency: 0, load: 0}"), "latency, load and price must not all be 0"),
        (traffic("choice: {latency: 0}"), "choice weighs load alone, which is measured against limits"),
        (
            traffic("choice: {latency: -1}"),
            "models.employment.traffic.choice.latency (line 16): Input should be greater than or equal to 0",
        ),
        (traffic("choice: {hysteresis: 0}"), "models.employment.traffic.choice.hysteresis (line 16)"),
        (traffic("choice: {floor_percent: 0}"), "models.employment.traffic.choice.floor_percent (line 16)"),
        (traffic("choice: {price: 1}"), "and us-east-1 declares no prices"),
    ],
)
def test_a_problem_names_its_path_its_line_and_what_is_allowed(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    with pytest.raises(FleetFileError) as problem:
        read_fleet(written(tmp_path, GOOD.replace(*change)))
    assert says in str(problem.value)
    assert "nothing was done" in str(problem.value)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("    owner: a@example.org\n", "").replace("rpo_releases: 0", "rpo_releases: x")
    with pytest.raises(FleetFileError, match=r"owner.*rpo_releases|rpo_releases.*owner"):
        read_fleet(written(tmp_path, text))


@pytest.mark.parametrize("text", ["", "[]", "just words", "a: [1", "\x00"])
def test_a_half_written_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FleetFileError):
        read_fleet(written(tmp_path, text))


def test_an_unknown_model_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="known: employment"):
        model_of(read_fleet(written(tmp_path, GOOD)), "emploiment")


def test_a_mark_that_leaves_a_model_no_region_is_refused_though_the_fleet_has_one_there(tmp_path: Path) -> None:
    elsewhere = "  eu-west: {target: local, provider: aws, place: eu-west, jurisdiction: IE}\nmodels:"
    text = GOOD.replace("models:", elsewhere).replace(*traffic("residency: {marks: {eu: [IE], us: [US]}}"))
    with pytest.raises(FleetFileError, match=r"marks\.eu leaves the model no region \(it has us-east-1 in US\)"):
        read_fleet(written(tmp_path, text))


def test_everything_that_may_be_said_of_traffic_is_read(tmp_path: Path) -> None:
    keys = (
        "mode: canary, bake_seconds: 300, pin_header: x-convoy-revision, sticky: {cookie: session}, "
        "shadow: {percent: 20, seconds: 120, answers: 500}, residency: {marks: {us: [US]}, unmarked: us}, limits: {requests: 64}, "
        "choice: {latency: 2, load: 1, price: 0, hysteresis: 0.05, seconds: 3, return_seconds: 10, floor_percent: 2}"
    )
    fleet = read_fleet(written(tmp_path, GOOD.replace(*traffic(keys))))
    found = fleet.models["employment"].traffic
    assert found.residency is not None
    assert found.residency.regions("us", fleet.jurisdictions(fleet.models["employment"])) == ("us-east-1",)
    assert found.model_fields_set == set(type(found).model_fields)


def test_without_a_word_on_traffic_nothing_of_it_holds(tmp_path: Path) -> None:
    found = read_fleet(written(tmp_path, GOOD)).models["employment"].traffic
    assert [name for name in type(found).model_fields if getattr(found, name) not in (None, "canary")] == []
