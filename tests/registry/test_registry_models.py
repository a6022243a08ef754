from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from fleet.errors import Busy, Denied, InputError, IntegrityError, NotSupported, OperationFailed, Refused, UnknownName, Unreachable
from fleet.manifest import manifest_of
from fleet.settings import inherited_environment
from fleet.versions import ModelVersion
from registry.events import plain
from registry.models import Column, MlflowModels
from registry.schema import read_schema
from support.attacks import YAML_TEXTS
from support.ports import free_port

MODEL = "employment"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": base64.urlsafe_b64encode(b"0" * 32).decode(),
    "GIT_PYTHON_REFRESH": "quiet",
}

REGISTER = """
import sys
from pathlib import Path
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])

class Doubled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["age"] * 2

weights = Path(sys.argv[2]) / "weights.bin"
weights.write_bytes(b"weights")
rows = pd.DataFrame({"age": [31.0, 32.0], "sex": ["f", "m"]})
signature = mlflow.models.infer_signature(rows, rows["age"])
with mlflow.start_run(tags={"convoy.data.commit": "0" * 40, "mlflow.user": "somebody", "note": "free text"}):
    mlflow.log_params({"depth": 7, "rate": 0.1, "db_password": "opensesame", "source": "postgresql://u:opensesame@db/x", "long": "x" * 800})
    mlflow.log_metrics({"accuracy": 0.8125, "loss": 1e-07})
    mlflow.log_metric("accuracy", 0.825)
    mlflow.log_metric("broken", float("nan"))
    mlflow.log_input(mlflow.data.from_pandas(rows, name="employment"), context="training")
    mlflow.pyfunc.log_model(name="m", python_model=Doubled(), signature=signature, artifacts={"weights": str(weights)},
                            pip_requirements=["mlflow"], registered_model_name="employment")
mlflow.pyfunc.log_model(name="m", python_model=Doubled(), pip_requirements=["mlflow"], registered_model_name="employment")
"""


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_url(mlflow_folder: Path) -> Iterator[str]:
    """A real MLflow server with two versions of a model: the first has a schema, the second has none."""
    folder, url = mlflow_folder, f"http://127.0.0.1:{free_port()}"
    environment = inherited_environment() | QUIET
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2], "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        registering = subprocess.Popen(
            [sys.executable, "-c", "import mlflow.pyfunc; input();" + REGISTER, url, str(folder)],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with httpx.Client(transport=httpx.HTTPTransport(retries=1), trust_env=False) as client:
            _wait_for_health(client, url, server, folder / "server.log")
        output, _ = registering.communicate("\n", timeout=120)
        assert registering.returncode == 0, output
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def _wait_for_health(client: httpx.Client, url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import time

    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if client.get(f"{url}/health").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture
def models(mlflow_url: str) -> MlflowModels:
    return MlflowModels(mlflow_url)


@dataclass
class Ear:
    """A loopback HTTP server: keeps what it is sent and answers as told."""

    status: int = 200
    answer: bytes = b"{}"
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            ear.heard.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(ear.status)
            self.send_header("content-length", str(len(ear.answer)))
            self.end_headers()
            self.wfile.write(ear.answer)

        do_POST = do_GET  # noqa: N815 - http.server's names

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's names
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ear.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield ear
    server.shutdown()
    server.server_close()


def test_watch_makes_one_webhook_signed_with_the_newest_secret(models: MlflowModels, ear: Ear, wait_until):
    for secret in ("first", "second", "second"):
        models.watch(f"{ear.url}/webhooks/mlflow", secret)
    assert [webhook.url for webhook in models._webhooks()] == [f"{ear.url}/webhooks/mlflow"]
    models.set_alias(MODEL, "candidate", "1")
    wait_until(lambda: bool(ear.heard), 20)
    models.tag(models.version(MODEL, "1"), "not", "an alias")
    models.set_alias(MODEL, "candidate", "2")
    wait_until(lambda: len(ear.heard) > 1, 20)
    said = [json.loads(body) for _, body in ear.heard]
    assert [(event["entity"], event["data"]["alias"], event["data"]["version"]) for event in said] == [
        ("model_version_alias", "candidate", "1"),
        ("model_version_alias", "candidate", "2"),
    ]
    headers, body = ear.heard[0]
    signed = f"{headers['x-mlflow-delivery-id']}.{headers['x-mlflow-timestamp']}.{body.decode()}".encode()
    expected = base64.b64encode(hmac.new(b"second", signed, hashlib.sha256).digest()).decode()
    assert headers["x-mlflow-signature"] == f"v1,{expected}"


def test_watch_removes_doubles_of_ours_and_leaves_others(models: MlflowModels, mlflow_url: str):
    ours, theirs = "http://127.0.0.1:9/ours", "http://127.0.0.1:9/theirs"
    for url in (ours, ours, theirs):
        body = {"name": "x", "url": url, "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}], "secret": "s"}
        assert httpx.post(f"{mlflow_url}/api/2.0/mlflow/webhooks", json=body, trust_env=False).is_success
    models.watch(ours, "secret")
    listed = httpx.get(f"{mlflow_url}/api/2.0/mlflow/webhooks", trust_env=False).json()["webhooks"]
    found = {webhook["url"]: webhook["events"] for webhook in listed if webhook["url"] in (ours, theirs)}
    assert len([webhook for webhook in listed if webhook["url"] == ours]) == 1
    assert found[ours] == [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]
    assert found[theirs] == [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]


def test_versions_are_read_with_their_tags(models: MlflowModels):
    found = models.versions(MODEL)
    assert [version.version for version in found] == ["1", "2"]
    first = models.version(MODEL, "1")
    assert (first.model, first.version) == (MODEL, "1")
    assert first.source.startswith("models:/m-")
    assert first.run_id
    models.tag(first, "convoy.data.path", "data/größer.csv")
    models.tag(first, "convoy.data.path", "data/v1.csv")
    assert models.version(MODEL, "1").tags["convoy.data.path"] == "data/v1.csv"


def test_an_alias_is_set_moved_and_read(models: MlflowModels):
    assert models.alias(MODEL, "champion") is None
    for version in ("1", "2", "2", "1"):
        models.set_alias(MODEL, "champion", version)
        assert models.alias(MODEL, "champion") == version


def test_unknown_names_list_the_known_ones(models: MlflowModels):
    for version in ("9", "latest", "", "1/2"):
        with pytest.raises(UnknownName, match="known: 1, 2"):
            models.version(MODEL, version)
    for ask in (lambda: models.version("income", "1"), lambda: models.versions("inc'ome"), lambda: models.alias("income", "champion")):
        with pytest.raises(UnknownName, match="known: employment"):
            ask()
    before = models.alias(MODEL, "champion")
    with pytest.raises(UnknownName, match="known: 1, 2"):
        models.set_alias(MODEL, "champion", "9")
    assert models.alias(MODEL, "champion") == before


def test_what_mlflow_refuses_is_an_input_error(models: MlflowModels):
    with pytest.raises(InputError, match="MLflow at"):
        models.set_alias(MODEL, "not an alias!", "1")


def test_files_are_downloaded_as_they_were_logged(models: MlflowModels, mlflow_folder: Path, tmp_path: Path):
    version = models.version(MODEL, "1")
    manifest = models.download(version, tmp_path / "deep" / "model")
    logged = next((mlflow_folder / "artifacts").rglob(f"{version.source.rpartition('/')[2]}/artifacts"))
    assert manifest == manifest_of(logged) == manifest_of(tmp_path / "deep" / "model")
    assert (tmp_path / "deep" / "model" / "artifacts" / "weights.bin").read_bytes() == b"weights"
    (tmp_path / "deep" / "model" / "left over").touch()
    assert models.download(version, tmp_path / "deep" / "model") == manifest
    assert manifest_of(tmp_path / "deep" / "model") == manifest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_two_versions_have_two_digests(models: MlflowModels, tmp_path: Path):
    digests = {models.download(version, tmp_path / version.version).digest for version in models.versions(MODEL)}
    assert len(digests) == 2


def test_a_schema_is_read_from_the_model_file(models: MlflowModels, tmp_path: Path):
    models.download(models.version(MODEL, "1"), tmp_path / "model")
    schema = models.schema(tmp_path / "model")
    assert schema is not None
    assert schema.inputs == (Column("age", "double"), Column("sex", "string"))
    assert schema.outputs == (Column("age", "double"),)


def test_a_version_without_a_signature_has_no_schema(models: MlflowModels, tmp_path: Path):
    models.download(models.version(MODEL, "2"), tmp_path / "model")
    assert models.schema(tmp_path / "model") is None


def test_the_training_run_of_a_version_is_evidence(models: MlflowModels, tmp_path: Path):
    version = models.version(MODEL, "1")
    models.download(version, tmp_path / "model")
    run = models.training(version, tmp_path / "model")
    assert run is not None
    assert (run.id, run.status, run.gone) == (version.run_id, "FINISHED", False)
    assert dict(run.parameters) == {"depth": "7", "rate": "0.1", "long": "x" * 249 + "…"}
    assert run.withheld == ("db_password", "source")
    assert dict(run.metrics) == {"accuracy": "0.825", "loss": "1E-7", "broken": "NaN"}
    assert [(found.name, found.context) for found in run.datasets] == [("employment", "training")]
    assert dict(run.revision)["convoy.data.commit"] == "0" * 40
    digests = {entry.path: entry.digest for entry in manifest_of(tmp_path / "model").entries}
    assert dict(run.environment) == {name: digests[name] for name in ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")}
    assert run.started is not None
    assert run.started.endswith("Z")
    recorded = json.dumps(plain(run.as_json(), "payload"))
    for private in ("opensesame", "somebody", "free text", str(tmp_path)):
        assert private not in recorded


def test_a_version_that_was_logged_without_a_run_has_none(models: MlflowModels, tmp_path: Path):
    assert models.training(ModelVersion(MODEL, "9", "models:/m-9"), tmp_path) is None


def test_a_download_that_is_cut_off_keeps_the_older_folder(models: MlflowModels, mlflow_folder: Path, tmp_path: Path):
    version = models.version(MODEL, "2")
    manifest = models.download(version, tmp_path / "model")
    logged = next((mlflow_folder / "artifacts").rglob(f"{version.source.rpartition('/')[2]}/artifacts"))
    aside = logged.rename(logged.with_name("away"))
    try:
        with pytest.raises((OperationFailed, UnknownName)):
            models.download(version, tmp_path / "model")
    finally:
        aside.rename(logged)
    assert manifest_of(tmp_path / "model") == manifest


def test_a_tensor_schema_names_its_type(tmp_path: Path):
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}]
    outputs = [{"type": "long", "name": "class", "required": False}]
    (tmp_path / "MLmodel").write_text(f"signature:\n  inputs: '{json.dumps(inputs)}'\n  outputs: '{json.dumps(outputs)}'\n")
    schema = read_schema(tmp_path)
    assert schema is not None
    assert schema.inputs == (Column(None, "tensor(float64)"),)
    assert schema.outputs == (Column("class", "long", required=False),)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "signature: {inputs: 'x', outputs: 'y'}",
        'signature: {inputs: "[1]", outputs: "[1]"}',
        "signature: {inputs: [1], outputs: 5}",
        f"signature: {{inputs: '{'[' * 100_000}', outputs: 'y'}}",
        *YAML_TEXTS,
    ],
)
def test_a_broken_model_file_is_an_input_error(tmp_path: Path, text: str):
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(InputError, match="MLmodel"):
        read_schema(tmp_path)


