"""The life of a serving process: settings, start, warmth, drain; and `bentoml serve` of the same Bento."""

import shutil
import socket
import subprocess
import sys
import threading

import httpx
import pytest
from bentos_serving import digest_of, environment, launched, packaged, serving, started, tensor, wait_until
from hostile_bodies import row

from fleet.manifest import manifest_of
from support.ports import free_port

READY_SECONDS = 120


def test_a_drained_process_answers_what_is_in_flight_and_exits_0(echo_bento, tmp_path):
    answers = []
    with serving(echo_bento, tmp_path / "log", revision=digest_of(echo_bento)) as service:
        slow = threading.Thread(target=lambda: answers.append(service.infer("echo", *row(city=("BYTES", f"wait:{tmp_path}")))))
        slow.start()
        wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
        service.process.terminate()
        wait_until(lambda: refuses(service.port), 10, "no new connection is taken")
        assert service.process.poll() is None
        (tmp_path / "go").touch()
        slow.join(10)

        assert service.process.wait(10) == 0
    assert [answer.status_code for answer in answers] == [200]
    assert manifest_of(echo_bento).digest == digest_of(echo_bento), "serving has changed the revision's files"


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_idle_process_exits_0_at_once_although_a_connection_is_open(logistic_bento, tmp_path):
    with serving(logistic_bento, tmp_path / "log") as service, socket.create_connection(("127.0.0.1", service.port)):
        service.process.terminate()

        assert service.process.wait(10) == 0


def test_a_process_told_to_stop_while_it_starts_exits_0(logistic_bento, tmp_path):
    with launched(logistic_bento, tmp_path / "log", revision=digest_of(logistic_bento)) as service:
        wait_until(lambda: service.health() is not None, READY_SECONDS, "it listens")
        service.process.terminate()

        assert service.process.wait(20) == 0


def test_a_refusal_while_it_starts_says_that_it_is_no_answer(logistic_bento, tmp_path):
    with launched(logistic_bento, tmp_path / "log", revision=digest_of(logistic_bento)) as service:
        wait_until(lambda: service.health() is not None, READY_SECONDS, "it listens")
        refused = httpx.post(f"http://127.0.0.1:{service.port}/v2/models/employment/infer", json={}, timeout=10, trust_env=False)

        assert (refused.status_code, refused.headers.get("x-convoy-not-ready")) == (503, "1")


def test_the_input_example_warms_the_model_before_it_is_ready(logistic):
    assert "ready: employment version 3, revision sha256:" in logistic.text()
    assert "warmed with the input example" in logistic.text()


def test_without_an_input_example_a_row_of_zeros_is_tried(echo):
    assert "warmed with a row of zeros\n" in echo.text()


def test_a_bento_started_by_hand_answers_under_the_digest_that_it_measures(logistic_bento, tmp_path):
    with serving(logistic_bento, tmp_path / "log", model="other-name") as service:
        answer = service.infer("other-name", tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1))

    assert answer.status_code == 200
    assert answer.headers["x-convoy-revision"] == digest_of(logistic_bento)
    assert answer.headers["x-convoy-region"] == "unplaced"


def rewrite(file, old, new):
    file.write_text(file.read_text().replace(old, new))


def test_a_model_without_signature_is_never_ready_and_exits_5(logistic_model, tmp_path):
    shutil.copytree(logistic_model, tmp_path / "model")
    rewrite(tmp_path / "model" / "MLmodel", "signature:", "unsigned:")
    root = packaged(tmp_path / "model", "m", tmp_path / "bento")

    with launched(root, tmp_path / "log", revision=digest_of(root)) as service:
        assert service.process.wait(READY_SECONDS) == 5
        assert "never ready: the model has no signature" in service.text()


def test_a_model_that_cannot_be_loaded_is_never_ready_and_exits_5(logistic_model, tmp_path):
    shutil.copytree(logistic_model, tmp_path / "model")
    (tmp_path / "model" / "model.skops").write_bytes(b"not a model")
    root = packaged(tmp_path / "model", "m", tmp_path / "bento")

    with launched(root, tmp_path / "log", revision=digest_of(root)) as service:
        assert service.process.wait(READY_SECONDS) == 5
        assert "never ready: the model cannot be loaded" in service.text()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"colour": "red"}, "CONVOY_SERVICE_COLOUR: no such setting (known: CONVOY_SERVICE_ROOT,"),
        ({"slots": "0"}, "CONVOY_SERVICE_SLOTS: must be a whole number from 1"),
        ({"revision": "abc"}, "CONVOY_SERVICE_REVISION: must be sha256: and 64 hex digits"),
        ({"region": "a\nb"}, "CONVOY_SERVICE_REGION: must be printable ASCII"),
    ],
)
def test_a_wrong_setting_exits_2_and_is_named(settings, reason, logistic_bento):
    done = subprocess.run(
        [sys.executable, "-m", "convoy_service"],
        cwd=logistic_bento / "src",
        env=environment(logistic_bento, free_port(), **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert reason in done.stderr


def test_a_port_that_is_taken_exits_2_and_is_named(logistic_bento, logistic):
    done = subprocess.run(
        [sys.executable, "-m", "convoy_service"],
        cwd=logistic_bento / "src",
        env=environment(logistic_bento, logistic.port),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{logistic.port}" in done.stderr


@pytest.mark.long
def test_bentoml_serve_of_the_same_folder_answers_the_same_route(logistic_bento, logistic, tmp_path):
    bento = tmp_path / "bento"
    shutil.copytree(logistic_bento, bento)
    front, behind = free_port(), free_port()
    variables = environment(bento, behind, region="by-hand") | {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1", "--port", str(front)]
    rows = [tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1)]

    with started(command, tmp_path, variables, front, tmp_path / "log") as service:
        wait_until(service.ready, READY_SECONDS, "BentoML's port is ready")
        through_bentoml = service.infer("employment", *rows)
        pickled = service.client.post(
            "/v2/models/employment/infer", content=b"x", headers={"content-type": "application/vnd.bentoml+pickle"}
        )
        direct = httpx.post(f"http://127.0.0.1:{behind}/v2/models/employment/infer", json={"inputs": rows})
        service.process.terminate()
        service.process.wait(30)
        wait_until(lambda: refuses(behind), 30, "BentoML has stopped our server")

    assert through_bentoml.status_code == direct.status_code == 200
    assert through_bentoml.json() == direct.json() == logistic.infer("employment", *rows).json()
    assert through_bentoml.headers["x-convoy-revision"] == digest_of(logistic_bento)
    assert pickled.status_code == 415
