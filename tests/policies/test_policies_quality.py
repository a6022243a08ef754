from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from policies_world import declared

from fleet.declared import Model
from fleet.errors import InputError
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.gates import STAGES
from policies.metric import MetricAgainstChampion
from policies.quality import Compared, QualityAgainstChampion
from policies.workers.compare import compare
from policies.workers.compared import Bins, CompareRequest, Comparison, Part
from policies.workers.messages import Predictions

GATE = QualityAgainstChampion()
ROWS = 4000


def asking(metric: str = "roc_auc", **quality: Any) -> Model:
    """The declared model with gates.quality."""
    model = declared(metric=metric)
    return Model.model_validate(model.model_dump() | {"gates": {"quality": {"margin": "0.01", "resamples": 2000} | quality}})


def figure(result: GateResult, name: str) -> str:
    return dict(result.figures)[name]


@pytest.fixture
def population(tmp_path: Path) -> tuple[Path, pandas.DataFrame, np.ndarray]:
    """Rows of two regions and their true probabilities."""
    random = np.random.default_rng(11)
    chance = random.beta(1, 1, ROWS)
    region = np.where(random.random(ROWS) < 0.15, "north", "south")
    frame = pandas.DataFrame({"age": random.integers(18, 80, ROWS), "region": region, "employed": random.random(ROWS) < chance})
    frame.to_parquet(tmp_path / "population.parquet")
    return tmp_path / "population.parquet", frame, chance


def asked(rows: Path, models: list[np.ndarray], *slices: Part, metric: Any = "roc_auc", bins: Bins | None = None) -> Comparison:
    parts = (Part("all rows", 0.01, 200), *slices)
    given = tuple(Predictions(tuple(map(float, one))) for one in models)
    return compare(CompareRequest(rows, "employed", metric, given, parts, bins, 0.95, 1000, 42))


def judged(found: Comparison, model: Model) -> GateResult:
    return GATE.judge(model, Compared(found))


def worse_in_the_north(frame: pandas.DataFrame, chance: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(5).random(len(frame))
    return np.where(frame["region"] == "north", 0.5 * chance + 0.5 * noise, chance)


NORTH = {"column": "region", "values": ["north"], "limit": "0.02"}
OLD = {"column": "age", "low": 60, "limit": "0.02"}
PARTS = (Part("region = north", 0.02, 100, "region", ("north",)), Part("age from 60", 0.02, 100, "age", low=60))


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "log_loss"])
def test_a_planted_loss_in_one_slice_is_found_and_named_and_the_others_are_not(population: Any, metric: str) -> None:
    rows, frame, chance = population
    found = asked(rows, [worse_in_the_north(frame, chance), chance], *PARTS, metric=metric)
    result = judged(found, asking(metric, slices=[NORTH, OLD]))
    assert result.outcome is GateOutcome.FAILED
    assert any(f"{metric} where region = north is worse than the champion's by" in reason for reason in result.reasons)
    assert not any(reason.startswith(f"{metric} where age") for reason in result.reasons)
    assert [row[0] for row in result.tables[0].rows] == ["all rows", "region = north", "age from 60"]


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "log_loss"])
def test_a_model_compared_with_itself_passes_in_every_slice(population: Any, metric: str) -> None:
    rows, _, chance = population
    result = judged(asked(rows, [chance, chance], *PARTS, metric=metric), asking(metric, margin="0", slices=[NORTH, OLD]))
    assert result.outcome is GateOutcome.PASSED
    assert "over all rows and in each of 2 slices" in result.reasons[0]


def test_equally_good_models_fail_no_more_often_than_declared(population: Any) -> None:
    """Twenty pairs that differ by noise alone; the gate may be wrong in one of forty."""
    rows, _, chance = population
    failed = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.1, (2, ROWS))
        found = asked(rows, list(chance + noise), *PARTS)
        failed += judged(found, asking(margin="0", slices=[NORTH, OLD])).outcome is GateOutcome.FAILED
    assert failed <= 3


