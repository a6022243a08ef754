"""Measuring drift: what the regions captured is held against the pinned reference, judged, and recorded.

Nothing here needs Prefect: the scheduled flow and `convoy drift` both call `measure_drift`.

Both methods' figures of every column are stored in a JSON file beside the report. The ledger's event has the verdict, the
columns that it rests on and the digests of both files, so what the file says can be proved; measured 96 times a day, the
whole table would outgrow everything else in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.local.files import private_folder, write_private
from fleet.canonical import canonical_json, digest_of_file
from fleet.declared import Drift
from fleet.errors import InputError
from fleet.versions import DataLineage
from flows.house import House
from flows.references import pinned_reference
from monitoring.drift import ColumnDrift, DriftVerdict, Lack, Measured, judge_drift, measure
from monitoring.evidently_report import ColumnScore, compare
from monitoring.reference import read_reference
from registry.captures import Window
from registry.events import stamp
from registry.ledger import JSON, Event, NewEvent

if TYPE_CHECKING:
    import pandas as pd

MEASURED = "drift.measured"
SUBJECT = "drift"
NAMED = 3
KEPT = 20
"""Measurements whose report is kept, per model: a report has some 5 MB."""
KEPT_FIGURES = 3000
"""Measurements whose figures are kept, per model: a month of quarters of an hour, each of some KB."""
ALWAYS_SAID = ("outcome", "lack", "limits", "reference")
"""What two measurements without data share when the second says nothing new."""
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

    def figures(self) -> dict[str, JSON]:
        """Return everything as JSON without floats: every column by both methods, the greatest index first, and what was left out."""
        columns = self.measured.columns
        return self._told(columns) | {
            "evidently": [_plain(asdict(score)) for score in self.scores],
            "skipped": dict(self.measured.skipped),
        }

    def payload(self) -> dict[str, JSON]:
        """Return what the ledger keeps: the verdict with the columns that drifted, may have drifted, or moved most."""
        limit = self.policy.psi
        telling = [found for found in self.measured.columns[1:] if found.drifted(limit) or found.undecided(limit)]
        return self._told((*self.measured.columns[:1], *telling))

    def _told(self, columns: tuple[ColumnDrift, ...]) -> dict[str, JSON]:
        policy, lack = self.policy, self.verdict.lack
        return {
            "outcome": self.verdict.outcome.value,
            "lack": None if lack is None else lack.value,
            "reasons": list(self.verdict.reasons),
            "remarks": list(self.remarks),
            "window": {"since": stamp(self.since), "until": stamp(self.until)},
            "limits": {"psi": str(policy.psi), "share": str(policy.share), "minimum_rows": policy.minimum_rows},
            "rows": dict(self.measured.rows),
            "columns": [_plain(asdict(found)) | {"drifted": found.drifted(policy.psi)} for found in columns],
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
    """Measure and judge a model's window that ends now, write report and figures and record the verdict in the ledger.

    A lack of rows or of columns that stands there already is not recorded again.

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
    pinned = pinned_reference(house.home.work, policy.reference, house.reach)
    reference = read_reference(pinned.file)
    columns = list(dict.fromkeys(name for window in windows.values() for name in window.columns))
    rows = {region: window.rows for region, window in windows.items()}
    measured = measure(reference, rows, columns)
    verdict = judge_drift(policy, measured)
    remarks = [*_remarks(windows, since), *pinned.remarks]
    folder = private_folder(house.home.reports / SUBJECT / model)
    report = folder / f"{until.astimezone(UTC):%Y%m%dT%H%M%S%fZ}.html"
    scores: tuple[ColumnScore, ...] = ()
    if measured.columns and measured.total >= policy.minimum_rows:
        try:
            scores = compare(reference, _whole(rows), [found.column for found in measured.columns], policy.share, report)
        except Exception as problem:  # noqa: BLE001 - a second opinion: the verdict stands without it
            # not its text, which may quote what a caller sent
            remarks.append(f"Evidently gave no opinion ({type(problem).__name__}).")
    shown = report if report.is_file() else None
    finding = Finding(model, policy, since, until, pinned.lineage, measured, scores, verdict, tuple(remarks), shown)
    _record(house, finding, report.with_suffix(".json"), actor)
    return finding


def report_url(house: House, finding: Finding) -> str | None:
    """Return where a browser finds the report, None where there is none."""
    return None if finding.report is None else f"{house.stack.control_url}/reports/{SUBJECT}/{finding.model}/{finding.report.name}"


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
    """Write the figures beside the report, keep only the newest of both, and append the measurement to the ledger."""
    payload = finding.payload()
    if _nothing_new(house.ledger.last(drift_stream(finding.model), MEASURED), payload):
        return
    write_private(file, (json.dumps(finding.figures(), indent=2, ensure_ascii=False) + "\n").encode())
    payload["figures"] = {"file": file.name, "digest": digest_of_file(file)}
    for suffix, kept in ((".html", KEPT), (".json", KEPT_FIGURES), (".unfinished", KEPT)):
        for old in sorted(file.parent.glob(f"*{suffix}"), reverse=True)[kept:]:
            old.unlink(missing_ok=True)
    house.ledger.append(NewEvent(drift_stream(finding.model), MEASURED, payload, actor, model=finding.model))


def _nothing_new(last: Event | None, payload: dict[str, JSON]) -> bool:
    """Whether the newest event already says that rows or columns are lacking, under the same limits and reference."""
    if last is None or payload["lack"] not in (Lack.ROWS.value, Lack.COLUMNS.value):
        return False
    before, now = ({name: found.get(name) for name in ALWAYS_SAID} for found in (last.payload, payload))
    return canonical_json(before) == canonical_json(now)


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
