"""prefect.yaml names flows that import, with parameters that bind."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
from prefect import Flow
from ruamel.yaml import YAML

FILE = Path(__file__).parents[2] / "prefect.yaml"
DEPLOYMENTS = YAML(typ="safe").load(FILE.read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda found: found["name"])
def test_a_deployment_names_a_flow_whose_parameters_bind(deployment: dict) -> None:
    file, _, name = deployment["entrypoint"].partition(":")
    found = getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    assert found.name == deployment["name"]
    given = dict(deployment["parameters"])
    for trigger in deployment.get("triggers", []):
        given |= trigger["parameters"]
    inspect.signature(found.fn).bind_partial(**given)


def test_the_event_that_starts_a_release_is_the_one_that_the_api_emits() -> None:
    from flows.announcing import EVENT

    (release,) = (found for found in DEPLOYMENTS if found["name"] == "release")
    assert release["triggers"][0]["expect"] == [EVENT]
    assert release["triggers"][0]["parameters"] == {"model": "{{ event.payload.model }}"}


def test_reconcile_runs_every_minute() -> None:
    (reconcile,) = (found for found in DEPLOYMENTS if found["name"] == "reconcile")
    assert reconcile["schedules"] == [{"interval": 60}]


def test_drift_is_measured_every_quarter_of_an_hour() -> None:
    (drift,) = (found for found in DEPLOYMENTS if found["name"] == "monitor_drift")
    assert drift["schedules"] == [{"interval": 900}]


def test_golden_answers_are_asked_for_every_quarter_of_an_hour() -> None:
    (check,) = (found for found in DEPLOYMENTS if found["name"] == "check_golden")
    assert check["schedules"] == [{"interval": 900}]


def test_a_region_is_drilled_once_a_week_in_working_hours() -> None:
    (drill,) = (found for found in DEPLOYMENTS if found["name"] == "failover_drill")
    assert drill["schedules"] == [{"cron": "0 10 * * 2", "timezone": "UTC"}]
    assert "working hours" in drill["description"]


def test_costs_are_reconciled_every_hour_after_its_bills_are_closed() -> None:
    (costs,) = (found for found in DEPLOYMENTS if found["name"] == "reconcile_costs")
    assert costs["schedules"] == [{"cron": "5 * * * *", "timezone": "UTC"}]


def test_the_stores_are_tended_every_night() -> None:
    (tending,) = (found for found in DEPLOYMENTS if found["name"] == "anti_entropy")
    assert tending["schedules"] == [{"cron": "30 2 * * *", "timezone": "UTC"}]
