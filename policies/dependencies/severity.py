"""How bad a vulnerability is: the words of CVSS's qualitative scale, by base score.

Sources: https://www.first.org/cvss/v4.0/specification-document (section 6), and GitHub's word "moderate" for medium.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """From harmless to critical; `UNKNOWN` where nobody rated it, or nobody can read how."""

    UNKNOWN = -1
    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        """Its word, as fleet.yaml has it."""
        return self.name.lower()

    @classmethod
    def of_word(cls, word: str) -> Severity:
        """Return the severity of a word, `UNKNOWN` for one that is none."""
        return _WORDS.get(word.strip().lower(), cls.UNKNOWN)


_WORDS = {found.word: found for found in Severity} | {"moderate": Severity.MEDIUM, "important": Severity.HIGH}
# Where the score of each begins
_FROM = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM), (0.1, Severity.LOW))


def severity_of(record: Mapping[str, Any], affected: Mapping[str, Any]) -> Severity:
    """Return how bad an advisory is for one affected package: the worst that its scores say, else what its database says.

    A score that cannot be read is no all-clear: then it is unknown, unless what can be read is critical anyway.
    """
    scored = list(_scored(record.get("severity"))) + list(_scored(affected.get("severity")))
    if not scored:
        scored = [found for found in map(_worded, (record, affected)) if found is not None]
    worst = max(scored, default=Severity.UNKNOWN)
    return Severity.UNKNOWN if Severity.UNKNOWN in scored and worst is not Severity.CRITICAL else worst


def _scored(told: object) -> Iterator[Severity]:
    for found in told if isinstance(told, list) else []:
        kind, vector = (str(found.get(key, "")) for key in ("type", "score")) if isinstance(found, Mapping) else ("CVSS_", "")
        # Other types, such as Ubuntu's, rate by a scale of their own
        if kind.startswith("CVSS_"):
            yield _of_vector(kind, vector)


def _of_vector(kind: str, vector: str) -> Severity:
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError

    known = {"CVSS_V2": CVSS2, "CVSS_V3": CVSS3, "CVSS_V4": CVSS4}
    try:
        score = float(known[kind](vector).base_score)
    except (CVSSError, KeyError):
        return Severity.UNKNOWN
    return next((severity for least, severity in _FROM if score >= least), Severity.NONE)


def _worded(told: Mapping[str, Any]) -> Severity | None:
    database = told.get("database_specific")
    word = database.get("severity") if isinstance(database, Mapping) else None
    return Severity.of_word(word) if isinstance(word, str) else None
