"""`convoy conformance URL|FOLDER`: whether a server or an image keeps the contracts of those who run it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from rich.markup import escape

from bentos.conformance.asking import ASK_SECONDS, Subject
from bentos.conformance.contracts import CONTRACTS, judge
from bentos.conformance.findings import Finding, Outcome, conforms
from bentos.conformance.images import check_image, known, not_of_a_server
from control.predict_command import read_rows
from control.printing import out, print_json, print_table, progress
from fleet.errors import ExitCode, InputError, UnknownName

COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.INCONCLUSIVE: "yellow", Outcome.NOT_APPLICABLE: "dim"}


def check(subject: str, named: tuple[str, ...], about: tuple[str | None, str | None], rows: Path | None, as_json: bool) -> ExitCode:
    """Check a server by its URL or an image by its layout's folder; `about` is (digest, model) where they are known.

    Returns 3 where a rule failed or could not be told. Raises InputError for a subject that is neither.
    """
    unknown = [name for name in named if name not in CONTRACTS]
    if unknown:
        raise UnknownName(f"contract '{unknown[0]}'", f"is not known (known: {', '.join(CONTRACTS)})", "Correct --contract.")
    if about[0] is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", about[0]):
        raise InputError(
            f"'{about[0]}'", "is no digest of a revision", "Give --digest sha256: and 64 hex digits, as `convoy package` prints it."
        )
    contracts = named or tuple(CONTRACTS)
    given = _rows(rows) if rows else ()
    if subject.startswith(("http://", "https://")):
        found = _server(subject, contracts, about, given)
    elif Path(subject).is_dir():
        progress.print("unpacking the image and starting it")
        found = check_image(Path(subject), contracts, given)
    else:
        raise InputError(f"'{subject}'", "is neither a URL nor a folder", "Give http://HOST:PORT, or the folder of --oci.")
    if as_json:
        print_json({"subject": subject, "conforms": conforms(found), "findings": [_document(each) for each in found]})
    else:
        rows_told = [(each.contract, each.rule, f"[{COLOURS[each.outcome]}]{each.outcome}[/]", escape(each.reason)) for each in found]
        print_table(f"Contracts kept by {escape(subject)}", ("contract", "rule", "outcome", "why"), rows_told)
        out.print("it conforms" if conforms(found) else "it does not conform")
    return ExitCode.DONE if conforms(found) else ExitCode.REJECTED


def _rows(file: Path) -> tuple[dict[str, object], ...]:
    found = read_rows(file)
    if not isinstance(found, list) or not found:
        raise InputError(str(file), "is a request, or has no rows", "Give rows: a list of objects, or CSV.")
    return tuple(found)


def _server(
    url: str, contracts: tuple[str, ...], about: tuple[str | None, str | None], rows: tuple[dict[str, object], ...]
) -> tuple[Finding, ...]:
    try:
        asked = httpx.URL(url)
        if not asked.host or "%" in asked.host or not 0 < (asked.port or 80) < 1 << 16:
            raise httpx.InvalidURL("it names no host, or no port of one")
        with httpx.Client(base_url=url, timeout=ASK_SECONDS, trust_env=False) as client:
            return (*judge(known(Subject(client, *about, rows)), contracts), *not_of_a_server(contracts))
    except httpx.InvalidURL as problem:
        raise InputError(f"'{url}'", f"is no URL that can be asked ({problem})", "Give http://HOST:PORT.") from problem


def _document(found: Finding) -> dict[str, str]:
    return {"contract": found.contract, "rule": found.rule, "outcome": found.outcome.value, "reason": found.reason}
