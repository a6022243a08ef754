from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas
import pytest
from policies_world import declared
from sklearn.metrics import log_loss, roc_auc_score

from fleet.errors import InputError
from fleet.evidence import GateOutcome
from policies.candidate import Candidate
from policies.metric import MetricAgainstChampion

GATE = MetricAgainstChampion()


def figure(result, name: str) -> str:
    return dict(result.figures)[name]


def test_a_candidate_worse_than_the_champion_fails(candidate: Candidate, models: dict[str, Path]) -> None:
    result = GATE.evaluate(replace(candidate, folder=models["bad"], champion=models["good"]))
    assert result.outcome is GateOutcome.FAILED
    assert "is worse than the champion's" in result.reasons[0]
    assert Decimal(figure(result, "candidate roc_auc")) < Decimal(figure(result, "champion roc_auc"))


def test_a_better_candidate_passes_with_the_metric_that_sklearn_computes(
    candidate: Candidate, models: dict[str, Path], rows: pandas.DataFrame
) -> None:
    import mlflow.sklearn

    result = GATE.evaluate(replace(candidate, champion=models["bad"]))
    assert result.outcome is GateOutcome.PASSED
    held_out = rows[200:]
    scores = mlflow.sklearn.load_model(models["good"]).predict_proba(held_out[["age", "hours"]])[:, 1]
    assert figure(result, "candidate roc_auc") == f"{roc_auc_score(held_out['employed'], scores):.6f}"


@pytest.mark.long
def test_lower_is_better_for_log_loss_and_probabilities_come_from_the_second_column(
    candidate: Candidate, models: dict[str, Path], rows: pandas.DataFrame
) -> None:
    import mlflow.sklearn

    lossy = replace(candidate, declared=declared(metric="log_loss"), folder=models["bad"], champion=models["good"])
    result = GATE.evaluate(lossy)
    assert result.outcome is GateOutcome.FAILED
    scores = mlflow.sklearn.load_model(models["good"]).predict_proba(rows[200:][["age", "hours"]])
    assert figure(result, "champion log_loss") == f"{log_loss(rows[200:]['employed'], scores):.6f}"


@pytest.mark.long
def test_the_tolerance_lets_a_slightly_worse_candidate_pass(candidate: Candidate, models: dict[str, Path]) -> None:
    tolerant = replace(candidate, declared=declared(tolerance="1"), folder=models["bad"], champion=models["good"])
    assert GATE.evaluate(tolerant).outcome is GateOutcome.PASSED


@pytest.mark.long
def test_without_a_champion_the_comparison_is_not_applicable_but_the_bound_holds(evaluated_by: Callable[..., Candidate]) -> None:
    kept = GATE.evaluate(evaluated_by(metric="accuracy", minimum="0.7"))
    assert kept.outcome is GateOutcome.NOT_APPLICABLE
    assert "no champion" in kept.reasons[0]
    assert "keeps the declared minimum 0.7" in kept.reasons[0]
    broken = GATE.evaluate(evaluated_by(metric="log_loss", maximum="0.0001"))
    assert broken.outcome is GateOutcome.FAILED
    assert "above the declared maximum 0.0001" in broken.reasons[0]


@pytest.mark.long
def test_classes_serve_accuracy_and_are_refused_for_log_loss_with_the_remedy(
    evaluated_by: Callable[..., Candidate], models: dict[str, Path]
) -> None:
    classes = {"folder": models["classes"]}
    accurate = GATE.evaluate(replace(evaluated_by(metric="accuracy", minimum="0.8"), **classes))
    assert accurate.outcome is GateOutcome.NOT_APPLICABLE
    lossy = GATE.evaluate(replace(evaluated_by(metric="log_loss"), **classes))
    assert lossy.outcome is GateOutcome.FAILED
    assert "predict_proba" in lossy.reasons[0]


def test_a_champion_that_cannot_be_scored_is_no_reason_to_pass_and_none_to_blame_the_candidate(
    candidate: Candidate, tmp_path: Path
) -> None:
    from policies.quality import QualityAgainstChampion

    empty = tmp_path / "no-model"
    empty.mkdir()
    asking = type(candidate.declared).model_validate(candidate.declared.model_dump() | {"gates": {"quality": {"margin": "0.01"}}})
    against = replace(candidate, declared=asking, champion=empty)
    for gate in (GATE, QualityAgainstChampion()):
        result = gate.evaluate(against)
        assert result.outcome is GateOutcome.INCONCLUSIVE
        assert result.reasons[0].startswith("the champion could not be scored")
        assert "convoy rollback" in result.reasons[0], "what a person can do is said"
    both = GATE.evaluate(replace(against, folder=empty))
    assert both.outcome is GateOutcome.FAILED
    assert both.reasons[0].startswith("the candidate could not be scored")


def test_no_declared_evaluation_is_not_applicable_and_missing_rows_fail(candidate: Candidate) -> None:
    undeclared = candidate.declared.model_copy(update={"evaluation": None})
    assert GATE.evaluate(replace(candidate, declared=undeclared)).outcome is GateOutcome.NOT_APPLICABLE
    assert GATE.evaluate(replace(candidate, evaluation=None)).outcome is GateOutcome.FAILED


def test_a_wrong_label_is_an_input_error_that_lists_the_columns(evaluated_by: Callable[..., Candidate]) -> None:
    with pytest.raises(InputError, match=r"no column 'emploied' \(columns: age, hours, employed"):
        GATE.evaluate(evaluated_by(label="emploied"))


def test_the_model_never_sees_the_labels(candidate: Candidate, hostile: Callable[[str], Path]) -> None:
    folder = hostile(f"""
seen = list(model_input.columns)
try:
    seen += list(__import__("pandas").read_parquet({str(candidate.evaluation)!r}).columns)
except FileNotFoundError:
    seen.append("no file")
raise RuntimeError(" ".join(seen))
""")
    result = GATE.evaluate(replace(candidate, folder=folder))
    assert "RuntimeError: age hours no file" in result.reasons[0] or "not hidden" in dict(result.figures)["sandbox files"]


def test_predictions_that_are_missing_or_not_finite_fail(candidate: Candidate, hostile: Callable[[str], Path]) -> None:
    short = GATE.evaluate(replace(candidate, folder=hostile("model_input = model_input[1:]")))
    assert short.outcome is GateOutcome.FAILED
    assert "199 predictions for 200 rows" in short.reasons[0]


def test_predictions_that_are_not_finite_fail(candidate: Candidate, hostile: Callable[[str], Path]) -> None:
    endless = GATE.evaluate(replace(candidate, folder=hostile('return [float("nan")] * len(model_input)')))
    assert endless.outcome is GateOutcome.FAILED
    assert "200 of its predictions are not finite" in endless.reasons[0]


def test_accuracy_of_probabilities_whose_columns_are_no_labels_fails_with_the_remedy() -> None:
    import numpy

    from policies.workers.measure import _measured
    from policies.workers.messages import Predictions

    measured = _measured("accuracy", numpy.array([1, 2, 1]), Predictions(((0.9, 0.1), (0.1, 0.9), (0.9, 0.1))))
    assert measured.value is None
    assert "log it so that it gives classes" in measured.problem
