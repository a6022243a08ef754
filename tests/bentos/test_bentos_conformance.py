"""The contracts against small servers that keep them, or break one rule each; and a real image, run without an engine."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bentos.conformance.asking import Subject
from bentos.conformance.contracts import CONTRACTS, judge
from bentos.conformance.findings import Finding, Outcome, conforms
from bentos.conformance.images import check_image, known, listens, not_of_a_server
from bentos.conformance.running import Run, impossible, running
from bentos.oci.image import Ingredients, write_image
from bentos.oci.kinds import CONFIG, INDEX, MANIFEST, this_platform
from bentos.oci.layout import Layout
from bentos.oci.unpack import image_in, unpack_image
from control.conformance_command import check
from fleet.errors import ExitCode, InputError, IntegrityError, NotSupported, UnknownName
from fleet.manifest import manifest_of
from support.images import PYTHON, elf, revision_of, stub_environment
from support.ports import free_port

DIGEST = "sha256:" + "a" * 64
COLUMNS = [{"name": "age", "datatype": "INT64", "shape": [-1]}, {"name": "city", "datatype": "BYTES", "shape": [-1]}]


def keeping(method: str, path: str, body: bytes) -> tuple[int, Any]:
    """The answers of a server that keeps every contract."""
    if method == "GET":
        known_paths = {"/v2/health/ready", "/v2/health/live", "/ping"}
        return (
            (200, {"inputs": COLUMNS}) if path == "/v2/models/m" else (200, {}) if path in known_paths else (404, {"error": "no such path"})
        )
    try:
        document = json.loads(body)
    except ValueError:
        return 400, {"error": "the body is no JSON"}
    if path == "/v2/models/m/infer":
        return (200, {"outputs": [{"data": [1]}]}) if {each["name"] for each in document["inputs"]} == {"age", "city"} else (400, {})
    if path == "/invocations":
        rows = document["instances"] if "instances" in document else document["dataframe_split"]["data"]
        return 200, {"predictions": [1 for _ in rows]}
    return (200, [1]) if path == "/score" and document["input_data"]["index"] == [0] else (404, {})


@contextmanager
def server(**breaks: tuple[int, Any]) -> Iterator[str]:
    """A server on loopback; `breaks` gives other answers to a method and path (GET_ping, POST_score)."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            name = f"{self.command}_{self.path.strip('/').replace('/', '_')}"
            status, document = breaks.get(name, keeping(self.command, self.path, body))
            data = json.dumps(document).encode()
            self.send_response(status)
            if "no_revision" not in breaks:
                self.send_header("X-Convoy-Revision", DIGEST)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    found = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        found.server_close()


def judged(url: str, **about: Any) -> tuple[Finding, ...]:
    with httpx.Client(base_url=url, timeout=5, trust_env=False) as client:
        return judge(known(Subject(client, **({"digest": DIGEST, "model": "m"} | about))), tuple(CONTRACTS))


def failed(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(each.contract, each.rule) for each in found if each.outcome is Outcome.FAILED]


def test_a_server_that_keeps_all_contracts_conforms() -> None:
    with server() as url:
        found = judged(url)

    assert {each.outcome for each in found} == {Outcome.PASSED}, found
    assert conforms(found)
    assert {each.contract for each in found} == {"convoy", "sagemaker", "vertex", "azure"}


@pytest.mark.parametrize(
    ("breaks", "rules"),
    [
        ({"GET_ping": (503, {})}, {("sagemaker", "GET /ping answers 200 within 2 s"), ("vertex", "AIP_HEALTH_ROUTE answers 200")}),
        ({"POST_score": (500, {})}, {("azure", "POST /score answers"), ("azure", "broken JSON is the caller's mistake")}),
        ({"GET_v2_health_ready": (503, {})}, {("convoy", "readiness names the digest"), ("azure", "the readiness route answers 200")}),
        (
            {"no_revision": (0, {})},
            {("convoy", rule) for rule in ("readiness names the digest", "every answer names the revision", "a row is answered")},
        ),
        (
            {"POST_invocations": (200, {"predictions": []})},
            {
                ("vertex", "AIP_PREDICT_ROUTE gives one prediction for each instance"),
                *((contract, "broken JSON is the caller's mistake") for contract in ("vertex", "sagemaker")),
            },
        ),
    ],
)
def test_a_server_that_breaks_a_rule_is_told_which(breaks: dict[str, tuple[int, Any]], rules: set[tuple[str, str]]) -> None:
    with server(**breaks) as url:
        found = judged(url)

    assert set(failed(found)) == rules
    assert not conforms(found)


