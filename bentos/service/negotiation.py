"""Which form of an answer a caller accepts (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from .errors import NotAcceptable


def accepted(header: bytes, offered: tuple[str, ...]) -> str:
    """Return the offered type that the caller likes best, the first one where it does not say; raises NotAcceptable."""
    ranges = [_range(part) for part in header.decode("latin-1").split(",") if part.strip()]
    if not ranges:
        return offered[0]
    best, weight = max(((each, _weight(each, ranges)) for each in offered), key=lambda found: found[1])
    if weight <= 0:
        raise NotAcceptable(f"the answer can be {' or '.join(offered)}")
    return best


def _range(part: str) -> tuple[str, float]:
    name, *parameters = part.split(";")
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                weight = min(max(float(value), 0.0), 1.0)
            except ValueError:
                weight = 0.0
    return name.strip().lower(), weight


def _weight(offered: str, ranges: list[tuple[str, float]]) -> float:
    """Return how much a type is liked: what names it most exactly counts."""
    for name in (offered, offered.partition("/")[0] + "/*", "*/*"):
        found = [weight for each, weight in ranges if each == name]
        if found:
            return max(found)
    return 0.0
