"""Texts beside a model: inert by themselves, but some are read as documents, and some say what is installed."""

from __future__ import annotations

from pathlib import PurePosixPath

from fleet import yaml_text

DOCUMENTS = ("MLmodel", "registered_model_meta")
# What has no ending and is text all the same
PLAIN_NAMES = (*DOCUMENTS, "LICENSE", "NOTICE", "README")
_REQUIREMENTS = ("requirements.txt", "constraints.txt")


def read_yaml(text: bytes) -> tuple[object, str]:
    """Return a YAML document of plain values, or why it is none: a tag such as !!python/object makes it something else."""
    try:
        return yaml_text.read_yaml(text), ""
    except yaml_text.Unreadable as problem:
        return None, str(problem)


def text_problems(name: str, data: bytes) -> tuple[str, ...]:
    """Return what is wrong with a text of this name."""
    path = PurePosixPath(name)
    if path.suffix.lower() in (".yaml", ".yml") or path.name in DOCUMENTS:
        problem = read_yaml(data)[1]
        return (problem,) if problem else ()
    return _astray(data.decode("utf-8")) if path.name in _REQUIREMENTS else ()


def _astray(text: str) -> tuple[str, ...]:
    """Return the requirements that fetch from elsewhere than the index, or say where that is."""
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    found = [line for line in lines if line.startswith(("-", ".", "/")) or "@" in line or "://" in line]
    return tuple(f"requires '{line[:80]}', which is no package of the index" for line in found[:3] if not line.startswith("#"))
