"""What the workers are asked and what they answer; light, because both sides import it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.declared_optimise import Variant

Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """Make a variant of the MLflow model in a folder; the first of some rows (Parquet) say in which types it answers."""

    model: Path
    rows: Path
    variant: Variant


@dataclass(frozen=True, slots=True)
class Converted:
    """The variant's files, the graph in Base64; `problem` says why there are none."""

    graph: str = ""
    document: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Answer every row of a Parquet file alone, then as often as `seconds` allow: alone, and in batches of 64.

    It is the variant that answers where its folder is given, else the model.
    """

    model: Path
    rows: Path
    seconds: float
    variant: Path | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Every row's answers by `outputs`, as the service names and tells them, and rows a second; `load_ms` is the loading.

    `together` are the answers to the same rows in batches of 64; none where what comes back is not a row for each row.
    """

    outputs: tuple[str, ...]
    types: tuple[str, ...]
    answers: tuple[tuple[Value, ...], ...]
    alone: float
    batched: float
    load_ms: float
    together: tuple[tuple[Value, ...], ...] = ()