def test_another_digest_than_the_one_asked_for_fails_and_names_both() -> None:
    with server() as url:
        found = judged(url, digest="sha256:" + "b" * 64)

    (wrong,) = [each for each in found if each.outcome is Outcome.FAILED]
    assert f"names {DIGEST}, not sha256:bbb" in wrong.reason


def test_a_row_that_is_not_known_or_refused_is_inconclusive_and_no_pass() -> None:
    with server() as url:
        found = judged(url, model=None)
        refused = judged(url, rows=({"colour": "red"},))

    assert {each.rule for each in found if each.outcome is Outcome.INCONCLUSIVE} >= {"POST /invocations answers", "POST /score answers"}
    (open_one,) = [each for each in refused if each.outcome is Outcome.INCONCLUSIVE]
    assert "give --input" in open_one.reason
    assert not conforms(found)
    assert not conforms(refused)


def test_an_answer_that_does_not_end_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.conformance.asking.MOST_BYTES", 100_000)
    with server(GET_v2_health_live=(200, "x" * 200_000)) as url:
        found = judged(url)

    assert failed(found) == [("convoy", "it says that it lives"), ("azure", "the liveness route answers 200")]
    assert "does not end within 100000 bytes" in next(each.reason for each in found if each.outcome is Outcome.FAILED)


def test_a_whole_request_is_asked_where_it_is_known() -> None:
    body = json.dumps({"inputs": [{"name": "age", "data": [1]}, {"name": "city", "data": ["x"]}]}).encode()
    with server(GET_v2_models_m=(200, {"inputs": [{"name": "age"}, 7]})) as url:
        asked = judged(url, request=body)
        guessed = judged(url)

    assert failed(asked) == [("convoy", "it describes its model")]
    assert {each.rule for each in guessed if each.outcome is Outcome.INCONCLUSIVE} >= {"a row is answered"}


def test_nobody_there_fails_every_rule_that_can_be_asked() -> None:
    found = judged(f"http://127.0.0.1:{free_port()}", rows=({"age": 1},))

    assert {each.outcome for each in found} == {Outcome.FAILED}
    assert "ConnectError" in found[0].reason


def test_the_command_says_by_its_exit_code_whether_a_server_conforms(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "rows.json").write_text('[{"age": 30, "city": "Bern"}]')
    with server() as url:
        assert check(url, (), (DIGEST, "m"), tmp_path / "rows.json", as_json=True) is ExitCode.DONE
        told = json.loads(capsysbinary.readouterr().out)
        assert check(url, ("convoy",), ("sha256:" + "b" * 64, "m"), None, as_json=False) is ExitCode.REJECTED
    assert told["conforms"]
    assert {each["outcome"] for each in told["findings"] if each["rule"] in {found.rule for found in not_of_a_server(("sagemaker",))}} == {
        "not applicable"
    }
    with pytest.raises(UnknownName, match="known: convoy, sagemaker, vertex, azure"):
        check(url, ("oracle",), (None, None), None, as_json=False)
    with pytest.raises(InputError, match="neither a URL nor a folder"):
        check("ftp://x", (), (None, None), None, as_json=False)


ANYWHERE = {"CONVOY_SERVICE_HOST": "0.0.0.0"}


@pytest.mark.parametrize(
    ("variables", "outcome", "reason"),
    [
        (ANYWHERE | {"SAGEMAKER_BIND_TO_PORT": "8080"}, Outcome.PASSED, "on 0.0.0.0:8080, and on 8787 where AIP_HTTP_PORT is 8787"),
        (ANYWHERE | {"CONVOY_SERVICE_PORT": "8080"}, Outcome.FAILED, "and on 8080 where AIP_HTTP_PORT is 8787"),
        (ANYWHERE, Outcome.FAILED, "on 0.0.0.0:3001"),
        ({"SAGEMAKER_BIND_TO_PORT": "8080"}, Outcome.FAILED, "on 127.0.0.1:8080"),
        ({"SAGEMAKER_BIND_TO_PORT": "http"}, Outcome.FAILED, "SAGEMAKER_BIND_TO_PORT: must be a whole number"),
    ],
)
def test_an_image_listens_on_8080_and_where_its_cloud_says(variables: dict[str, str], outcome: Outcome, reason: str) -> None:
    found = listens(variables)

    assert found.outcome is outcome
    assert reason in found.reason


