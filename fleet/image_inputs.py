"""What may be written into a Dockerfile: image references and Debian packages by their grammars, and nothing else.

BentoML pasted both into the Dockerfile as they were: CVE-2026-33744 (`system_packages`), CVE-2026-44345 (`base_image`).
"""

from __future__ import annotations

import re

LONGEST = 512
_HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
# https://github.com/distribution/reference, reference.go; only with a digest
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?@sha256:[0-9a-f]{{64}}")
# Debian policy 5.6.1 (names), 5.6.12 (versions)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}(?:=(?:[0-9]{1,9}:)?[0-9][A-Za-z0-9.+~-]{0,127})?")


def unfit_base_image(text: str) -> str:
    """Say why a text is no image reference with a digest, in words that follow "it"; nothing where it is one."""
    if why := _unprintable(text):
        return why
    if "@sha256:" not in text:
        return "is pinned by no digest, so that it may be another image tomorrow: write NAME@sha256:…"
    return "" if _IMAGE.fullmatch(text) else "is no image reference (NAME@sha256:…, with 64 small hex digits)"


def unfit_system_package(text: str) -> str:
    """Say why a text is no Debian package, with its version or without, in words that follow "it"; nothing where it is one."""
    return _unprintable(text) or ("" if _PACKAGE.fullmatch(text) else "is no name of a Debian package (small letters, digits, + - .)")


def _unprintable(text: str) -> str:
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} characters"
    return (
        "has a space, a line break or an unprintable sign in it" if any(sign.isspace() or not sign.isprintable() for sign in text) else ""
    )
