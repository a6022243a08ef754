"""Measuring drift: what the regions captured is held against the pinned reference, judged, and recorded.

Nothing here needs Prefect: the scheduled flow and `convoy drift` both call `measure_drift`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.canonical import digest_of_file
from fleet.declared import Drift
from fleet.errors import InputError
from fleet.versions import DataLineage
from flows.house import House
from monitoring.drift import DriftVerdict, Measured, judge_drift, measure
from monitoring.evidently_report import ColumnScore, compare
from monitoring.reference import read_reference
from registry.captures import Window
from registry.events import stamp
from registry.ledger import JSON, NewEvent
from registry.lineage import describe, fetch

if TYPE_CHECKING:
    import pandas as pd

MEASURED = "drift.measured"
SUBJECT = "drift"
NAMED = 3
KEPT = 20
"""Measurements whose report is kept, per model: a report has some 5 MB."""
REMEDY = "Give it a section `drift` in fleet.yaml (docs/settings.md)."


@dataclass(frozen=True, slots=True)
class Finding:
    """One measurement: what was seen since when until when, what was concluded, and where the report lies.

    `remarks` tell what the figures do not: answers that were not captured, files that could not be read, Evidently's
    failure. `report` is None where there was nothing to show.
    """

    model: str
    policy: Drift
    since: datetime
    until: datetime
    reference: DataLineage
    measured: Measured
    scores: tuple[ColumnScore, ...]
    verdict: DriftVerdict
    remarks: tuple[str, ...]
    report: Path | None

    def payload(self) -> dict[str, JSON]:
        """Return everything as JSON without floats, as the ledger takes it; columns with the greatest index first."""
        policy = self.policy
        return {
            "outcome": self.verdict.outcome.value,
            "reasons": list(self.verdict.reasons),
            "remarks": list(self.remarks),
            "window": {"since": stamp(self.since), "until": stamp(self.until)},
            "limits": {"psi": str(policy.psi), "share": str(policy.share), "minimum_rows": policy.minimum_rows},
            "rows": dict(self.measured.rows),
            "columns": [_plain(asdict(found)) | {"drifted": found.drifted(policy.psi)} for found in self.measured.columns],
            "evidently": [_plain(asdict(score)) for score in self.scores],
            "skipped": dict(self.measured.skipped),
            "reference": dict(asdict(self.reference)),
            "report": None if self.report is None else {"file": self.report.name, "digest": digest_of_file(self.report)},
        }


def watched(house: House) -> list[str]:
    """Return the models that declare drift."""
    return [name for name, model in house.fleet.models.items() if model.drift is not None]


def drift_stream(model: str) -> str:
    """Return the ledger's stream of a model's measurements."""
    return f"drift/{model}"


def measure_drift(house: House, model: str, actor: str) -> Finding:
    """Measure and judge a model's window that ends now, write the report and record it all in the ledger.

    Raises UnknownName for an unknown model, InputError for one without drift section or with a reference that cannot
    be read, and what a store or DVC has to say.
    """
    declared = house.model(model)
    policy = declared.drift
    if policy is None:
        raise InputError(f"model '{model}'", "declares no drift, so there is nothing to compare its rows with", REMEDY)
    until = house.ledger.now()
    since = until - timedelta(seconds=policy.window_seconds)
    windows = {region: house.captures(region).window(model, since, until) for region in declared.regions}
    lineage, reference = _reference(house, policy)
    columns = list(dict.fromkeys(name for window in windows.values() for name in window.columns))
    rows = {region: window.rows for region, window in windows.items()}
    measured = measure(reference, rows, columns)
    verdict = judge_drift(policy, measured)
    remarks = list(_remarks(windows, since))
    folder = house.home.reports / SUBJECT / model
    report = folder / f"{until.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.html"
    scores: tuple[ColumnScore, ...] = ()
    if measured.columns and measured.total >= policy.minimum_rows:
        try:
            scores = compare(reference, _whole(rows), [found.column for found in measured.columns], policy.share, report)
        except Exception as problem:  # noqa: BLE001 - a second opinion: the verdict stands without it
            remarks.append(f"Evidently gave no opinion ({type(problem).__name__}: {problem}).")
    shown = report if report.is_file() else None
    finding = Finding(model, policy, since, until, lineage, measured, scores, verdict, tuple(remarks), shown)
    _record(house, finding, report.with_suffix(".json"), actor)
    return finding


def report_url(house: House, finding: Finding) -> str | None:
    """Return where a browser finds the report, None where there is none."""
    return None if finding.report is None else f"{house.stack.control_url}/reports/{SUBJECT}/{finding.model}/{finding.report.name}"


def _reference(house: House, policy: Drift) -> tuple[DataLineage, pd.DataFrame]:
    """Return the pinned rows and where they came from; a file that was fetched before is used again."""
    pinned = policy.reference
    lineage = describe(pinned.repository, pinned.revision, pinned.path)
    file = house.home.work / "references" / (lineage.sha256.removeprefix("sha256:") + Path(pinned.path).suffix)
    return lineage, read_reference(fetch(lineage, file))


def _whole(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([frame for frame in rows.values() if not frame.empty], ignore_index=True)


def _remarks(windows: Mapping[str, Window], since: datetime) -> list[str]:
    said = []
    for region, window in windows.items():
        if window.since > since:
            said.append(f"In {region} there were too many rows to read: only those since {stamp(window.since)} count.")
        if window.dropped:
            said.append(f"In {region} {window.dropped:,} answers were not captured (too fast, or the disk refused).")
        if window.unreadable:
            said.append(f"In {region} captured files could not be read: {', '.join(window.unreadable[:NAMED])}.")
    return said


def _record(house: House, finding: Finding, file: Path, actor: str) -> None:
    """Write the figures beside the report, keep only the newest reports, and append the measurement to the ledger."""
    payload = finding.payload()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = file.with_suffix(".unfinished")
    aside.write_text(json.dumps(payload, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.rename(file)
    stamps = sorted({path.stem for path in file.parent.iterdir()}, reverse=True)
    for old in stamps[KEPT:]:
        for suffix in (".json", ".html", ".unfinished"):
            with suppress(FileNotFoundError):
                (file.parent / (old + suffix)).unlink()
    house.ledger.append(NewEvent(drift_stream(finding.model), MEASURED, payload, actor, model=finding.model))


def _plain(figures: Mapping[str, object]) -> dict[str, JSON]:
    """Return a column's figures with decimals as strings and the regions as a mapping."""
    return {key: _as_json(value) for key, value in figures.items()}


def _as_json(value: object) -> JSON:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, tuple):
        return {str(name): str(figure) for name, figure in value}
    assert isinstance(value, str | bool)
    return value
