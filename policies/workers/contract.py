"""Checks frames against a Great Expectations suite; one import of the library serves every frame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.worker_channel import answer, receive
from policies.workers.messages import Breach, ContractReport, ContractRequest, Frame

_SUBJECTS = ("column", "column_A", "column_B", "column_list", "column_set")


def main() -> None:
    """Answer one ContractRequest."""
    request = receive(ContractRequest)
    import great_expectations
    import pandas

    declared = json.loads(request.suite)["expectations"]
    _, wrong = _expectations(declared)
    if wrong:
        answer(ContractReport(wrong_suite=wrong))
        return
    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole")
    breaches: list[Breach] = []
    rows: list[int] = []
    for frame in request.frames:
        table = pandas.read_parquet(frame.rows)
        expectations, _ = _expectations([one for one in declared if _is_for(one, frame.name)])
        suite = context.suites.add(great_expectations.ExpectationSuite(name=frame.name, expectations=expectations))
        check = context.validation_definitions.add(great_expectations.ValidationDefinition(name=frame.name, data=batch, suite=suite))
        found = check.run(batch_parameters={"dataframe": table}).to_json_dict()
        breaches += _breaches(frame, table, found)
        rows.append(len(table))
    answer(ContractReport(tuple(breaches), tuple(rows)))


def _is_for(declared: Mapping[str, Any], frame: str) -> bool:
    return frame in (declared.get("meta") or {}).get("sets", (frame,))


def _expectations(declared: list[dict[str, Any]]) -> tuple[list[Any], tuple[str, ...]]:
    """Make Great Expectations' objects, and say what is wrong with each that cannot be made."""
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    made: list[Any] = []
    wrong: list[str] = []
    for number, one in enumerate(declared, 1):
        name = f"expectation {number} ({one['type']})"
        try:
            made.append(ExpectationConfiguration(type=one["type"], kwargs=one.get("kwargs", {})).to_domain_obj())
        except ExpectationNotFoundError:
            wrong.append(f"{name}: no such expectation")
        except ValidationError as problem:
            wrong += [f"{name}: {'.'.join(map(str, error['loc']))}: {error['msg']}" for error in problem.errors()]
    return made, tuple(wrong)


def _breaches(frame: Frame, table: Any, found: Mapping[str, Any]) -> Iterator[Breach]:
    """Yield what does not hold; a check that raised does not hold."""
    for result in found["results"]:
        if not result["success"]:
            told = result["expectation_config"]
            subject = _subject(told["kwargs"])
            yield Breach(frame.name, told["type"], subject, _why(result, table))
    if found["statistics"]["evaluated_expectations"] == 0:
        yield Breach(frame.name, "the suite", "", "checked nothing")


def _subject(kwargs: Mapping[str, Any]) -> str:
    named = [kwargs[key] for key in _SUBJECTS if kwargs.get(key)]
    return ", ".join(", ".join(map(str, one)) if isinstance(one, list) else str(one) for one in named)


def _why(result: Mapping[str, Any], table: Any) -> str:
    """Say why a check does not hold, by counts, bounds and aggregates."""
    kwargs = result["expectation_config"]["kwargs"]
    bounds = ", ".join(f"{name}={value}" for name, value in kwargs.items() if name not in (*_SUBJECTS, "batch_id"))
    column = kwargs.get("column")
    if column is not None and column not in table.columns:
        return "there is no such column"
    figures = result["result"]
    if figures.get("unexpected_count"):
        why = f"{figures['unexpected_count']} of {figures['element_count']} values do not meet it"
    elif isinstance(figures.get("observed_value"), int | float):
        why = f"observed {figures['observed_value']:g}"
    else:
        why = _raised(result["exception_info"]) or "it does not hold"
    return f"{why} ({bounds})" if bounds else why


def _raised(info: Mapping[str, Any]) -> str:
    """Return the first exception that a check raised: Great Expectations nests them by metric, or not."""
    several = [info] if "raised_exception" in info else list(info.values())
    return next((f"the check raised: {str(one['exception_message'])[:300]}" for one in several if one["raised_exception"]), "")


if __name__ == "__main__":
    main()
