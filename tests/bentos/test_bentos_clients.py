"""Clients that others wrote ask the service as they come: Triton's over HTTP and gRPC, MLflow's, and AWS's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doors_asking as asking
import numpy as np
import pandas as pd
import pytest
from bentos_serving import Service, digest_of, serving

from support.ports import free_port

FEW = 20


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Rows in which nothing is missing: these clients have no way to say so in a text."""
    rows = {name: values[1 : FEW + 1] for name, values in asking.thousand().items()}
    frame = pd.DataFrame(rows)
    return frame.astype({"age": "int64", "children": "int32", "hours": "float64", "rate": "float32", "member": "bool"}).fillna(
        {"hours": 0.5}
    )


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(echo_bento: Path, grpc_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"revision": digest_of(echo_bento), "grpc_port": str(grpc_port)}
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log", **settings) as service:
        yield service


def assert_echoed(rows: pd.DataFrame, answer: dict[str, Any]) -> None:
    for name in ("age", "children", "hours", "rate", "member", "city", "note"):
        assert list(np.asarray(answer[name]).ravel()) == rows[name].tolist(), name


def tensors(library: Any, rows: pd.DataFrame, **options: Any) -> list[Any]:
    made = []
    for name, datatype in asking.TYPES.items():
        values = rows[name].to_numpy(object if datatype == "BYTES" else None)
        made.append(library.InferInput(name, [FEW], datatype))
        made[-1].set_data_from_numpy(values, **options)
    return made


def by_name(result: Any, rows: pd.DataFrame) -> dict[str, Any]:
    found = {name: result.as_numpy(name) for name in rows}
    texts = {name: [value if isinstance(value, str) else value.decode() for value in found[name]] for name in ("city", "note")}
    return found | texts


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_asks_over_http(binary: bool, service: Service, rows: pd.DataFrame) -> None:
    import tritonclient.http as triton

    with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("echo", "3")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert client.get_model_metadata("echo")["inputs"][0] == {"name": "age", "datatype": "INT64", "shape": [-1]}
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in rows]
        chosen = client.infer("echo", tensors(triton, rows, binary_data=binary), outputs=wanted, request_id="t-1")
        everything = client.infer("echo", tensors(triton, rows, binary_data=binary))

    assert chosen.get_response()["id"] == "t-1"
    assert_echoed(rows, by_name(chosen, rows))
    assert_echoed(rows, by_name(everything, rows))


def test_tritons_client_asks_over_grpc(service: Service, grpc_port: int, rows: pd.DataFrame) -> None:
    import tritonclient.grpc as triton

    with triton.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo", "3")
        assert client.get_server_metadata().name == "convoy_service"
        described = client.get_model_metadata("echo")
        assert [tensor.name for tensor in described.inputs] == list(asking.TYPES)
        result = client.infer("echo", tensors(triton, rows), request_id="t-2")

    assert result.get_response().id == "t-2"
    assert_echoed(rows, by_name(result, rows))


def test_our_messages_are_those_of_tritons_client() -> None:
    from tritonclient.grpc import service_pb2

    from bentos.service.grpc_messages import CLASSES

    def told(descriptor: Any) -> list[Any]:
        return [(field.name, field.number, field.type, field.is_repeated) for field in descriptor.fields]

    # Triton's own extensions of the protocol; names and numbers of the protocol itself are the same
    more = {"InferParameter": {"double_param", "uint64_param"}}
    for path, ours in CLASSES.items():
        theirs = service_pb2.DESCRIPTOR.message_types_by_name[path.partition(".")[0]]
        if "." in path:
            theirs = theirs.nested_types_by_name[path.partition(".")[2]]
        left_out = more.get(path, set()) - {field.name for field in theirs.fields}
        assert [field for field in told(ours.DESCRIPTOR) if field[0] not in left_out] == told(theirs), path


def test_mlflows_client_asks(service: Service, rows: pd.DataFrame) -> None:
    import mlflow
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", service.port)
    client.ping()
    client.wait_server_ready(timeout=10)

    answer = client.invoke(rows).get_predictions()

    assert client.get_version() == mlflow.__version__
    assert_echoed(rows, answer.to_dict("list"))


@pytest.mark.parametrize("shape", ["dataframe_split", "dataframe_records"])
def test_the_answer_is_that_of_mlflows_own_scoring_server(shape: str, logistic: Service, logistic_model: Path) -> None:
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    frame = pd.DataFrame({"age": [20, 60], "hours": [10.5, 60.0], "children": [0, 4]})
    body = json.dumps({shape: frame.to_dict("split" if shape == "dataframe_split" else "records")})
    model = load_model(str(logistic_model))

    theirs = json.loads(invocations(body, "application/json", model, model.metadata.get_input_schema()).response)
    ours = logistic.client.post("/invocations", content=body, headers={"content-type": "application/json"}).json()

    assert ours.keys() == theirs.keys() == {"predictions"}
    np.testing.assert_allclose(ours["predictions"], theirs["predictions"], rtol=1e-12)


def runtime(service: Service) -> Any:
    from botocore.config import Config
    from botocore.session import get_session

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-1"}
    config = Config(retries={"total_max_attempts": 1})
    return get_session().create_client("sagemaker-runtime", endpoint_url=f"http://127.0.0.1:{service.port}", config=config, **keys)


@pytest.mark.parametrize(
    ("kind", "accept"), [("application/json", "application/json"), ("text/csv", "text/csv"), ("text/csv", "application/json")]
)
def test_aws_client_invokes_the_endpoint(kind: str, accept: str, service: Service, rows: pd.DataFrame, echo_bento: Path) -> None:
    records = json.loads(rows.to_json(orient="records"))
    body = json.dumps({"instances": records}) if kind == "application/json" else rows.to_csv(index=False)

    answer = runtime(service).invoke_endpoint(
        EndpointName="echo", Body=body, ContentType=kind, Accept=accept, InferenceId="i-1", CustomAttributes="tenant=7"
    )

    assert answer["ContentType"] == accept
    assert answer["CustomAttributes"] == f"x-convoy-revision={digest_of(echo_bento)};x-convoy-region=unplaced;x-request-id=i-1"
    text = answer["Body"].read()
    if accept == "text/csv":
        assert text.decode().splitlines()[0].split(",")[:2] == [str(rows["age"][0]), str(rows["children"][0])]
    else:
        assert [row["age"] for row in json.loads(text)["predictions"]] == rows["age"].tolist()


def test_aws_client_hears_of_a_wrong_body(service: Service) -> None:
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as refused:
        runtime(service).invoke_endpoint(EndpointName="echo", Body=b"{}", ContentType="application/json")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
