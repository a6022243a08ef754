"""What each door makes of its callers' shapes, and what it refuses, for every kind of model; and where clouds say the doors are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from bentos_serving import Service, serving
from hostile_bodies import ROW

from bentos.service.azure import Azure
from bentos.service.doors import Call, Door, Enquiry
from bentos.service.errors import BadRequest, NotAcceptable, SettingsWrong
from bentos.service.invocations import Invocations
from bentos.service.negotiation import accepted
from bentos.service.oip import Oip
from bentos.service.routes import Router, table
from bentos.service.scorer import Label, Scorer, load
from bentos.service.settings import ServiceSettings, read_settings
from bentos.service.vertex import Vertex

MODELS = Path(__file__).parent / "models"
NAMES = list(ROW)
VALUES = [value for _, value in ROW.values()]


@pytest.fixture(scope="module")
def scorer(echo_model: Path) -> Scorer:
    return load(echo_model, Label("echo", "1"), "echo")


def call(body: Any, kind: str = "application/json", **headers: str) -> Call:
    content = body.encode() if isinstance(body, str) else orjson.dumps(body)
    named = {b"content-type": kind.encode()} | {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Call(content, named)


def answered(scorer: Scorer, door: Door, asked: Call) -> Any:
    door.admit(asked.headers)
    enquiry = Enquiry(door, asked)
    heard = enquiry.heard(scorer)
    return orjson.loads(enquiry.reply(scorer, heard, scorer.score(heard.asked)).body)


@pytest.fixture(scope="module")
def tensors(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """A model of an image and a bias, which answers with arrays by name."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    folder = tmp_path_factory.mktemp("arrays") / "m"
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 2, 2), "image"), TensorSpec(np.dtype("float32"), (-1,), "bias")])
    signature = ModelSignature(inputs=inputs)
    mlflow.pyfunc.save_model(folder, python_model=MODELS / "arrays.py", signature=signature, pip_requirements=[])
    return load(folder, Label("m", "1"), "m")


