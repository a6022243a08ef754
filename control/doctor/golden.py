"""Whether what serves still gives the answers that it gave when it was released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem


def golden_answers(case: Case) -> Iterator[Finding]:
    """Whether every region last reproduced the golden answers of each model that declares some."""
    from flows.gate_report import of_payload
    from flows.golden_checks import DIFFERENT, golden_stream, last_check, watched

    house = case.house
    for model in watched(house):
        subject, last = f"golden answers of {model}", last_check(house, model)
        if last is None:
            yield ok(subject, "were not asked for yet: `check_golden` asks what serves every quarter of an hour")
            continue
        told = last.payload["regions"]
        regions = dict(told) if isinstance(told, Mapping) else {}
        different = [region for region, found in regions.items() if found == DIFFERENT]
        if not different:
            yield ok(subject, f"version {last.payload['version']} reproduces them in {', '.join(regions)}")
            continue
        reasons = [reason for result in of_payload(last.payload.get("results")) for reason in result.reasons[:2]]
        why = f"version {last.payload['version']} gives others in {', '.join(different)} since {last.at:%Y-%m-%d %H:%M} UTC"
        yield problem(subject, f"{why}: {'; '.join(reasons)}", f"convoy ledger show --stream {golden_stream(model)}")
