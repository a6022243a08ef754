"""Parameters of a prediction, as a model's signature declares them: held against it before the model sees them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest, told


@dataclass(frozen=True, slots=True)
class Param:
    """One declared parameter; `spec` is its `mlflow.types.ParamSpec`, `kind` that one's name of the type, `many` whether it is a list."""

    name: str
    kind: str
    many: bool
    spec: Any

    def checked(self, value: Any) -> Any:
        """Return a value as MLflow passes it on; raises BadRequest that names the parameter."""
        try:
            return self.spec.validate_param_spec(value, self.spec)
        except Exception as problem:  # MLflow's checks run into errors of every kind
            wanted = f"a list of {self.kind}" if self.many else self.kind
            raise BadRequest(f"parameter '{self.name}': must be {wanted} ({told(problem)})") from problem


def params_of(declared: Any) -> tuple[Param, ...]:
    """Return the parameters of an `mlflow.models.ModelSignature`."""
    specs = declared.params.params if getattr(declared, "params", None) else ()
    return tuple(Param(str(spec.name), getattr(spec.dtype, "name", "object"), spec.shape is not None, spec) for spec in specs)


def known_params(declared: Collection[Param], given: Any) -> Mapping[str, Any]:
    """Return those of the given parameters that the model declares, checked; the protocol leaves the others to the server."""
    if not declared or not isinstance(given, Mapping):
        return {}
    return {param.name: param.checked(given[param.name]) for param in declared if param.name in given}


def all_params(declared: Collection[Param], given: Any, key: str) -> Mapping[str, Any]:
    """Return the given parameters, checked; raises BadRequest for one that the model does not declare."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadRequest(f'"{key}" must be an object')
    names = [param.name for param in declared]
    for name in given:
        if name not in names:
            known = ", ".join(f"'{each}'" for each in names) or "none"
            raise BadRequest(f"unknown parameter '{name[:100]}' (known: {known})")
    return known_params(declared, given)
