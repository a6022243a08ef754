"""The requests of a drill: rows of the model's own input example, out of the region's store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from bentos.build import MODEL_FOLDER
from fleet.errors import NotSupported, OperationFailed, Unreachable
from fleet.versions import Revision
from flows.house import House
from registry.store import ContentStore

EXAMPLE = f"{MODEL_FOLDER}/serving_input_example.json"
"""What MLflow writes beside a model that was logged with an input example."""
MOST_ROWS = 100
ANSWER_SECONDS = 10.0
WHOLE = ("INT", "UINT")


def requests_for(house: House, revision: Revision, region: str) -> tuple[bytes, ...]:
    """Return Open Inference requests, one for each row of the revision's input example, 100 at most.

    Raises NotSupported for a model without an example in columns, Unreachable when the edge does not answer.
    """
    example = example_of(house.region_store(region), revision)
    return bodies_of(example, _inputs(f"{house.edge_near(region).url}/v2/models/{revision.model}"), revision.model)


def example_of(store: ContentStore, revision: Revision) -> Mapping[str, Any]:
    """Return the saved example of a stored revision as MLflow wrote it; raises NotSupported where there is none."""
    entry = next((entry for entry in store.manifest(revision.digest).entries if entry.path == EXAMPLE), None)
    if entry is None:
        raise _no_example(revision.model, "was logged without an input example")
    found = json.loads(b"".join(store.get_part(part.digest) for part in entry.parts))
    return found if isinstance(found, dict) else {}


def bodies_of(example: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], model: str) -> tuple[bytes, ...]:
    """Return a request per row; `inputs` are the columns as the service describes them. Raises NotSupported for other forms."""
    frame = example.get("dataframe_split")
    if not isinstance(frame, dict) or not frame.get("data"):
        raise _no_example(model, "has an input example that is not a table of rows")
    if any(len(column["shape"]) > 1 for column in inputs):
        raise _no_example(model, "takes tensors of more than one dimension")
    datatypes = {str(column["name"]): str(column["datatype"]) for column in inputs}
    places = {str(name): place for place, name in enumerate(frame["columns"]) if str(name) in datatypes}
    return tuple(_body(row, places, datatypes) for row in frame["data"][:MOST_ROWS])


def _body(row: Sequence[Any], places: Mapping[str, int], datatypes: Mapping[str, str]) -> bytes:
    tensors = [
        {"name": name, "shape": [1], "datatype": datatypes[name], "data": [_value(row[place], datatypes[name])]}
        for name, place in places.items()
        if row[place] is not None or datatypes[name].startswith("FP")
    ]
    return json.dumps({"inputs": tensors}).encode()


def _value(value: Any, datatype: str) -> Any:
    """Return a value as its datatype travels: a whole number may stand in a column of pandas as 3.0."""
    return int(value) if datatype.startswith(WHOLE) and isinstance(value, float) and value.is_integer() else value


def _inputs(url: str) -> list[dict[str, Any]]:
    try:
        answer = httpx.get(url, timeout=ANSWER_SECONDS, trust_env=False)
    except httpx.TransportError as problem:
        raise Unreachable(url, f"does not answer ({type(problem).__name__})", "See `convoy status`.") from problem
    if not answer.is_success:
        raise OperationFailed(url, f"answered {answer.status_code}: {answer.text[:200]}", "See `convoy status`.")
    return list(answer.json()["inputs"])


def _no_example(model: str, reason: str) -> NotSupported:
    return NotSupported(f"model '{model}'", f"{reason}, so a drill has no requests to send", "Log it with input_example= a DataFrame.")