@pytest.mark.parametrize("url", ["http://", "http://127.0.0.1:99999", "http://[bad", "http://a b:1"])
def test_what_is_no_url_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match="is no URL that can be asked"):
        check(url, ("sagemaker",), (None, None), None, as_json=True)


def test_what_is_no_digest_is_bad_input() -> None:
    with pytest.raises(InputError, match="is no digest of a revision"):
        check("http://127.0.0.1:1", (), ("3", None), None, as_json=True)


@pytest.mark.parametrize("inputs", [[1], [{"name": "age"}], {"age": 1}])
def test_a_server_that_tells_nonsense_of_its_columns_is_judged_all_the_same(inputs: Any) -> None:
    with server(GET_v2_models_m=(200, {"inputs": inputs})) as url:
        assert {each.outcome for each in judged(url) if "row" in each.rule} == {Outcome.INCONCLUSIVE}


def base_of_this_machine(base: Path) -> tuple[Path, dict[str, Path]]:
    """A base with nothing in it but a place for this machine's Python, and what is shown in it; the packages too."""
    here = this_platform()
    mounts = {"usr/local": Path(sys.base_prefix), "opt/convoy/environment": Path(sysconfig.get_path("purelib")), "dev": Path("/dev")}
    # Debian's Python needs no more than these, one built elsewhere the libraries of its own prefix besides
    mounts |= {folder.strip("/"): Path(folder) for folder in ("/lib", "/lib64", "/usr/lib") if Path(folder).is_dir()}
    if sys.base_prefix not in ("/usr", "/usr/local"):
        mounts[f"{sys.base_prefix}/lib".strip("/")] = Path(sys.base_prefix) / "lib"
    (base / "usr/local/bin").mkdir(parents=True)
    (base / "usr/local/bin" / PYTHON).write_bytes(elf(here.architecture))
    (base / "tmp").mkdir()
    for where in mounts:
        (base / where).mkdir(parents=True, exist_ok=True)
    return base, mounts