def test_what_cannot_be_told_is_inconclusive_unless_the_estimate_may_decide(population: Any) -> None:
    rows, _, chance = population
    found = asked(rows, list(chance + np.random.default_rng(3).normal(0, 0.3, (2, ROWS))))
    estimate = found.parts[0].estimate
    unsure = judged(found, asking())
    assert unsure.outcome is GateOutcome.INCONCLUSIVE
    assert "not enough rows (4,000) to tell: roc_auc over all rows is worse than the champion's by" in unsure.reasons[0]
    decided = judged(found, asking(without_verdict="estimate"))
    assert decided.outcome is (GateOutcome.FAILED if estimate > 0.01 else GateOutcome.PASSED)


def test_a_slice_with_too_few_rows_is_inconclusive_by_its_name_even_where_the_estimate_may_decide(population: Any) -> None:
    rows, _, chance = population
    few = Part("age = 18", 0.02, 1000, "age", (18,))
    declared_few = {"column": "age", "values": [18], "limit": "0.02", "minimum_rows": 1000}
    result = judged(asked(rows, [chance, chance], few), asking(slices=[declared_few], without_verdict="estimate"))
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert result.reasons[0].startswith("where age = 18 cannot be told: it has ")
    assert result.reasons[0].endswith("rows, and 1000 are wanted")


def test_probabilities_that_say_too_much_fail_with_a_reliability_table_and_honest_ones_pass(population: Any) -> None:
    rows, _, chance = population
    bins = Bins(10, "width", 0.05, 0.3, 200)
    calibrated = {"limit": "0.05", "brier": "0.3"}
    honest = judged(asked(rows, [chance, chance], bins=bins), asking(calibration=calibrated))
    assert honest.outcome is GateOutcome.PASSED
    assert "the expected calibration error is 0.0" in honest.reasons[0]
    bold = np.clip(0.5 + (chance - 0.5) * 2, 0, 1)
    result = judged(asked(rows, [bold], bins=bins), asking(calibration=calibrated))
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0].startswith("the expected calibration error is 0.1")
    assert [table.title for table in result.tables] == ["Calibration", "Reliability"]
    assert result.charts[0].title == "What happened where so much was predicted"


def test_the_calibration_of_classes_cannot_be_told_and_the_remedy_is_named(population: Any) -> None:
    rows, _, chance = population
    found = asked(rows, [np.where(chance > 0.5, 2, -1)], bins=Bins(10, "width", 0.05, None, 200))
    result = judged(found, asking(calibration={"limit": "0.05"}))
    assert result.outcome is GateOutcome.INCONCLUSIVE
    assert "predict_proba" in result.reasons[0]


def test_a_slice_over_a_column_that_the_rows_lack_is_an_input_error(population: Any) -> None:
    rows, _, chance = population
    assert "no column 'wage'" in asked(rows, [chance, chance], Part("wage = 1", 0.1, 10, "wage", (1,))).wrong_rows


