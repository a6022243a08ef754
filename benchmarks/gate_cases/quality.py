"""How long each gate takes for the demo's second version against its first: real census rows, real models, real sandboxes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.form import ROOT, Row, measured, skipped
from control.demo.pace import WHOLE
from control.demo.register import quiet
from control.demo.rows import FEATURES, Pair, census
from control.demo.versions import HOLDOUT, slices, versions
from fleet.declared import Fleet, Model
from fleet.errors import InputError
from fleet.reading import read_fleet
from policies.candidate import Candidate
from policies.gates import STAGES, evaluate_all, may_go_on

ROUNDS = 5
SECONDS = 120.0
TARGET_SECONDS = 30.0
SEED = 1
ALL, SEARCH = "all gates side by side", "all gates side by side, robustness with its search"
QUALITY = {
    "margin": "0.005",
    "slices": [
        {"column": "SEX", "values": [1], "limit": "0.01"},
        {"column": "SEX", "values": [2], "limit": "0.01"},
        {"column": "AGEP", "low": 60, "limit": "0.02"},
        {"column": "RAC1P", "values": [2], "limit": "0.03"},
    ],
    "calibration": {"limit": "0.05", "brier": "0.25"},
}
ROBUSTNESS = {"noise": {"strength": 0, "columns": {"AGEP": 1}}}
LOOKED_FOR = {"search": {"flips": "1", "strength": 0, "columns": {"AGEP": 3}, "rows": 50}}


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's candidate, as a release would hand it to the gates."""

    candidate: Candidate

    def declaring(self, robustness: Mapping[str, Any]) -> Candidate:
        """Return the candidate with what its robustness gate asks."""
        document = self.candidate.declared.model_dump()
        document["gates"] |= {"quality": QUALITY, "robustness": {**ROBUSTNESS, **robustness}}
        return replace(self.candidate, declared=Model.model_validate(document))


def rows(quick: bool) -> list[Row]:
    """Return the time of each gate in seconds, and of all of them together; the quick run has one round and no search."""
    folder = Path(tempfile.mkdtemp(prefix="cb-gates-"))
    try:
        return _rows(_demo(folder), folder, quick)
    except InputError as problem:
        return [skipped(ALL, "employment version 2", "s", str(problem), TARGET_SECONDS)]
    finally:
        shutil.rmtree(folder)


def _rows(demo: Demo, folder: Path, quick: bool) -> list[Row]:
    found: dict[str, list[float]] = {}
    kinds: dict[str, Mapping[str, Any]] = {ALL: {}} if quick else {ALL: {}, SEARCH: LOOKED_FOR}
    rounds = range(1 if quick else ROUNDS + 1)
    for position in rounds:
        for name, robustness in kinds.items():
            took = _asked(demo.declaring(robustness), folder / f"{position}-{len(robustness)}")
            # The first of several rounds warms up
            for gate, seconds in took.items() if quick or position else ():
                key = name if gate == ALL else f"gate {gate}{' with its search' if robustness and gate == 'robustness' else ''}"
                if gate == ALL or not robustness or gate == "robustness":
                    found.setdefault(key, []).append(seconds)
    subject = "employment version 2 against 1"
    return [measured(row, subject, seconds, "s", TARGET_SECONDS if row == ALL else None) for row, seconds in found.items()]


def _asked(candidate: Candidate, work: Path) -> dict[str, float]:
    """Return the seconds of all gates together and of each: a gate that waits for what another one finds out is counted waiting."""
    began = time.monotonic()
    results = evaluate_all(STAGES, replace(candidate, work=work, once=type(candidate.once)()))
    whole = time.monotonic() - began
    if not may_go_on(results):
        refusing = [f"{each.gate}: {'; '.join(each.reasons)}" for each in results if each.outcome.refuses]
        raise InputError("the demo's version 2", f"was refused ({' '.join(refusing)})", "Its gates are timed where they let it pass.")
    return {ALL: whole} | {each.gate: each.took_ms / 1000 for each in results}


def _demo(folder: Path) -> Demo:
    from bentos.build import SERVICE

    pair = Pair("MAR", 3, "SEX", 2)
    drawn = slices(census(), pair, SEED)
    for name in ("v2", HOLDOUT):
        drawn[name].to_parquet(folder / f"{name}.parquet", index=False)
    for version in versions(pair, fault=True, seed=SEED)[:2]:
        _save(version.train(drawn[f"v{version.number}"]), drawn[HOLDOUT], folder / f"model-{version.number}")
    fleet = _fleet(folder)
    return Demo(
        Candidate(
            model="employment",
            declared=fleet.models["employment"],
            regions=fleet.regions,
            fleet_folder=folder,
            folder=folder / "model-2",
            champion=folder / "model-1",
            training=folder / "v2.parquet",
            evaluation=folder / f"{HOLDOUT}.parquet",
            contract=ROOT / "control" / "demo" / "contract.json",
            work=folder / "work",
            seconds=SECONDS,
            service=SERVICE,
        )
    )


def _save(trained: Any, holdout: Any, to: Path) -> None:
    import mlflow.sklearn

    example = holdout[list(FEATURES)].head(1)
    with quiet():
        signature = mlflow.models.infer_signature(example, trained.predict_proba(example))
        given = {"signature": signature, "input_example": example, "pip_requirements": []}
        mlflow.sklearn.save_model(trained, to, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle", **given)


def _fleet(folder: Path) -> Fleet:
    """Read the demo's own fleet.yaml."""
    text = WHOLE.fill((ROOT / "control" / "demo" / "fleet.yaml").read_text()).replace("{data-repository}", "rows")
    file = folder / "fleet.yaml"
    file.write_text(text)
    return read_fleet(file)
