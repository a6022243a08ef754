from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas
import pytest
from policies_world import declared

from bentos.build import SERVICE
from fleet.declared import Model
from fleet.declared_robustness import Robustness
from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.gates import STAGES
from policies.robustness import Borne, DisturbedRequests, disturbances
from policies.workers.disturb import disturb
from policies.workers.disturbed import Disturbance, Disturbed, DisturbRequest, SearchPlan, Trial
from policies.workers.disturbing import WRONG, scene
from policies.workers.serving import Served

GATE = DisturbedRequests()
Hostile = Callable[[str], Path]


def asking(metric: str = "roc_auc", **robustness: Any) -> Model:
    """The declared model with gates.robustness."""
    return Model.model_validate(declared(metric=metric).model_dump() | {"gates": {"robustness": robustness}})


def borne(model: Path, rows: pandas.DataFrame, declared_model: Model, tmp_path: Path) -> Disturbed:
    """What the worker finds, without the sandbox: these models are our own."""
    asked = declared_model.gates.robustness
    assert asked is not None
    plan = None if asked.search is None else SearchPlan(asked.search.strength, asked.search.columns, asked.search.rows, 5000)
    quantity = declared_model.evaluation is not None and declared_model.evaluation.metric == "mean_absolute_error"
    request = DisturbRequest(
        SERVICE, model, tmp_path / "unread", asked.rows, quantity, asked.tolerance, tuple(disturbances(asked)), plan, 7
    )
    return disturb(request, Served(SERVICE, model, tmp_path), rows)


def judged(found: Disturbed, model: Model) -> GateResult:
    return GATE.judge(model, Borne(found))


def trial(found: Disturbed, kind: str) -> Trial:
    return next(one for one in found.trials if one.kind == kind)


@pytest.fixture
def people(rows: pandas.DataFrame) -> pandas.DataFrame:
    return rows[["age", "hours"]]


@pytest.fixture(autouse=True)
def own_service_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service's modules are imported anew for each model, as in each worker."""
    import sys

    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "convoy_service":
            del sys.modules[name]


def test_a_sound_model_is_disturbed_in_the_sandbox_and_passes(candidate: Candidate, hostile: Hostile) -> None:
    sound = replace(
        candidate, folder=hostile("pass"), declared=asking(rows=40, search={"flips": "0.5", "strength": 0.1, "rows": 20}), service=SERVICE
    )
    result = GATE.evaluate(sound)
    assert result.outcome is GateOutcome.PASSED, result.reasons
    requests = {row[0]: row[1:5] for row in result.tables[0].rows}
    assert requests["noise"] == ("40", "40", "0", "0")
    assert requests["wrong types"][3] == "0"
    assert result.tables[1].title.startswith("The search")
    assert result.charts[0].title == "Share of decisions turned, by disturbance"
    assert dict(result.figures)["sandbox network"] == "cut" or "not" in dict(result.figures)["sandbox network"]


def test_a_model_that_fails_on_a_missing_value_fails_by_disturbance_and_column(
    hostile: Hostile, people: pandas.DataFrame, tmp_path: Path
) -> None:
    """It goes on failing on what it is asked next, so that the missing value cannot be told to be at fault."""
    broken = hostile("""
if model_input["age"].isna().any(): type(self).failing = 2
if getattr(type(self), "failing", 0): type(self).failing -= 1; raise ValueError("age")
""")
    found = borne(broken, people, asking(rows=30), tmp_path)
    assert trial(found, "missing").broken > 0
    assert trial(found, "missing").refused > 0, "hours is a whole number, of which none may be missing: the service says so"
    assert trial(found, "noise").broken == trial(found, "wrong types").broken == 0
    result = judged(found, asking(rows=30))
    assert result.outcome is GateOutcome.FAILED
    assert "neither answered with numbers nor refused (age taken away: status 500)" in result.reasons[0]


def test_a_regression_that_was_never_told_of_missing_values_refuses_them(
    models: dict[str, Path], people: pandas.DataFrame, tmp_path: Path
) -> None:
    """Scikit-learn's logistic regression raises on a missing number: the service finds out and refuses it as the caller's."""
    found = borne(models["good"], people, asking(rows=20), tmp_path)
    assert trial(found, "missing").refused == 20
    assert not any(one.broken for one in found.trials)