@pytest.mark.long
def test_the_models_predict_once_for_both_gates_and_the_same_rows_are_drawn_alike(
    candidate: Candidate, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from policies import predicting

    started: list[str] = []
    run = predicting.run
    monkeypatch.setattr(predicting, "run", lambda job, *rest: started.append(job.worker) or run(job, *rest))
    worse = replace(candidate, folder=models["bad"], champion=models["good"], declared=asking("log_loss"))
    assert MetricAgainstChampion().evaluate(worse).outcome is GateOutcome.FAILED
    first, again = GATE.evaluate(replace(worse, work=worse.work / "first")), GATE.evaluate(worse)
    assert first.outcome is GateOutcome.FAILED
    assert figure(first, "sandbox network") == "cut" or "not" in figure(first, "sandbox network")
    assert first.tables == again.tables
    assert figure(first, "seed of the drawing") == figure(again, "seed of the drawing") != "0"
    wrong = asking("log_loss", slices=[{"column": "wage", "values": [1], "limit": "0.1"}])
    with pytest.raises(InputError, match="no column 'wage', which a slice names"):
        GATE.evaluate(replace(worse, declared=wrong))
    assert started == ["predict", "predict"]


def test_without_the_declaration_or_without_a_champion_and_calibration_it_does_not_apply(candidate: Candidate) -> None:
    assert GATE.evaluate(candidate).outcome is GateOutcome.NOT_APPLICABLE
    alone = GATE.evaluate(replace(candidate, declared=asking()))
    assert alone.outcome is GateOutcome.NOT_APPLICABLE
    assert "no champion" in alone.reasons[0]


def test_it_is_one_of_the_gates() -> None:
    assert any(isinstance(gate, QualityAgainstChampion) for stage in STAGES for gate in stage)


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        ({"slices": [{"column": "age", "limit": "0.1"}]}, "either values or a range"),
        ({"slices": [{"column": "age", "low": 3, "high": 3, "limit": "0.1"}]}, "low must be below high"),
        ({"slices": [NORTH, NORTH]}, "names region = north twice"),
        ({"resamples": 200, "confidence": 0.999}, "resamples must be 2000 at least for 1 questions"),
        ({"margin": "-1"}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_declared(quality: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        asking(**quality)


def test_quality_needs_an_evaluation_and_calibration_probabilities() -> None:
    bare = declared().model_dump() | {"evaluation": None, "gates": {"quality": {"margin": "0.01"}}}
    with pytest.raises(ValueError, match="declare evaluation"):
        Model.model_validate(bare)
    with pytest.raises(ValueError, match="calibration is about probabilities"):
        asking("mean_absolute_error", calibration={"limit": "0.1"})


def of_labels(folder: Path, first: Any, second: Any) -> tuple[Path, np.ndarray]:
    """Rows whose label is one of two, and whether it is the second."""
    second_one = np.random.default_rng(3).random(500) < 0.5
    pandas.DataFrame({"employed": np.where(second_one, second, first)}).to_parquet(folder / "labels.parquet")
    return folder / "labels.parquet", second_one


def by_accuracy(rows: Path, *models: Any) -> Comparison:
    given = tuple(Predictions(tuple(map(tuple, one.tolist())) if one.ndim == 2 else tuple(one.tolist())) for one in models)
    return compare(CompareRequest(rows, "employed", "accuracy", given, (Part("all rows", 0.01, 200),), None, 0.95, 500, 1))


@pytest.mark.parametrize("labels", [(1, 2), (-1, 1), (0, 5), (0.5, 1.0)])
def test_probabilities_whose_columns_are_no_labels_are_not_measured_as_if_they_were(tmp_path: Path, labels: tuple[float, float]) -> None:
    rows, second = of_labels(tmp_path, *labels)
    columns = np.stack([~second * 0.8 + 0.1, second * 0.8 + 0.1], axis=1)
    for models in ((1 - columns, columns), (columns[:, 0], columns[:, 1])):
        found = by_accuracy(rows, *models)
        assert found.parts == ()
        assert "log it so that it gives classes" in found.problem


@pytest.mark.parametrize("labels", [(1, 2), (-1, 1), (0, 1), (False, True), ("no", "yes")])
def test_classes_serve_whatever_the_labels_are_and_the_worse_model_is_told(tmp_path: Path, labels: tuple[Any, Any]) -> None:
    rows, second = of_labels(tmp_path, *labels)
    right, wrong = np.where(second, labels[1], labels[0]), np.where(second, labels[0], labels[1])
    assert by_accuracy(rows, wrong, right).parts[0].estimate == 1
    if labels in ((0, 1), (False, True)):
        columns = np.stack([~second * 0.8 + 0.1, second * 0.8 + 0.1], axis=1)
        assert by_accuracy(rows, 1 - columns, columns).parts[0].estimate == 1
        assert by_accuracy(rows, columns[:, 0], columns[:, 1]).parts[0].estimate == 1


def test_a_champion_whose_predictions_cannot_be_measured_is_inconclusive_and_a_candidate_fails(population: Any) -> None:
    rows, _, chance = population
    for models, outcome in (([chance, chance[1:]], GateOutcome.INCONCLUSIVE), ([chance[1:], chance], GateOutcome.FAILED)):
        found = asked(rows, models)
        result = GATE.judge(asking(), Compared(found, found.problem, by_champion=found.by_champion))
        assert result.outcome is outcome
        assert "3999 predictions for 4000 rows" in result.reasons[0]
    classes = np.where(chance > 0.5, 2.0, -1.0)
    assert asked(rows, [chance, classes], metric="log_loss").by_champion
    assert not asked(rows, [classes, chance], metric="log_loss").by_champion
    assert not asked(rows, [classes, chance[1:]], metric="log_loss").by_champion, "the candidate cannot be measured either"
