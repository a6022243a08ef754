"""What people and the ledger are told of the gates: complete, and nobody's text breaks it."""

from __future__ import annotations

import json
from decimal import Decimal

from fleet.canonical import canonical_json
from fleet.evidence import GateChart, GateOutcome, GateResult, GateTable
from flows.gate_report import as_payload, of_payload, refusals, report

PASSED = GateResult("schema present", GateOutcome.PASSED, ("30 inputs",), (("inputs", "30"),), took_ms=4)
FAILED = GateResult(
    "quality",
    GateOutcome.FAILED,
    ("roc_auc 0.71 is below 0.8",),
    tables=(GateTable("By slice", ("slice", "change"), (("SEX=2", "-0.03"), ("SEX=1", "0.00"))),),
    charts=(GateChart("Loss by slice", (("SEX=2", Decimal("0.03")), ("SEX=1", Decimal("0.01"))), Decimal("0.02")),),
    took_ms=2110,
)
UNSURE = GateResult("service", GateOutcome.INCONCLUSIVE, ("it did not start within 60 s", "so nothing was measured"))


def test_refusals_name_the_gate_and_say_what_could_not_be_told() -> None:
    assert refusals((PASSED,)) == []
    assert refusals((PASSED, FAILED, UNSURE)) == [
        "quality: roc_auc 0.71 is below 0.8",
        "service (inconclusive): it did not start within 60 s",
        "service (inconclusive): so nothing was measured",
    ]


def test_no_answer_and_a_refusal_without_a_reason_are_refusals() -> None:
    assert refusals(()) == ["no gate gave an answer"]
    assert refusals((GateResult("mute", GateOutcome.FAILED, ()),)) == ["mute: no reason given"]


def test_the_report_tells_every_gate_with_its_tables_bars_and_seconds() -> None:
    told = report("r-1 (toy version 4)", (PASSED, FAILED, UNSURE))
    assert "**It may not go on.**" in told
    assert "| ❌ failed | quality | 2.1 s |" in told
    assert "| SEX=2 | -0.03 |" in told
    bars = {line.split()[0]: line.count("█") for line in told.splitlines() if "█" in line}
    assert bars == {"SEX=2": 30, "SEX=1": 10, "limit": 20}
    assert "**It may go on.**" in report("r-1", (PASSED,))


def test_what_a_model_author_wrote_stays_text() -> None:
    hostile = "a | b\n# [click](http://x) <script> ```"
    told = report(
        "r",
        (GateResult("schema", GateOutcome.FAILED, (hostile,), ((hostile, hostile),), (GateTable(hostile, (hostile,), ((hostile,),)),)),),
    )
    assert "\n# [click" not in told
    assert "<script>" not in told.replace("\\<script", "")
    assert all("](http" not in line.replace("\\]", "") for line in told.splitlines())


def test_what_the_ledger_kept_is_the_same_again() -> None:
    kept = json.loads(canonical_json([as_payload(each) for each in (PASSED, FAILED, UNSURE)]))
    assert of_payload(kept) == (PASSED, FAILED, UNSURE)
    older = of_payload([{"gate": "schema present", "outcome": "passed", "reasons": ["30 inputs"], "figures": {}}])
    assert older[0].took_ms == 0


def test_the_ledger_keeps_all_of_it_without_a_float() -> None:
    kept = json.loads(canonical_json(as_payload(FAILED)))
    assert kept["took_ms"] == 2110
    assert kept["charts"] == [{"title": "Loss by slice", "bars": [["SEX=2", "0.03"], ["SEX=1", "0.01"]], "limit": "0.02"}]
    assert kept["tables"][0]["rows"][0] == ["SEX=2", "-0.03"]