def test_an_answer_without_a_number_fails(hostile: Hostile, people: pandas.DataFrame, tmp_path: Path) -> None:
    endless = hostile('return [float("nan") if abs(value) > 200 else 1.0 for value in model_input["age"]]')
    model = asking(rows=30, noise={"flips": "1"})
    result = judged(borne(endless, people, model, tmp_path), model)
    assert result.outcome is GateOutcome.FAILED
    assert "age far outside: an answer without a number" in result.reasons[0]


def test_a_model_that_decides_by_the_last_digit_turns_too_often(hostile: Hostile, people: pandas.DataFrame, tmp_path: Path) -> None:
    nervous = hostile('return [float(round(value * 1000) % 2) for value in model_input["age"]]')
    alone: dict[str, Any] = {"rows": 60, "missing": None, "out_of_range": None}
    model = asking(**alone)
    result = judged(borne(nervous, people, model, tmp_path), model)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0].startswith("noise: ")
    assert result.reasons[0].endswith("and 5.00% may")
    tolerant = asking(**alone, noise={"flips": "1"})
    assert judged(borne(nervous, people, tolerant, tmp_path), tolerant).outcome is GateOutcome.PASSED


def test_what_is_named_moves_by_its_own_amount_and_what_is_set_to_nothing_stays(people: pandas.DataFrame) -> None:
    found = scene_of(people)
    assert found.numbers(Disturbance("noise", 0.1)) == pytest.approx(
        {"age": people["age"].std() * 0.1, "hours": people["hours"].std() * 0.1}
    )
    assert found.numbers(Disturbance("noise", 0.0, {"age": 2.0})) == {"age": 2.0}
    assert found.numbers(Disturbance("noise", 0.0, {"hours": 0.4})) == {}, "a whole number does not move by less than a half"


def scene_of(frame: pandas.DataFrame) -> Any:
    from types import SimpleNamespace

    kinds = {"age": "float64", "hours": "int64"}
    fields = [SimpleNamespace(name=name, dtype=np.dtype(kind), text="text", required=True) for name, kind in kinds.items()]
    return scene(fields, frame, 20, np.random.default_rng(1))


def test_the_search_turns_exactly_the_rows_that_can_be_turned(models: dict[str, Path], people: pandas.DataFrame, tmp_path: Path) -> None:
    """Of a linear model it is known: a row turns when its score is below the most that the allowed change can move it."""
    model = asking(rows=200, search={"flips": "1", "strength": 0, "columns": {"age": 3.0, "hours": 5}, "rows": 200})
    found = borne(models["good"], people, model, tmp_path).searched
    assert found is not None
    linear = mlflow.sklearn.load_model(models["good"])
    drawn = np.sort(np.random.default_rng((7, 0)).permutation(len(people))[:200])
    scores = np.abs(linear.decision_function(people.iloc[drawn]))
    reach = np.abs(linear.coef_[0]) @ np.array([3.0, 5.0])
    assert found.flipped == (scores < reach).sum() > 0
    assert len(found.distances) == found.flipped
    nearest = scores.min() / reach
    assert 0 < min(found.distances) < max(found.distances) <= 1
    assert min(found.distances) <= nearest + 0.2
    refused = judged(Disturbed(searched=found), asking(search={"flips": "0"}))
    assert refused.outcome is GateOutcome.FAILED
    assert f"search: {found.flipped} of 200 decisions turned" in refused.reasons[0]


def test_the_search_spends_no_more_predictions_than_declared(models: dict[str, Path], people: pandas.DataFrame, tmp_path: Path) -> None:
    request = DisturbRequest(SERVICE, models["good"], tmp_path, 100, False, 0.5, (), SearchPlan(0.1, {}, 100, 250), 7)
    found = disturb(request, Served(SERVICE, models["good"], tmp_path), people).searched
    assert found is not None
    assert found.predictions <= 250


def test_the_same_seed_disturbs_alike_and_another_one_otherwise(models: dict[str, Path], people: pandas.DataFrame, tmp_path: Path) -> None:
    def ask(seed: int) -> Disturbed:
        plan = SearchPlan(0.2, {}, 50, 1000)
        request = DisturbRequest(SERVICE, models["good"], tmp_path, 50, False, 0.5, (Disturbance("noise", 0.3),), plan, seed)
        return disturb(request, served, people)

    served = Served(SERVICE, models["good"], tmp_path)
    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


