"""Requests and answers of the real service, on the wire."""

import json

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from bentos_serving import tensor
from hostile_bodies import ROW, row


def columns(answer):
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def test_probabilities_are_those_of_the_model_itself_in_shape_n_2(logistic, logistic_model):
    rows = pd.DataFrame({"age": [20, 60, 41], "hours": [10.5, 60.0, 38.0], "children": [0, 4, 1]})
    expected = mlflow.pyfunc.load_model(str(logistic_model)).predict(rows)

    answer = logistic.infer(
        "employment",
        tensor("hours", "FP64", 10.5, 60, 38.0),
        tensor("age", "INT64", 20, 60, 41),
        tensor("children", "INT64", 0, 4, 1),
    )

    output = columns(answer)["output"]
    assert (output["datatype"], output["shape"]) == ("FP64", [3, 2])
    # another process may place its arrays otherwise, and BLAS then differs in the last bits
    np.testing.assert_allclose(np.array(output["data"]).reshape(3, 2), expected, rtol=1e-12)
    assert answer.json()["model_name"] == "employment"
    assert answer.json()["model_version"] == "3"
    assert answer.headers["x-convoy-answer"].startswith(f"{expected[:, 1].mean():.6f};")


def test_every_type_arrives_exactly_and_comes_back_exactly(echo):
    answer = columns(echo.infer("echo", *row()))

    assert answer["types"]["data"] == ["age=int64,children=int32,hours=float64,rate=float32,member=bool,city=object"]
    for name, (datatype, value) in ROW.items():
        assert answer[name] == {"name": name, "datatype": datatype, "shape": [1], "data": [value]}


def test_many_rows_may_come_as_n_by_1_and_nested(echo):
    many = [{**tensor(name, datatype, [value], [value]), "shape": [2, 1]} for name, (datatype, value) in ROW.items()]

    assert columns(echo.infer("echo", *many))["age"]["data"] == [ROW["age"][1]] * 2


def test_a_missing_optional_column_stays_missing_and_a_given_one_is_passed_on(echo):
    without = columns(echo.infer("echo", *row()))
    given = [tensor("since", "BYTES", "2026-11-22T19:00:00+01:00"), tensor("note", "BYTES", None)]
    with_both = columns(echo.infer("echo", *row(), *given))

    assert "note" not in without
    assert with_both["note"]["data"] == [None]
    assert with_both["since"]["data"] == ["2026-11-22T18:00:00.000000000Z"]
    assert "since=datetime64[ns]" in with_both["types"]["data"][0]


def test_a_missing_time_stays_missing(echo):
    times = [{"name": "since", "datatype": "BYTES", "shape": [2], "data": [None, "2026-11-22T19:00:00Z"]}]
    both = [tensor(name, datatype, value, value) for name, (datatype, value) in ROW.items()]

    assert columns(echo.infer("echo", *both, *times))["since"]["data"] == [None, "2026-11-22T19:00:00.000000000Z"]


def test_a_missing_number_is_null_in_a_column_of_floats(echo):
    assert columns(echo.infer("echo", *row(hours=("FP64", None))))["hours"]["data"] == [None]


