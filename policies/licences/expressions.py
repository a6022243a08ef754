"""Licence expressions of SPDX, held against an allowlist.

Source: SPDX 2.3 annex D (license expressions), read by the library license-expression. The logic has three values: what
the expression needs may be allowed, denied, or unknown to SPDX and to the allowlist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from fleet.components import Component

LONGEST = 1000
LONGEST_TEXT = 100
_TROVE = Path(__file__).parent / "trove.json"


class Right(StrEnum):
    """What an allowlist says of an expression."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNKNOWN = "unknown"


def parsed(expression: str) -> Any:
    """Return an expression in SPDX's own spelling; raises ValueError for what is none, or is empty."""
    from license_expression import ExpressionError

    try:
        found = _licensing().parse(expression) if 0 < len(expression) <= LONGEST else None
    except (ExpressionError, RecursionError) as problem:
        raise ValueError(f"'{expression[:80]}' is no licence expression") from problem
    if found is None:
        raise ValueError("there is no licence expression" if not expression else "the licence expression is too long")
    return found


def judged(expression: str, allow: Iterable[str]) -> Right:
    """Return whether an allowlist allows an expression.

    `A AND B` needs both, `A OR B` one of them. `A WITH E` is allowed where it is named, or where A is: an exception only
    ever gives more. What is no expression is unknown.
    """
    try:
        found = parsed(expression)
        allowed = frozenset(str(parsed(each)) for each in allow)
        return _judged(found, allowed)
    except (ValueError, RecursionError):
        return Right.UNKNOWN


def _judged(found: Any, allowed: frozenset[str]) -> Right:
    licensing = _licensing()
    if isinstance(found, licensing.AND):
        return _worst([_judged(each, allowed) for each in found.args], Right.DENIED, Right.ALLOWED)
    if isinstance(found, licensing.OR):
        return _worst([_judged(each, allowed) for each in found.args], Right.ALLOWED, Right.DENIED)
    names = {str(found), str(getattr(found, "license_symbol", found))}
    if names & allowed:
        return Right.ALLOWED
    return Right.UNKNOWN if licensing.unknown_license_keys(found) else Right.DENIED


def _worst(each: list[Right], decides: Right, otherwise: Right) -> Right:
    return decides if decides in each else Right.UNKNOWN if Right.UNKNOWN in each else otherwise


def expression_of(component: Component) -> str:
    """Return a package's licence as an expression, empty where it says nothing that anybody can read.

    Its own SPDX expression counts first, then the field License where it is one or is a known name, then all of its
    classifiers together: of "BSD License" nobody knows which one, so both must be allowed.
    """
    if component.expression:
        return component.expression
    text = " ".join(component.licence.split())
    if 0 < len(text) <= LONGEST_TEXT:
        plain = " ".join(re.sub(r"\b(the|version)\b|[,()]", " ", text.lower()).split())
        if known := _trove()["texts"].get(plain):
            return " AND ".join(known)
        if _known(text):
            return text
    table = _trove()["classifiers"]
    names = [each.removeprefix("License :: ").removeprefix("OSI Approved :: ") for each in component.classifiers]
    if not names or any(name not in table for name in names):
        return ""
    return " AND ".join(dict.fromkeys(licence for name in names for licence in table[name]))


def _known(text: str) -> bool:
    try:
        return not _licensing().unknown_license_keys(parsed(text))
    except ValueError:
        return False


@cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@cache
def _trove() -> dict[str, dict[str, list[str]]]:
    document: dict[str, dict[str, list[str]]] = json.loads(_TROVE.read_text(encoding="utf-8"))
    return document
