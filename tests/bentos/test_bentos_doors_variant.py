"""A variant that lies beside its model is what every door asks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest
from bentos_serving import digest_of, serving
from test_bentos_optimise import NUMBERS, ROWS, _pipeline, made, saved

from bentos.build import build
from bentos.inputs import BuildOptions
from bentos.service.grpc_messages import message
from support.ports import free_port

TYPES = {"age": "INT64", "hours a week": "FP64", "city": "BYTES"}
FIRST = ROWS.head(3)[[*NUMBERS, "city"]]
LISTS = FIRST.to_numpy().tolist()
RECORDS = [dict(zip(TYPES, values, strict=True)) for values in LISTS]
BODIES: dict[str, tuple[str, Any]] = {
    "inference": (
        "/v2/models/people/infer",
        {"inputs": [{"name": name, "datatype": TYPES[name], "shape": [3], "data": FIRST[name].tolist()} for name in TYPES]},
    ),
    "split": ("/invocations", {"dataframe_split": {"columns": list(TYPES), "data": LISTS}}),
    "records": ("/invocations", {"dataframe_records": RECORDS}),
    "vertex": ("/v1/models/people:predict", {"instances": RECORDS}),
    "azure": ("/score", {"input_data": {"columns": list(TYPES), "data": LISTS}}),
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, int]]:
    folder, port = tmp_path_factory.mktemp("people"), free_port()
    model, rows = saved(folder, "sklearn", _pipeline(), pyfunc_predict_fn="predict_proba")
    root = folder / "revision"
    manifest = build(model, "people", "1", root, BuildOptions(variant=made(folder, model, rows)))
    root.with_name("revision.manifest").write_bytes(manifest.to_bytes())
    with serving(root, folder / "log", revision=digest_of(root), grpc_port=str(port)) as service:
        assert service.get("/v2/health/ready").json()["path"] == "variant onnx"
        yield service.client, port


def ask_grpc(port: int, rows: Any) -> tuple[Any, str]:
    request = message("ModelInferRequest")(model_name="people")
    for name, datatype in TYPES.items():
        request.inputs.add(name=name, datatype=datatype, shape=[len(rows)])
        values = rows[name].tolist()
        texts = [value.encode() for value in values] if datatype == "BYTES" else []
        raw = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        request.raw_input_contents.append(raw or np.array(values, {"INT64": "<i8", "FP64": "<f8"}[datatype]).tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer, call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").with_call(request.SerializeToString(), timeout=20)
    found = message("ModelInferResponse").FromString(answer)
    return np.frombuffer(found.raw_output_contents[0], "<f8").reshape(-1, 2), dict(call.initial_metadata())["x-convoy-answer"]


def test_a_variant_answers_the_same_at_every_door_as_its_model_did(people: tuple[httpx.Client, int]) -> None:
    client, port = people
    found, marks = {}, set()
    for name, (path, body) in BODIES.items():
        answer = client.post(path, content=orjson.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code == 200, (name, answer.text)
        document = answer.json()
        found[name] = document["outputs"][0]["data"] if name == "inference" else document if name == "azure" else document["predictions"]
        marks.add(answer.headers["x-convoy-answer"])
    text = client.post(
        "/invocations", content=FIRST.to_csv(index=False), headers={"content-type": "text/csv", "accept": "application/json"}
    )
    found["csv"] = text.json()["predictions"]
    found["grpc"], mark = ask_grpc(port, FIRST)

    expected = _pipeline().predict_proba(FIRST)
    assert {name for name, given in found.items() if not np.allclose(np.reshape(given, (3, 2)), expected, atol=1e-5)} == set()
    assert marks | {text.headers["x-convoy-answer"]} == {mark}


def test_a_missing_value_that_its_model_raises_on_is_refused_at_every_door_and_beforehand(people: tuple[httpx.Client, int]) -> None:
    client, port = people
    gone = orjson.dumps(float(FIRST["hours a week"].iloc[1]))
    for path, body in BODIES.values():
        asked = orjson.dumps(body)
        assert gone in asked
        answer = client.post(path, content=asked.replace(gone, b"null"), headers={"content-type": "application/json"})
        assert (answer.status_code, "column 'hours a week': row 1 has null" in answer.text) == (400, True), (path, answer.text)
    missing = FIRST.assign(**{"hours a week": [1.0, np.nan, 2.0]})
    text = client.post("/invocations", content=missing.to_csv(index=False), headers={"content-type": "text/csv"})
    with pytest.raises(grpc.RpcError) as refused:
        ask_grpc(port, missing)

    assert (text.status_code, refused.value.code()) == (400, grpc.StatusCode.INVALID_ARGUMENT)  # type: ignore[attr-defined]
    told = {each["name"]: each.get("parameters") for each in client.get("/v2/models/people").json()["inputs"]}
    assert told == {"age": None, "hours a week": {"missing": "refused"}, "city": None}
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Row"]["properties"]["hours a week"]["type"] == "number"