WRONG = {
    "a fraction for a whole number": (("age", "INT64", 1.5), "data[0] is 1.5, allowed are whole numbers from -9223372036854775808"),
    "a whole number written as a fraction": (("age", "INT64", 1.0), "data[0] is 1.0, allowed are whole numbers"),
    "true for a whole number": (("age", "INT64", True), "data[0] is true, allowed are whole numbers"),
    "a string for a whole number": (("age", "INT64", "12"), "data[0] is '12', allowed are whole numbers"),
    "nothing for a whole number": (("age", "INT64", None), "data[0] is null, allowed are whole numbers"),
    "too large for 32 bits": (("children", "INT32", 2**31), "does not fit, allowed are whole numbers from -2147483648 to 2147483647"),
    "too large for 64 bits": (("age", "INT64", 2**63), "does not fit"),
    "far too large for 64 bits": (("age", "INT64", 2**70), "allowed are whole numbers"),
    "too large for a float": (("rate", "FP32", 1e300), "does not fit into FP32"),
    "a string for a float": (("hours", "FP64", "x"), "data[0] is 'x', allowed are numbers"),
    "one for true": (("member", "BOOL", 1), "data[0] is 1, allowed are true and false"),
    "a number for a string": (("city", "BYTES", 4), "data[0] is 4, allowed are strings"),
    "nothing for a required string": (("city", "BYTES", None), "data[0] is null, allowed are strings"),
    "another datatype": (("age", "FP64", 1.0), "the datatype must be INT64, not 'FP64'"),
    "no time": (("since", "BYTES", "yesterday"), "allowed are strings (times in ISO 8601"),
    "an empty time": (("since", "BYTES", ""), "allowed are strings (times in ISO 8601"),
    "a word for a missing time": (("since", "BYTES", "NaT"), "allowed are strings (times in ISO 8601"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_with_the_column_and_what_is_allowed(case, echo):
    (name, *given), reason = WRONG[case]
    extra = [] if name in ROW else [tensor(name, *given)]

    answer = echo.infer("echo", *row(**{name: given}), *extra)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"column '{name}': ")
    assert reason in answer.json()["error"]


def changed(**keys):
    first, *others = row()
    return [{**first, **keys}, *others]


SHAPES = {
    "too few values": (changed(shape=[2]), "column 'age': the shape [2] needs 2 values, data has 1"),
    "another length than the other columns": (changed(shape=[2], data=[1, 2]), "column 'children' has 1 rows, column 'age' has 2"),
    "no row": (changed(shape=[0], data=[]), "column 'age': there must be at least one row"),
    "two values in a row": (changed(shape=[1, 2], data=[1, 2]), "column 'age': the shape must be [n] or [n, 1], not [1, 2]"),
    "no shape": (changed(shape=None), "column 'age': the shape must be a list of whole numbers"),
    "a negative shape": (changed(shape=[-1]), "column 'age': the shape must be a list of whole numbers"),
    "no data": (changed(data=None), "column 'age': data must be a list of whole numbers"),
    "a column twice": ([*row(), *row()[:1]], "column 'age' is given twice"),
    "an unknown column": ([*row(), tensor("agee", "INT64", 1)], "unknown column 'agee' (known: 'age', 'children',"),
    "missing columns": (row()[2:], "missing columns 'age', 'children' (known:"),
    "no name": ([{"data": [1]}], "inputs[0] has no name"),
    "no inputs": ([], '"inputs" must be a list of tensors'),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_wrong_shape_or_column_is_refused_by_name(case, echo):
    inputs, reason = SHAPES[case]

    answer = echo.infer("echo", *inputs)

    assert answer.status_code == 400
    assert reason in answer.json()["error"]


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"inputs": 1}', '{"inputs": [1]}', '{"inputs": [{"name": "age"', "\xff"])
def test_what_is_not_a_request_is_refused(body, echo):
    answer = echo.client.post("/v2/models/echo/infer", content=body.encode("latin-1"), headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["error"]


def test_an_exception_of_the_model_is_500_with_its_class_and_a_bounded_message(echo):
    answer = echo.infer("echo", *row(city=("BYTES", "raise")), **{"x-request-id": "bad-pair"})

    assert answer.status_code == 500
    assert answer.json()["error"].startswith("ValueError: a legal pair that no gate had seen xxx")
    assert len(answer.json()["error"]) <= 500
    assert "request bad-pair: the model failed: ValueError\n" in echo.text()
    assert "legal pair" not in echo.text()


@pytest.mark.parametrize(
    ("command", "reason"), [("exit", "SystemExit: 7"), ("ragged", "not rectangular"), ("object", "output 'thing' holds a object")]
)
def test_a_model_that_misbehaves_otherwise_is_500_and_the_next_request_is_answered(command, reason, echo):
    answer = echo.infer("echo", *row(city=("BYTES", command)))

    assert answer.status_code == 500
    assert reason in answer.json()["error"]
    assert echo.infer("echo", *row()).status_code == 200


def test_the_id_of_the_request_and_the_wanted_outputs_are_honoured(echo):
    request = {"id": "r-1", "inputs": row(), "outputs": [{"name": "city"}]}
    answer = echo.client.post("/v2/models/echo/infer", json=request)
    unknown = echo.client.post("/v2/models/echo/infer", json={**request, "outputs": [{"name": "town"}]})

    assert answer.json()["id"] == "r-1"
    assert list(columns(answer)) == ["city"]
    assert unknown.status_code == 400
    assert "unknown output 'town' (known: 'age'," in unknown.json()["error"]


def test_metadata_names_every_column_its_type_and_what_may_be_left_out(echo, logistic):
    inputs = {described["name"]: described for described in echo.get("/v2/models/echo").json()["inputs"]}

    assert inputs["children"] == {"name": "children", "datatype": "INT32", "shape": [-1]}
    assert inputs["note"] == {"name": "note", "datatype": "BYTES", "shape": [-1], "parameters": {"optional": True}}
    assert logistic.get("/v2/models/employment").json()["outputs"] == [{"name": "output", "datatype": "FP64", "shape": [-1, 2]}]
    assert json.loads(logistic.get("/v2").content)["name"] == "convoy_service"