@pytest.fixture(scope="module")
def runnable(logistic_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """An image whose Python and packages are this machine's, shown in it where its own would be; all else is its own."""
    if why := impossible():
        pytest.skip(f"no image can be run here: {why}")
    place, here = tmp_path_factory.mktemp("runnable"), this_platform()
    base, mounts = base_of_this_machine(place / "base")
    environment = stub_environment(place / "environment", logistic_bento)
    write_image(logistic_bento, revision_of(logistic_bento), Ingredients({here: base}, {here: environment}), place / "image")
    return place / "image", mounts


def test_an_image_starts_as_nobody_from_a_read_only_root_answers_and_ends_on_sigterm(runnable: tuple[Path, dict[str, Path]]) -> None:
    """Its own command, variables and files in a mount namespace; only Python and the packages are this machine's."""
    image, mounts = runnable
    found = check_image(image, tuple(CONTRACTS), mounts=mounts)

    assert [each for each in found if each.outcome is not Outcome.PASSED] == []
    assert conforms(found)
    assert {each.rule for each in found} >= {rule.rule for rule in not_of_a_server(tuple(CONTRACTS))}
    assert {each.contract for each in found} == set(CONTRACTS)


def test_what_runs_in_an_image_is_nobody_and_can_write_nowhere_but_in_tmp(runnable: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    image, mounts = runnable
    _, manifest, document = image_in(Layout(image), this_platform())
    unpack_image(Layout(image), manifest, tmp_path / "root")
    program = """
import os, json
told = {"uid": os.getuid(), "cwd": os.getcwd(), "wrote": []}
for path in ("/x", "/opt/convoy/revision/src/x", "/opt/convoy/x", "/tmp/x"):
    try:
        open(path, "w").close()
        told["wrote"].append(path)
    except OSError:
        pass
print(json.dumps(told))
"""
    config = document["config"] | {"Entrypoint": [document["config"]["Entrypoint"][0], "-c", program]}
    with running(Run(tmp_path / "root", config, mounts=mounts), tmp_path / "log") as process:
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    told = json.loads((tmp_path / "log").read_text())

    assert told["wrote"] == ["/tmp/x"]
    assert told["cwd"] == "/opt/convoy/revision/src"
    assert told["uid"] == (65532 if os.geteuid() == 0 else 0), "in a user namespace the caller looks like root and has no more rights"
    assert manifest_of(tmp_path / "root/opt/convoy/revision").digest == config["Labels"]["convoy.revision"]


def changed(image: Path, to: Path, **config: Any) -> Path:
    """The same image with another configuration."""
    shutil.copytree(image, to)
    layout = Layout(to)
    _, manifest, document = image_in(layout, this_platform())
    kept = {name: value for name, value in (document["config"] | config).items() if value is not None}
    made = layout.put_json(manifest | {"config": layout.put_json(document | {"config": kept}, CONFIG).as_json()}, MANIFEST)
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [made.as_json() | {"platform": this_platform().as_json()}]}
    layout.finish([layout.put_json(index, INDEX)])
    return to


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"User": "0"}, "is root, as which it is not run"),
        ({"User": "00:5"}, "is root, as which it is not run"),
        ({"User": None}, "is root, as which it is not run"),
        ({"User": "65532 --setuid 0"}, "a number is needed"),
        ({"User": "nobody"}, "a number is needed"),
        ({"Entrypoint": None}, "names no command"),
    ],
)
def test_an_image_of_root_or_without_a_command_is_judged_and_not_started(
    config: dict[str, Any], why: str, runnable: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    image, mounts = runnable
    found = {each.rule: each for each in check_image(changed(image, tmp_path / "image", **config), ("convoy", "sagemaker"), mounts=mounts)}

    starts = found["it becomes ready from a read-only root, as nobody, with the word `serve` behind its command"]
    assert (starts.outcome, why in starts.reason) == (Outcome.INCONCLUSIVE, True)
    root = "User" in config and why.startswith("is root")
    assert (found["its user is not root"].outcome is Outcome.FAILED) is root


def test_what_an_image_says_is_for_its_own_command_alone(runnable: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    """A path, a library or a function of the shell would else be taken by programs that run here as root."""
    image, mounts = runnable
    for name in ("mount", "sh", "unshare"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/taken\n")
        (tmp_path / name).chmod(0o755)
    _, manifest, document = image_in(Layout(image), this_platform())
    unpack_image(Layout(image), manifest, tmp_path / "root")
    said = f"import os; print(os.environ['PATH'].startswith('{tmp_path}'))"
    env = [f"PATH={tmp_path}:/usr/local/bin", f"BASH_FUNC_mount%%=() {{ touch {tmp_path}/taken; }}", "PYTHONDONTWRITEBYTECODE=1"]
    config = document["config"] | {"Entrypoint": [document["config"]["Entrypoint"][0], "-c", said], "Env": env}
    with running(Run(tmp_path / "root", config, mounts=mounts), tmp_path / "log") as process:
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "log").read_text() == "True\n"
    assert not (tmp_path / "taken").exists()


def test_an_image_with_one_changed_byte_is_not_even_started(runnable: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    image, _ = runnable
    shutil.copytree(image, tmp_path / "image")
    largest = max((tmp_path / "image" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)

    with pytest.raises(IntegrityError, match="other bytes than its name says"):
        check_image(tmp_path / "image", ("convoy",))


def test_an_image_that_never_gets_ready_fails_with_what_it_said(runnable: tuple[Path, dict[str, Path]]) -> None:
    """Without its packages it cannot even begin."""
    image, mounts = runnable
    few = {where: source for where, source in mounts.items() if where != "opt/convoy/environment"}
    found = {each.rule: each for each in check_image(image, ("sagemaker",), mounts=few)}

    starts = found["it becomes ready from a read-only root, as nobody, with the word `serve` behind its command"]
    assert starts.outcome is Outcome.FAILED
    assert "No module named" in starts.reason
    assert found["it ends with 0 within 30 s of SIGTERM"].outcome is Outcome.INCONCLUSIVE


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_environment_that_uv_puts_together_is_all_that_the_service_needs(logistic_bento: Path, tmp_path: Path) -> None:
    """Real wheels, 600 MiB of them; it takes half a minute where uv has them cached."""
    if why := impossible():
        pytest.skip(f"no image can be run here: {why}")
    base, mounts = base_of_this_machine(tmp_path / "base")
    try:
        write_image(logistic_bento, revision_of(logistic_bento), Ingredients({this_platform(): base}), tmp_path / "image")
    except NotSupported as problem:
        pytest.skip(f"uv reaches no wheels here: {problem.reason[:200]}")
    del mounts["opt/convoy/environment"]
    found = check_image(tmp_path / "image", ("convoy",), mounts=mounts)

    assert [each for each in found if each.outcome is not Outcome.PASSED] == []