@pytest.mark.parametrize("text", ["", "flavors: {}", "signature: null", "signature: {inputs: '[]'}", "- a list"])
def test_a_model_file_without_inputs_and_outputs_has_no_schema(tmp_path: Path, text: str):
    (tmp_path / "MLmodel").write_text(text)
    assert read_schema(tmp_path) is None


def test_a_folder_without_a_model_file_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match="MLmodel"):
        read_schema(tmp_path)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (401, b"You are not authenticated", Denied),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}', Denied),
        (429, b"{}", Busy),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "boom"}', Unreachable),
        (503, b"", Unreachable),
        (404, b"<html>not MLflow</html>", OperationFailed),
        (200, b"<html>not MLflow</html>", OperationFailed),
        (302, b"", OperationFailed),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}', InputError),
    ],
)
def test_the_servers_codes_become_our_errors(ear: Ear, status: int, answer: bytes, error: type[Exception]):
    ear.status, ear.answer = status, answer
    with pytest.raises(error) as raised:
        MlflowModels(ear.url).alias(MODEL, "champion")
    assert type(raised.value) is error


def test_a_server_that_is_away_is_unreachable():
    with pytest.raises(Unreachable, match="did not answer"):
        MlflowModels(f"http://127.0.0.1:{free_port()}").version(MODEL, "1")