IMAGE = [[1, 2], [3, 4]]
ARRAYS = {
    "instances": (Invocations(), {"instances": [{"image": IMAGE, "bias": 0.5}] * 2}, {"predictions": {"sum": [10.5, 10.5]}}),
    "inputs": (Invocations(), {"inputs": {"image": [IMAGE] * 2, "bias": [0.5, 1.5]}}, {"predictions": {"sum": [10.5, 11.5]}}),
    "Vertex": (Vertex(), {"instances": [{"image": IMAGE, "bias": 0.5}]}, {"predictions": [{"sum": 10.5}]}),
    "Azure": (Azure(), {"input_data": {"image": [IMAGE], "bias": [0.5]}}, {"sum": [10.5]}),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_a_model_of_arrays_is_asked_by_name(case: str, tensors: Scorer) -> None:
    door, body, expected = ARRAYS[case]
    assert answered(tensors, door, call(body)) == expected


def test_a_model_of_one_unnamed_array_takes_rows_of_numbers(tmp_path: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    rows = np.arange(12.0).reshape(4, 3)
    model = LinearRegression().fit(rows, np.stack([rows.sum(axis=1), rows[:, 0]], axis=1))
    mlflow.sklearn.save_model(model, tmp_path / "m", signature=infer_signature(rows, model.predict(rows)))
    scorer = load(tmp_path / "m", Label("m", "1"), "m")

    for door, key in ((Invocations(), "instances"), (Invocations(), "inputs"), (Vertex(), "instances")):
        found = answered(scorer, door, call({key: [[1, 2, 3], [4, 5, 6]]}))["predictions"]
        np.testing.assert_allclose(found, [[6, 1], [15, 4]])


def test_a_model_of_one_column_takes_bare_values_and_nested_ones_as_they_are(tmp_path: Path) -> None:
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(tmp_path / "m", python_model=MODELS / "texts.py", pip_requirements=[], input_example=["a", "bb"])
    scorer = load(tmp_path / "m", Label("m", "1"), "m")

    assert answered(scorer, Vertex(), call({"instances": ["one", "three"]})) == {"predictions": [3, 5]}
    assert answered(scorer, Azure(), call({"input_data": ["one", "three"]})) == [3, 5]


def parametrised(tmp_path: Path) -> Scorer:
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    params = {"times": 2.0, "names": ["a"]}
    signature = infer_signature([1.0], [1.0], params)
    mlflow.pyfunc.save_model(tmp_path / "m", python_model=MODELS / "times.py", signature=signature, pip_requirements=[])
    return load(tmp_path / "m", Label("m", "1"), "m")


def test_params_reach_the_model_from_every_door_and_are_checked(tmp_path: Path) -> None:
    scorer = parametrised(tmp_path)
    name = scorer.signature.inputs[0].name
    tensor = {"name": name, "datatype": "FP64", "shape": [1], "data": [4.0]}
    given = {"times": 3.0}

    assert answered(scorer, Invocations(), call({"inputs": [4.0]})) == {"predictions": [8.0]}
    assert answered(scorer, Invocations(), call({"inputs": [4.0], "params": given})) == {"predictions": [12.0]}
    assert answered(scorer, Vertex(), call({"instances": [4.0], "parameters": given})) == {"predictions": [12.0]}
    assert answered(scorer, Azure(), call({"input_data": [4.0], "params": given})) == [12.0]
    of_server = {"binary_data_output": False}
    assert answered(scorer, Oip(), call({"inputs": [tensor], "parameters": given | of_server}))["outputs"][0]["data"] == [12.0]
    assert orjson.loads(scorer.answer(orjson.dumps({"inputs": [tensor], "parameters": given})).body)["outputs"][0]["data"] == [12.0]
    for wrong, reason in (
        ({"time": 3.0}, "unknown parameter 'time' (known: 'times', 'names')"),
        ({"times": "x"}, "parameter 'times': must be double"),
    ):
        with pytest.raises(BadRequest) as refused:
            answered(scorer, Invocations(), call({"inputs": [4.0], "params": wrong}))
        assert str(refused.value).startswith(reason)


def split(**changes: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": NAMES, "data": [VALUES]} | changes}


WRONG: dict[str, tuple[Door, Any, str]] = {
    "no shape": (Invocations(), {"data": []}, "must have exactly one of dataframe_split, dataframe_records, instances, inputs"),
    "two shapes": (Invocations(), {"inputs": {}, "instances": []}, "must have exactly one of"),
    "no object": (Invocations(), [], "the body must be a JSON object"),
    "no rows": (Invocations(), {"instances": []}, '"instances" must have at least one row'),
    "a row too long": (
        Invocations(),
        {"instances": [[*VALUES, "2026-01-01", "x", 1]]},
        "instances[0] has 9 values, the model has 8 columns",
    ),
    "a row too short": (Invocations(), {"instances": [VALUES, VALUES[:-1]]}, "instances[1] must be a list of 6 values"),
    "a row too short for the model": (Invocations(), {"instances": [VALUES[:-1]]}, "missing column 'city'"),
    "rows of two kinds": (Vertex(), {"instances": [dict(zip(NAMES, VALUES, strict=True)), VALUES]}, "instances[1] must be an object"),
    "bare values": (Vertex(), {"instances": [1, 2]}, "instances[0] must be an object or a list of the model's 8 columns"),
    "no instances": (Vertex(), {"inputs": []}, 'must have the key "instances"'),
    "an unknown column": (Invocations(), split(columns=[*NAMES[:-1], "town"]), "unknown column 'town' (known:"),
    "a column twice": (Invocations(), split(columns=[*NAMES[:-1], "age"]), '"columns" of "dataframe_split" has a name twice'),
    "columns that are no names": (Invocations(), split(columns=[1.5]), '"columns" of "dataframe_split" must be a list of names'),
    "a value of another type": (Invocations(), split(data=[["x", *VALUES[1:]]]), "column 'age': data[0] is 'x', allowed are whole numbers"),
    "no list in a column": (Azure(), {"input_data": {"age": 4}}, "column 'age': must be a list of whole numbers"),
    "a ragged column": (Azure(), {"input_data": {"age": [[1], [2, 3]]}}, "column 'age': its lists differ in length"),
    "columns of other lengths": (
        Azure(),
        {"input_data": {name: [value] * (1 + (name == "city")) for name, value in zip(NAMES, VALUES, strict=True)}},
        "column 'city' has 2 rows, column 'age' has 1",
    ),
    "rows that are no lists": (Invocations(), split(columns=None, data=[1, 2]), "dataframe_split.data[0] must be a list of 8 values"),
    "params of a model without": (Invocations(), split() | {"params": {"a": 1}}, "unknown parameter 'a' (known: none)"),
    "params that are no object": (Invocations(), split() | {"params": []}, '"params" must be an object'),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_shape_is_refused_with_where_it_is(case: str, scorer: Scorer) -> None:
    door, body, reason = WRONG[case]
    with pytest.raises(BadRequest) as refused:
        answered(scorer, door, call(body))
    assert reason in str(refused.value)


CSV = "9007199254740993,-2147483648,0.1,0.5,true,Zürich"
CSVS = {
    "without a header": CSV,
    "with one": f"{','.join(NAMES)}\r\n{CSV}\r\n",
    "in another order": "city,age,children,hours,rate,member\nZürich,9007199254740993,-2147483648,.1,5e-1,True",
    "with a byte order mark": f"\ufeff{','.join(NAMES)}\n{CSV}\n\n",
    "with cells for what may be left out": f"{','.join(NAMES)},since,note\n{CSV},,",
}


@pytest.mark.parametrize("case", CSVS)
def test_rows_in_csv_are_read_by_the_signature(case: str, scorer: Scorer) -> None:
    found = answered(scorer, Invocations(), call(CSVS[case], "text/csv", accept="application/json"))["predictions"]
    assert [[row[name] for name in NAMES] for row in found] == [VALUES]
    assert "note" not in found[0]


def test_an_empty_cell_is_a_missing_number_or_an_empty_text_where_a_text_must_be(scorer: Scorer) -> None:
    text = "1,2,,0.5,false,\n1,2,0.5,,FALSE,x"
    found = answered(scorer, Invocations(), call(text, "text/csv", accept="application/json"))["predictions"]
    assert [(row["hours"], row["rate"], row["city"]) for row in found] == [(None, 0.5, ""), (0.5, None, "x")]


WRONG_CSV = {
    "nothing": ("", "the body has no rows"),
    "a header alone": (",".join(NAMES), "the body has no rows"),
    "a short record": (f"{CSV}\n1,2", "record 2 has 2 values, not 6"),
    "an empty line between": (f"{CSV}\n\n{CSV}", "record 2 has 0 values, not 6"),
    "a fraction for a whole number": ("1.5" + CSV[16:], "column 'age': '1.5' must be one of whole numbers"),
    "nothing for a whole number": (CSV[16:], "column 'age': '' must be one of whole numbers"),
    "too large": ("9" * 25 + CSV[16:], "column 'age': a value does not fit"),
    "an underscore": (CSV.replace("0.1", "0_1"), "column 'hours': '0_1' must be one of numbers"),
    "infinity": (CSV.replace("0.1", "inf"), "column 'hours': a value does not fit into FP64"),
    "one for true": (CSV.replace("true", "1"), "column 'member': '1' must be one of true and false"),
    "an open quote": (CSV + ',"x', "the body is not CSV in UTF-8"),
    "a header with a typing error": ("agee,children,hours,rate,member,city\n" + CSV, "column 'age': 'agee' must be one of whole numbers"),
}


@pytest.mark.parametrize("case", WRONG_CSV)
def test_wrong_csv_is_refused_with_record_or_column(case: str, scorer: Scorer) -> None:
    text, reason = WRONG_CSV[case]
    with pytest.raises(BadRequest) as refused:
        answered(scorer, Invocations(), call(text, "text/csv"))
    assert reason in str(refused.value)


def test_csv_is_no_way_to_ask_a_model_of_arrays(tensors: Scorer) -> None:
    with pytest.raises(BadRequest, match="the model takes arrays: send JSON"):
        answered(tensors, Invocations(), call("1,2", "text/csv"))


ACCEPTS = {
    "": "text/csv",
    "*/*": "text/csv",
    "application/json": "application/json",
    "text/*;q=0.1, application/json;q=0.2": "application/json",
    "application/json;q=0, */*": "text/csv",
    "text/html, application/*": "application/json",
    "TEXT/CSV; header=present": "text/csv",
}


@pytest.mark.parametrize("header", ACCEPTS)
def test_the_answer_has_the_form_that_the_caller_likes_best(header: str) -> None:
    assert accepted(header.encode(), ("text/csv", "application/json")) == ACCEPTS[header]


@pytest.mark.parametrize("header", ["image/png", "*/*;q=0", "text/csv;q=x", ";"])
def test_what_cannot_be_answered_in_an_accepted_form_is_refused(header: str) -> None:
    with pytest.raises(NotAcceptable, match="the answer can be text/csv"):
        accepted(header.encode(), ("text/csv",))


BINARY = {
    "no whole number of values": ("INT64", b"x" * 9, "column 'age': 9 bytes are no whole number of INT64"),
    "a truth of two": ("BOOL", b"\2", "column 'age': a BOOL must be a byte of 0 or 1"),
    "a text cut short": ("BYTES", b"\4\0\0\0abc", "column 'age': its bytes end within an element"),
    "a length cut short": ("BYTES", b"\4\0\0", "column 'age': its bytes end within an element"),
    "a text that is none": ("BYTES", b"\1\0\0\0\xff", "column 'age': its elements must be text in UTF-8"),
    "no such type": ("BF16", b"xx", "column 'age': no datatype 'BF16' in binary"),
    "another type": ("FP64", b"\0" * 8, "column 'age': the datatype must be INT64, not 'FP64'"),
    "too few values": ("INT64", b"", "column 'age': the shape [1] needs 1 values, data has 0"),
}


@pytest.mark.parametrize("case", BINARY)
def test_wrong_binary_tensors_are_refused_by_name(case: str, scorer: Scorer) -> None:
    datatype, raw, reason = BINARY[case]
    others = [{"name": name, "datatype": kind, "shape": [1], "data": [value]} for name, (kind, value) in ROW.items() if name != "age"]
    age = {"name": "age", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [age, *others]})
    asked = Call(head + raw, {b"inference-header-content-length": str(len(head)).encode()})
    with pytest.raises(BadRequest) as refused:
        answered(scorer, Oip(), asked)
    assert reason in str(refused.value)


def test_infinity_in_binary_is_refused_as_it_is_in_json(scorer: Scorer) -> None:
    raw = np.array([np.inf]).tobytes()
    inputs = [{"name": name, "datatype": kind, "shape": [1], "data": [value]} for name, (kind, value) in ROW.items()]
    inputs[2] = {"name": "hours", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    head = orjson.dumps({"inputs": inputs})
    with pytest.raises(BadRequest, match="column 'hours': a value does not fit into FP64"):
        answered(scorer, Oip(), Call(head + raw, {b"inference-header-content-length": str(len(head)).encode()}))


CLOUDS: dict[str, tuple[Mapping[str, str], dict[str, Any]]] = {
    "SageMaker": ({"SAGEMAKER_BIND_TO_PORT": "8081"}, {"port": 8081}),
    "Vertex AI": (
        {"AIP_HTTP_PORT": "8082", "AIP_HEALTH_ROUTE": "/h", "AIP_PREDICT_ROUTE": "/v1/p:predict"},
        {"port": 8082, "health_route": "/h", "predict_route": "/v1/p:predict"},
    ),
    "our own go before them": ({"AIP_HTTP_PORT": "8082", "CONVOY_SERVICE_PORT": "8083"}, {"port": 8083}),
    "none": ({}, {"port": 3001, "health_route": None, "predict_route": None, "grpc_port": None}),
}


@pytest.mark.parametrize("case", CLOUDS)
def test_a_clouds_own_variables_are_settings(case: str) -> None:
    variables, expected = CLOUDS[case]
    settings = read_settings(variables)
    assert {name: getattr(settings, name) for name in expected} == expected


WRONG_SETTINGS = {
    "AIP_HTTP_PORT": ("http", "AIP_HTTP_PORT: must be a whole number from 1 to 65535, not 'http'"),
    "AIP_HEALTH_ROUTE": ("health", "AIP_HEALTH_ROUTE: must begin with / and be printable ASCII without spaces, not 'health'"),
    "CONVOY_SERVICE_GRPC_PORT": ("3001", "CONVOY_SERVICE_PORT and CONVOY_SERVICE_GRPC_PORT are both 3001"),
    "CONVOY_SERVICE_BODY_SECONDS": ("0", "CONVOY_SERVICE_BODY_SECONDS: must be a whole number from 1 to 3600"),
}


@pytest.mark.parametrize("variable", WRONG_SETTINGS)
def test_a_wrong_variable_is_named(variable: str) -> None:
    value, reason = WRONG_SETTINGS[variable]
    with pytest.raises(SettingsWrong) as wrong:
        read_settings({"CONVOY_SERVICE_PORT": "3001", variable: value} if variable != "AIP_HTTP_PORT" else {variable: value})
    assert reason in str(wrong.value)


def test_routes_that_vertex_ai_names_go_before_others_and_may_have_braces() -> None:
    router = Router(table(ServiceSettings(Path("/"), predict_route="/invocations", health_route="/a{model}b")))
    assert isinstance(router.find("/invocations")[0].door, Vertex)
    assert router.find("/a{model}b")[0].protocol == "Vertex AI"


def test_a_taken_grpc_port_ends_the_process_with_status_2(echo: Service, echo_bento: Path, tmp_path: Path) -> None:
    from bentos_serving import launched

    with launched(echo_bento, tmp_path / "log", grpc_port=str(echo.port)) as service:
        assert service.process.wait(60) == 2
        assert f"cannot listen on 127.0.0.1:{echo.port} for gRPC" in service.text()


def test_what_grpc_has_under_way_is_answered_when_the_process_is_told_to_stop(echo_bento: Path, tmp_path: Path) -> None:
    import grpc
    from bentos_serving import wait_until

    from bentos.service.grpc_messages import message
    from support.ports import free_port

    port = free_port()
    request = message("ModelInferRequest")(model_name="echo")
    for name, (datatype, value) in (ROW | {"city": ("BYTES", f"wait:{tmp_path}")}).items():
        request.inputs.add(name=name, datatype=datatype, shape=[1])
        request.raw_input_contents.append(_raw(datatype, value))
    with serving(echo_bento, tmp_path / "log", grpc_port=str(port)) as service, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        waiting = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer").future(request.SerializeToString(), timeout=30)
        wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
        service.process.terminate()
        wait_until(lambda: service.health() is None, 10, "no new connection is taken")
        (tmp_path / "go").touch()
        assert message("ModelInferResponse").FromString(waiting.result()).model_name == "echo"
        assert service.process.wait(15) == 0


def _raw(datatype: str, value: Any) -> bytes:
    from doors_asking import NUMPY

    if datatype == "BYTES":
        return len(value.encode()).to_bytes(4, "little") + value.encode()
    return np.array([value], NUMPY[datatype]).tobytes()


def test_the_page_shows_every_path_and_column_and_loads_nothing(echo: Service) -> None:
    import re

    page, document = echo.get("/docs"), echo.get("/openapi.json").json()

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert all(f"<code>{path}</code>" in page.text for path in document["paths"])
    assert all(f"<code>{name}</code>" in page.text for name in document["components"]["schemas"]["Row"]["properties"])
    assert re.findall(r"<script|<link|<img|<iframe|url\(|@import|https?://", page.text) == []


def test_the_openapi_document_is_valid_and_names_every_route(echo: Service) -> None:
    from jsonschema import Draft202012Validator

    document = echo.get("/openapi.json").json()

    assert document["openapi"] == "3.1.0"
    paths = {route.path.replace("{model}", "echo").replace("{version}", "3") for route in table(ServiceSettings(Path("/")))}
    assert set(document["paths"]) == paths
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == NAMES
    assert row["properties"]["rate"]["exclusiveMaximum"] == 3.4028235677973366e38
    assert row["properties"]["children"] == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
