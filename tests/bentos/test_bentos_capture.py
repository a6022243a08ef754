"""Rows that were answered are kept, and nothing about keeping them reaches a caller."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow.parquet as pq
import pytest
from bentos_serving import Service, digest_of, serving, tensor, wait_until
from hostile_bodies import ROW, row

from bentos.service.batch import Batch, flat_fields
from bentos.service.capture import FILE_ROWS, Answered, Bounds, Capture, capturing, prune
from bentos.service.scorer import Scorer
from bentos.service.signature import Signature
from bentos.service.tensors import Field, Text
from fleet.settings import inherited_environment

REVISION = "sha256:" + "ab" * 32
X = Field("x", np.dtype("float64"))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.parquet"), key=lambda path: path.name)


def read_all(folder: Path) -> pd.DataFrame:
    return pd.concat([pq.read_table(path).to_pandas() for path in files(folder)], ignore_index=True)


def metadata(path: Path) -> dict[str, str]:
    found = pq.read_schema(path).metadata
    return {key.decode().removeprefix("convoy."): value.decode() for key, value in found.items() if key.startswith(b"convoy.")}


def ask(service: Service, age: int, **headers: str) -> Any:
    return service.infer(
        "employment", tensor("age", "INT64", age, age), tensor("hours", "FP64", 38.0, 20.5), tensor("children", "INT64", 0, 1), **headers
    )


def scorer(*fields: Field) -> Scorer:
    return Scorer("toy", "3", Signature(fields, (), frame=True, named=True), None)


def answered(value: float, outputs: list[dict[str, Any]] | None = None) -> tuple[bytes, bytes, bytes]:
    body = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [value]}]})
    given = outputs or [{"name": "output", "datatype": "FP64", "shape": [1], "data": [value * 2]}]
    return f"r-{value}".encode(), body, orjson.dumps({"outputs": given})


def test_answered_rows_are_kept_with_their_predictions_and_flushed_when_told_to_stop(logistic_bento, tmp_path):
    folder, revision, before = tmp_path / "captured", digest_of(logistic_bento), datetime.now(UTC)
    with serving(logistic_bento, tmp_path / "log", capture=str(folder), revision=revision, region="eu-west") as service:
        answers = [ask(service, age, **{"x-request-id": f"request-{age}"}).json()["outputs"][0]["data"] for age in (30, 40, 50)]
        assert service.infer("employment", tensor("age", "INT64", 1)).status_code == 400
        for nobodys in ("drill", "shadow", "golden"):
            assert ask(service, 60, **{"x-convoy-traffic": nobodys}).status_code == 200
        assert service.stop() == 0

    rows = read_all(folder)
    assert rows["age"].tolist() == [30, 30, 40, 40, 50, 50], (
        "a row of the warm-up, of a refused request, a drill, a shadow or a golden one was captured"
    )
    assert rows["hours"].tolist() == [38.0, 20.5] * 3
    assert rows["convoy.request_id"].tolist() == [f"request-{age}" for age in (30, 30, 40, 40, 50, 50)]
    assert set(rows["convoy.revision"]) == {revision}
    np.testing.assert_array_equal(rows[["prediction.output.0", "prediction.output.1"]].to_numpy().ravel(), np.ravel(answers))
    assert before <= rows["convoy.answered_at"].min() <= rows["convoy.answered_at"].max() <= datetime.now(UTC)
    assert {path.parent.name for path in files(folder)} == {revision.removeprefix("sha256:")[:12]}
    told = metadata(files(folder)[-1])
    assert (told["captured"], told["dropped"], told["left_out"]) == ("6", "0", "[]")
    assert (told["model"], told["version"], told["region"]) == ("employment", "3", "eu-west")


def test_a_disk_that_takes_no_more_costs_one_line_and_no_answer(logistic_bento, tmp_path):
    with serving(logistic_bento, tmp_path / "log", capture=str(tmp_path / "captured")) as service:
        # writing beyond this size fails as on a full disk; the log stays below it
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1500, 1500))
        many = [tensor(name, "FP64" if name == "hours" else "INT64", *range(FILE_ROWS)) for name in ("age", "hours", "children")]
        assert service.infer("employment", *many).status_code == 200
        wait_until(lambda: "capturing is given up, answers go on: OSError" in service.text(), 20, "it gives up")
        assert [ask(service, age).status_code for age in range(20, 40)] == [200] * 20
        assert service.stop() == 0
    assert service.text().count("capturing is given up") == 1
    assert [path for path in (tmp_path / "captured").rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_ends_capturing_with_one_line(tmp_path, capfd):
    (tmp_path / "file").write_text("no folder")
    capture = Capture(tmp_path / "file" / "captured", scorer(X), (REVISION, "here"))
    capture.offer(*answered(1.0))
    capture.close()
    capture.offer(*answered(2.0))
    assert capfd.readouterr().err.count("capturing is given up, answers go on: NotADirectoryError") == 1


def test_a_killed_process_leaves_only_whole_files(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; import test_bentos_capture as t, bentos.service.capture as c\n"
        "c.FILE_ROWS, capture = 50, c.Capture(Path(sys.argv[1]), t.scorer(t.X), (t.REVISION, 'here'))\n"
        "while True: capture.offer(*t.answered(1.0)); time.sleep(0.001)"
    )
    paths = os.pathsep.join(str(Path(__file__).parents[up]) for up in range(3))
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=inherited_environment() | {"PYTHONPATH": paths})
    try:
        wait_until(lambda: len(files(tmp_path)) > 5, 30, "some files")
    finally:
        process.kill()
        process.wait(10)
    assert {pq.read_metadata(path).num_rows for path in files(tmp_path)} == {50}
    assert len(read_all(tmp_path)) == 50 * len(files(tmp_path))


def test_every_type_is_kept_as_the_signature_names_it():
    fields = [
        Field(name, np.dtype(kind)) for name, kind in {"age": "int64", "children": "int32", "hours": "float64", "rate": "float32"}.items()
    ]
    fields += [Field("member", np.dtype("bool")), Field("city", np.dtype("object"))]
    fields += [Field("since", np.dtype("object"), required=False, text=Text.MOMENT), Field("note", np.dtype("object"), required=False)]
    batch = Batch(fields, REVISION)
    outputs = orjson.dumps({"outputs": []})
    batch.add(Answered(1, b"a", orjson.dumps({"inputs": row()}), outputs))
    batch.add(Answered(2, b"b", orjson.dumps({"inputs": [*row(), tensor("since", "BYTES", "2026-01-01T00:00:00Z")]}), outputs))

    table = batch.table({})

    assert [str(table.schema.field(name).type) for name in ROW] == ["int64", "int32", "double", "float", "bool", "string"]
    assert table.column("age").to_pylist() == [ROW["age"][1]] * 2
    assert table.column("city").to_pylist() == ["Zürich"] * 2
    assert table.column("since").to_pylist() == [None, datetime(2026, 1, 1, tzinfo=UTC)]
    assert table.column("note").to_pylist() == [None, None]


def test_what_is_no_flat_column_is_left_out_and_named(tmp_path):
    image, blob = Field("image", np.dtype("float32"), tail=(2, 2)), Field("blob", np.dtype("object"), text=Text.BINARY)
    kept = scorer(X, image, blob, Field("prediction.x", np.dtype("float64")))
    assert flat_fields(kept.signature) == (X,)
    capture = Capture(tmp_path, kept, (REVISION, "here"))
    wide = [{"name": "embedding", "datatype": "FP32", "shape": [1, 512], "data": [0.0] * 512}]
    capture.offer(*answered(1.0, wide))
    capture.close()
    assert set(read_all(tmp_path).columns) == {"convoy.answered_at", "convoy.request_id", "convoy.revision", "x"}
    assert json.loads(metadata(files(tmp_path)[0])["left_out"]) == ["image", "blob", "prediction.x"]


def test_predictions_that_change_their_type_share_a_column_that_holds_both(tmp_path):
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"))
    for datatype, value in (("INT64", 1), ("FP64", 1.5)):
        capture.offer(*answered(1.0, [{"name": "output", "datatype": datatype, "shape": [1], "data": [value]}]))
    capture.close()
    assert read_all(tmp_path)["prediction.output"].tolist() == [1.0, 1.5]


def test_what_does_not_fit_into_memory_is_dropped_and_counted(tmp_path):
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"), Bounds(waiting_answers=4))
    for value in range(500):
        capture.offer(*answered(float(value)))
    capture.close()
    told = metadata(files(tmp_path)[-1])
    assert int(told["dropped"]) > 0
    assert int(told["captured"]) == len(read_all(tmp_path)) == 500 - int(told["dropped"])


def test_a_disk_that_hangs_holds_up_neither_answers_nor_the_end_of_the_process(tmp_path, monkeypatch):
    hanging, goes_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        hanging.set()
        goes_on.wait(60)

    monkeypatch.setattr(pq, "write_table", hang)
    monkeypatch.setattr("bentos.service.capture.FILE_ROWS", 1)
    monkeypatch.setattr("bentos.service.capture.CLOSE_SECONDS", 0.1)
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"), Bounds(waiting_answers=4))
    capture.offer(*answered(0.0))
    assert hanging.wait(20)
    for value in range(1000):
        capture.offer(*answered(float(value)))
    capture.close()
    assert capture.dropped == 996
    goes_on.set()


def test_an_answer_larger_than_the_memory_it_may_take_is_dropped(tmp_path):
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"), Bounds(waiting_bytes=10))
    capture.offer(*answered(1.0))
    capture.close()
    assert files(tmp_path) == []


@pytest.mark.parametrize("bounds", [Bounds(files=3), Bounds(file_bytes=300)], ids=["files", "bytes"])
def test_the_oldest_files_of_all_revisions_go_first(tmp_path, bounds):
    for number in range(10):
        own = tmp_path / ("a" if number % 2 else "b")
        own.mkdir(exist_ok=True)
        (own / f"{number:013d}-1-000001.parquet").write_bytes(b"x" * 100)
    prune(tmp_path, bounds)
    assert [path.name[:13] for path in files(tmp_path)] == ["0000000000007", "0000000000008", "0000000000009"]


def test_what_a_killed_process_left_unfinished_is_deleted_once_it_is_old(tmp_path):
    (tmp_path / "a").mkdir()
    old, new = (tmp_path / "a" / f"{name}.parquet.unfinished" for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    prune(tmp_path, Bounds())
    assert (old.exists(), new.exists()) == (False, True)


def test_nothing_is_captured_without_a_folder():
    assert capturing(None, scorer(X), (REVISION, "here")) is None


def test_whole_numbers_in_a_column_of_real_numbers_are_rounded_as_the_model_saw_them():
    small, large = Field("small", np.dtype("float32")), Field("large", np.dtype("float64"))
    batch = Batch((small, large), REVISION)
    whole = [{"name": "small", "datatype": "FP32", "shape": [2], "data": [16_777_217, None]}]
    whole += [{"name": "large", "datatype": "FP64", "shape": [2], "data": [2**53 + 1, 1]}]
    batch.add(Answered(1, b"a", orjson.dumps({"inputs": whole}), orjson.dumps({"outputs": []})))
    table = batch.table({})
    assert table.column("small").to_pylist() == [float(np.float32(16_777_217)), None]
    assert table.column("large").to_pylist() == [float(2**53), 1.0]


def test_rows_that_are_no_columns_cost_their_own_file_alone_and_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("bentos.service.capture.FILE_ROWS", 1)
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"))
    capture.offer(*answered(1.0, [{"name": "output", "datatype": "INT64", "shape": [1], "data": ["no number"]}]))
    capture.offer(b"r", b"no JSON", b"{}")
    capture.offer(*answered(2.0))
    capture.close()
    assert read_all(tmp_path)["x"].tolist() == [2.0]
    assert (metadata(files(tmp_path)[-1])["dropped_since_last_file"], capture.dropped) == ("2", 2)
    said = capfd.readouterr().err
    assert (said.count("could not be captured, others are: ArrowInvalid\n"), "no number" in said) == (1, False)


def test_a_disk_that_takes_files_again_is_captured_to_again(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("bentos.service.capture.FILE_ROWS", 1)
    monkeypatch.setattr("bentos.service.capture.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("bentos.service.capture.LOOK_SECONDS", 0.01)
    capture, writes, refusals = Capture(tmp_path, scorer(X), (REVISION, "here")), pq.write_table, []

    def refuse(*_: object, **__: object) -> None:
        refusals.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", refuse)
    wait_until(lambda: capture.offer(*answered(1.0)) or len(refusals) > 2, 20, "it is tried again")
    monkeypatch.setattr(pq, "write_table", writes)
    wait_until(lambda: capture.offer(*answered(2.0)) or files(tmp_path), 20, "rows are captured again")
    capture.close()
    said = capfd.readouterr().err
    assert (said.count("capturing is given up"), said.count("capturing goes on")) == (1, 1)
    assert set(read_all(tmp_path)["x"]) <= {1.0, 2.0}
    assert int(metadata(files(tmp_path)[0])["dropped_since_last_file"]) >= 3


def test_a_file_is_on_the_disk_before_it_is_seen(tmp_path, monkeypatch):
    seen: list[list[Path]] = []
    monkeypatch.setattr("bentos.service.capture.os.fsync", lambda _: seen.append(files(tmp_path)))
    capture = Capture(tmp_path, scorer(X), (REVISION, "here"))
    capture.offer(*answered(1.0))
    capture.close()
    assert (seen, len(files(tmp_path))) == ([[]], 1)