def test_files_that_mlflow_does_not_serve_are_not_supported(ear: Ear, tmp_path: Path):
    ear.answer = b'{"artifact_uri": "s3://bucket/1/models/m-1/artifacts"}'
    with pytest.raises(NotSupported, match="--artifacts-destination"):
        MlflowModels(ear.url).download(ModelVersion(MODEL, "1", "models:/m-1"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_listing_cannot_lead_out_of_the_folder(ear: Ear, tmp_path: Path):
    ear.answer = b'{"artifact_uri": "mlflow-artifacts:/1/m", "files": [{"path": "../../escaped", "is_dir": false}]}'
    with pytest.raises(IntegrityError, match="leaves"):
        MlflowModels(ear.url).download(ModelVersion(MODEL, "1", "models:/m-1"), tmp_path / "in" / "model")
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("mlflow-artifacts:/1/m", "%2e%2e/escaped"),
        ("mlflow-artifacts:/1/m", "%252e%252e%252fescaped"),
        ("mlflow-artifacts:/1/m", "a\\u0000b"),
        ("mlflow-artifacts:/../../etc", "passwd"),
        ("mlflow-artifacts:/1/%2e%2e/%2e%2e", "escaped"),
        ("mlflow-artifacts:/1/m?path=../..", "escaped"),
    ],
)
def test_path_traversal_by_an_artifact_uri_or_by_names_that_are_decoded_twice_is_refused(ear: Ear, tmp_path: Path, uri: str, path: str):
    """CVE-2023-1177 and CVE-2024-1560 of MLflow: the names come from whoever logged the model."""
    ear.answer = f'{{"artifact_uri": "{uri}", "files": [{{"path": "{path}", "is_dir": false}}]}}'.encode()
    with pytest.raises((Refused, IntegrityError)):
        MlflowModels(ear.url).download(ModelVersion(MODEL, "1", "models:/m-1"), tmp_path / "in" / "model")
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize("uri", ["http://169.254.169.254/latest", "file:///etc", "mlflow-artifacts://169.254.169.254/x", "s3://bucket/x"])
def test_ssrf_by_an_artifact_uri_is_refused_for_nothing_but_mlflow_itself_is_asked(ear: Ear, tmp_path: Path, uri: str):
    ear.answer = f'{{"artifact_uri": "{uri}"}}'.encode()
    with pytest.raises(NotSupported, match="not served by the MLflow server"):
        MlflowModels(ear.url).download(ModelVersion(MODEL, "1", "models:/m-1"), tmp_path / "model")
    assert len(ear.heard) == 1


def test_a_version_without_files_is_no_download(ear: Ear, tmp_path: Path):
    ear.answer = b'{"artifact_uri": "mlflow-artifacts:/1/m"}'
    with pytest.raises(OperationFailed, match="holds no files"):
        MlflowModels(ear.url).download(ModelVersion(MODEL, "1", "models:/m-1"), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("milliseconds", [2**62, -(2**62), 2**200, 10**17])
def test_a_run_that_began_when_no_calendar_says_has_no_such_moment(milliseconds: int) -> None:
    from registry.runs import _time

    assert _time(milliseconds) is None
    assert _time(0) is not None
