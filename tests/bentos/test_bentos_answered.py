"""What a serving process tells of its answers: where they lie, and whether two are the same."""

import numpy as np
import orjson
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from bentos.service.answered import told_of
from bentos.service.answers import tensors
from bentos.service.scorer import OPTIONS, Scorer
from bentos.service.signature import signature_of

PLAIN = signature_of(ModelSignature(inputs=Schema([ColSpec("double", "a")])))


def told(prediction):
    made = tensors(PLAIN, prediction)
    score, mark = told_of(made, orjson.dumps(made, option=OPTIONS)).decode().split(";")
    return score, mark


SCORES = {
    "probabilities of two classes": (np.array([[0.25, 0.75], [1, 0]]), "0.375000"),
    "probabilities of three": (np.array([[0.2, 0.3, 0.5], [0.4, 0.6, 0]]), "0.300000"),
    "a number a row": (np.array([1.5, 2.5, -7.0]), "-1.000000"),
    "a number a row as [n, 1]": (np.array([[1.0], [2.0]]), "1.500000"),
    "classes": (np.array([1, 0, 1, 1]), "0.750000"),
    "truth": (np.array([True, False]), "0.500000"),
    "half floats, summed as whole ones": (np.full(70_000, 1.0, dtype="float16"), "1.000000"),
    "whole numbers at their limit": (np.array([2**63 - 1, -(2**63)]), "0.000000"),
    "the first numeric column of a frame": (pd.DataFrame({"label": ["yes", "no"], "p": [0.5, 0.25], "q": [9, 9]}), "0.375000"),
    "one number": (3, "3.000000"),
    "in Fortran's order": (np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), "3.000000"),
    "an image": (np.ones((2, 3, 3)), "1.000000"),
    "more than a header holds": (np.array([1e300]), "-"),
    "one row of two probabilities": (np.array([[0.25, 0.75]], dtype="float32"), "0.750000"),
    "one row of three": (np.array([[0.2, 0.3, 0.5]]), "0.200000"),
    "one row, of the other byte order": (np.array([[0.2, 0.7]], dtype=">f8"), "0.700000"),
    "one row, true": (np.array([True]), "1.000000"),
    "one row, the largest whole number": (np.array([2**63 - 1]), "-"),
    "one row, infinity": (np.array([np.inf]), "-"),
    "one row, a missing value": (np.array([np.nan]), "-"),
    "infinity": (np.array([np.inf, -np.inf]), "-"),
    "a missing value": (np.array([0.5, np.nan]), "-"),
    "texts": (np.array(["yes"]), "-"),
    "nothing": (np.array([]), "-"),
    "no row of two": (np.empty((0, 2)), "-"),
}


@pytest.mark.parametrize("case", SCORES)
@pytest.mark.filterwarnings("error")
def test_the_score_is_the_mean_of_the_rows_first_number_and_of_two_probabilities_the_positive_ones(case):
    prediction, score = SCORES[case]

    assert told(prediction)[0] == score


def test_equal_answers_have_equal_marks_and_others_do_not():
    marks = {told(np.array(values))[1] for values in ([0.1, 0.2], [0.1, 0.2], [0.1, 0.2000001], [[0.1, 0.2]])}

    assert len(marks) == 3
    assert all(len(mark) == 16 and int(mark, 16) >= 0 for mark in marks)


class Fixed:
    def predict(self, model_input):
        return pd.DataFrame({"p": model_input["a"] / 2, "label": ["x"] * len(model_input)})


def answer(version="1", **more):
    scorer = Scorer("m", version, PLAIN, Fixed())
    request = {"inputs": [{"name": "a", "datatype": "FP64", "shape": [2], "data": [1, 2]}], **more}
    return scorer.answer(orjson.dumps(request))


def test_neither_ids_nor_versions_change_the_mark():
    first, second = answer(version="1", id="one"), answer(version="2", id="two")

    assert orjson.loads(first.body) != orjson.loads(second.body)
    assert first.told == second.told


def test_whichever_outputs_are_asked_for_the_score_is_that_of_all():
    everything, label = answer(), answer(outputs=[{"name": "label"}])

    assert everything.told.startswith(b"0.750000;")
    assert label.told.startswith(b"0.750000;")
    assert everything.told != label.told


def test_the_body_is_the_protocols_document_whatever_is_told_of_it():
    document = orjson.loads(answer(id='"}').body)

    assert document["id"] == '"}'
    assert (document["model_name"], document["model_version"]) == ("m", "1")
    assert [output["name"] for output in document["outputs"]] == ["p", "label"]
