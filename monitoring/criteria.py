"""What a canary is judged by: the declared limits of one release, as the judge reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet.declared import HarmBudget, Rate, Rollback
from fleet.errors import InputError
from fleet.evidence import Metric


@dataclass(frozen=True, slots=True)
class Criteria:
    """The limits of one release.

    `error_rates` has each region's SLO, as a share of answers in 0..1; `shift` is how far the mean scores may lie
    apart, `disagreement` which share of shadow answers may differ, `harm_budget` how many bad answers the canary may
    give in all. What is None is not judged.
    """

    rollback: Rollback
    error_rates: Mapping[str, float] = field(default_factory=dict)
    shift: float | None = None
    disagreement: float | None = None
    harm_budget: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the limits with every number as a decimal in text, as the ledger has them."""
        return {
            "rollback": _texts(self.rollback.model_dump()),
            "error_rates": _texts(dict(self.error_rates)),
            "shift": _text(self.shift),
            "disagreement": _text(self.disagreement),
            "harm_budget": _text(self.harm_budget),
        }

    @property
    def limit(self) -> float:
        """The e-value at which a canary is rolled back."""
        return 1 / self.rollback.alpha

    def stakes(self) -> dict[Metric, float]:
        """Return the metrics that are judged with their parts of the error budget, which sum to 1.

        They follow from what was declared before the release, never from what was seen in it.
        """
        declared = self.rollback.stakes
        judged = {
            Metric.ERRORS: declared.errors,
            Metric.SLOW: declared.slow,
            Metric.OBJECTIVE: declared.objective if self.error_rates else 0.0,
            Metric.PREDICTIONS: declared.predictions if self.shift is not None else 0.0,
            Metric.PAIRS: declared.pairs if self.disagreement is not None else 0.0,
        }
        total = sum(judged.values())
        return {metric: stake / total for metric, stake in judged.items() if stake}


def criteria_from(recorded: Mapping[str, Any], changes: Mapping[str, str] | None = None) -> Criteria:
    """Return the limits that were recorded, some of them changed.

    A change names a limit by its path: `alpha`, `margin`, `stakes.errors`, `error_rates.us-east-1`, `shift`. Raises InputError for a
    path that does not exist and for a value that is not allowed there.
    """
    texts: dict[str, Any] = {"rollback": _copy(recorded["rollback"]), "error_rates": _copy(recorded["error_rates"])}
    texts |= {name: recorded.get(name) for name in _OPTIONAL}
    for path, value in (changes or {}).items():
        _set(texts, path, value)
    try:
        rates = _RATES.validate_python(texts["error_rates"])
        optional = {name: adapter.validate_python(texts[name]) for name, adapter in _OPTIONAL.items()}
        return Criteria(Rollback.model_validate(texts["rollback"]), rates, **optional)
    except ValidationError as problem:
        told = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'value'}: {error['msg']}" for error in problem.errors())
        raise InputError("the judge's limits", told, "See `rollback` in docs/settings.md.") from problem


_RATES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, float])
_RATE: TypeAdapter[Any] = TypeAdapter(Rate | None)
_OPTIONAL: Mapping[str, TypeAdapter[Any]] = {"shift": _RATE, "disagreement": _RATE, "harm_budget": TypeAdapter(HarmBudget | None)}


def _set(texts: dict[str, Any], path: str, value: str) -> None:
    """Change one value in place; the paths of `rollback` may be written without its name."""
    place: dict[str, Any] = texts if path.split(".")[0] in texts else texts["rollback"]
    *above, last = path.split(".")
    for name in above:
        below = place.get(name)
        if not isinstance(below, dict):
            raise InputError(f"limit '{path}'", f"does not exist (known here: {', '.join(sorted(place))})")
        place = below
    if last not in place or isinstance(place[last], dict):
        raise InputError(f"limit '{path}'", f"does not exist (known here: {', '.join(sorted(place))})")
    place[last] = value


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _texts(value) if isinstance(value, Mapping) else _text(value) for name, value in values.items()}


def _text(value: float | str | None) -> str | None:
    """Return a number so that it reads back as the same one."""
    return None if value is None else value if isinstance(value, str) else repr(value)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copy(value) if isinstance(value, Mapping) else value for name, value in values.items()}