def test_every_wrong_body_is_refused_or_answered(models: dict[str, Path], people: pandas.DataFrame, tmp_path: Path) -> None:
    model = asking(rows=len(WRONG), noise=None, missing=None, unseen=None, out_of_range=None)
    found = trial(borne(models["good"], people, model, tmp_path), "wrong types")
    assert (found.asked, found.broken) == (len(WRONG), 0)
    assert found.refused >= len(WRONG) - 2


def test_a_quantity_turns_when_it_moves_by_more_than_its_tolerance(hostile: Hostile, people: pandas.DataFrame, tmp_path: Path) -> None:
    straight = hostile('return [float(value) for value in model_input["age"]]')
    model = asking("mean_absolute_error", rows=50, tolerance=0.5, noise={"strength": 0.1, "flips": "0"})
    assert trial(borne(straight, people, model, tmp_path), "noise").flipped == 0
    loud = asking("mean_absolute_error", rows=50, tolerance=0.5, noise={"strength": 3, "flips": "0"})
    assert trial(borne(straight, people, loud, tmp_path), "noise").flipped > 25


def test_categories_of_text_get_values_that_nobody_has(tmp_path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    code = tmp_path / "cities.py"
    code.write_text(
        "import mlflow.pyfunc\nfrom mlflow.models import set_model\n\n"
        "class Cities(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return [{'Bonn': 0.1, 'Paris': 0.9}[city] for city in model_input['city']]\n\nset_model(Cities())\n"
    )
    signature = ModelSignature(inputs=Schema([ColSpec("string", "city")]))
    mlflow.pyfunc.save_model(tmp_path / "cities", python_model=str(code), signature=signature, pip_requirements=[])
    model = asking(rows=20)
    found = borne(tmp_path / "cities", pandas.DataFrame({"city": ["Bonn", "Paris"] * 20}), model, tmp_path)
    assert trial(found, "unseen").broken == 20
    assert trial(found, "noise").asked == 0
    result = judged(found, model)
    assert result.outcome is GateOutcome.FAILED
    assert any(reason.startswith("noise: no column can be disturbed so") for reason in result.reasons)


def test_rows_that_are_not_answered_undisturbed_fail_at_once(hostile: Hostile, people: pandas.DataFrame, tmp_path: Path) -> None:
    model = asking(rows=10)
    result = judged(borne(hostile("raise ValueError()"), people, model, tmp_path), model)
    assert result.outcome is GateOutcome.FAILED
    assert "as they are were answered with status 500" in result.reasons[0]


def test_a_model_that_never_ends_is_stopped_and_fails(candidate: Candidate, hostile: Hostile) -> None:
    endless = replace(candidate, folder=hostile("import time; time.sleep(60)"), declared=asking(rows=10, seconds=6), service=SERVICE)
    result = GATE.evaluate(endless)
    assert result.outcome is GateOutcome.FAILED
    assert "could not be disturbed to the end: it did not end within its 6 seconds" in result.reasons[0]


def test_it_applies_where_it_is_declared_and_cannot_tell_without_the_services_code(candidate: Candidate) -> None:
    assert GATE.evaluate(candidate).outcome is GateOutcome.NOT_APPLICABLE
    assert GATE.evaluate(replace(candidate, declared=asking())).outcome is GateOutcome.INCONCLUSIVE
    assert GATE.evaluate(replace(candidate, declared=asking(), evaluation=None)).outcome is GateOutcome.FAILED
    assert any(isinstance(gate, DisturbedRequests) for stage in STAGES for gate in stage)


def test_robustness_needs_an_evaluation_and_its_search_a_limit() -> None:
    with pytest.raises(ValueError, match="declare evaluation"):
        Model.model_validate(declared().model_dump() | {"evaluation": None, "gates": {"robustness": {}}})
    with pytest.raises(ValueError, match=r"search\.flips"):
        asking(search={})
    assert Robustness().noise is not None
    assert Robustness().noise.flips == Decimal("0.05")
