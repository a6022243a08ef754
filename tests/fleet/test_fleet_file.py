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


def drift(key: str) -> tuple[str, str]:
    """Add a drift section that has one key more than it needs."""
    return ROLLBACK, f"{ROLLBACK}\n    drift: {{reference: {{repository: rows, path: v1.parquet}}, {key}}}"


def predictions(keys: str) -> tuple[str, str]:
    """Add a section on the model's answers."""
    return ROLLBACK, f"{ROLLBACK}\n    predictions: {{{keys}}}"


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
