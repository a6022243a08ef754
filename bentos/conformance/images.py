"""What the contracts ask of an image besides: how it is made, how it starts, and how it ends."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from bentos.conformance.asking import ASK_SECONDS, Subject, described, sample_rows
from bentos.conformance.contracts import READY, judge
from bentos.conformance.findings import Finding, Outcome
from bentos.conformance.running import HOST, Run, free_port, impossible, running, stopped, unfit
from bentos.oci.image import PORT
from bentos.oci.kinds import this_platform
from bentos.oci.layout import Layout
from bentos.oci.unpack import image_in, unpack_image
from bentos.service.errors import ServiceError
from bentos.service.settings import read_settings

START_SECONDS = 480.0
"""How long SageMaker waits for a container's first good ping."""
POLL_SECONDS = 0.1
HEALTH, PREDICT = "/vertex/health", "/vertex/predict"
"""Paths that nobody would serve without having read the variables."""
ANYWHERE = "0.0.0.0"  # noqa: S104 - what a container must listen on
OTHER_PORT = "8787"
IMAGE_RULES = {
    "starts": ("sagemaker", "it becomes ready from a read-only root, as nobody, with the word `serve` behind its command"),
    "stops": ("sagemaker", "it ends with 0 within 30 s of SIGTERM"),
    "port": ("sagemaker", "it listens on 8080 unless its cloud says otherwise"),
    "user": ("convoy", "its user is not root"),
    "revision": ("convoy", "its label, its subject and its variable name one revision"),
}


def check_image(
    folder: Path, contracts: tuple[str, ...], rows: tuple[Mapping[str, Any], ...] = (), mounts: Mapping[str, Path] | None = None
) -> tuple[Finding, ...]:
    """Look at an image in an OCI layout, run it, ask it and stop it.

    Raises InputError and NotSupported for a layout without an image for this machine; IntegrityError for wrong bytes.
    """
    layout = Layout(folder)
    _, manifest, document = image_in(layout, this_platform())
    found = [each for each in _static(manifest, document) if each.contract in contracts]
    config = document.get("config") or {}
    if why := impossible() or unfit(config):
        rest = [_image("starts", Outcome.INCONCLUSIVE, why), _image("stops", Outcome.INCONCLUSIVE, why)]
        return (*found, *(each for each in rest if each.contract in contracts))
    with tempfile.TemporaryDirectory(prefix="convoy-image-") as scratch:
        root = Path(scratch) / "root"
        unpack_image(layout, manifest, root)
        port = free_port()
        variables = {
            "CONVOY_SERVICE_HOST": HOST,
            "AIP_HTTP_PORT": str(port),
            "AIP_HEALTH_ROUTE": HEALTH,
            "AIP_PREDICT_ROUTE": PREDICT,
        }
        run = Run(root, config, variables, ("serve",), mounts or {})
        return (*found, *(each for each in _run(run, Path(scratch) / "log", port, contracts, rows) if each.contract in contracts))


def not_of_a_server(contracts: tuple[str, ...]) -> tuple[Finding, ...]:
    """Return the rules that only an image can be asked about."""
    return tuple(
        _image(key, Outcome.NOT_APPLICABLE, "a server was asked, not an image")
        for key, (contract, _) in IMAGE_RULES.items()
        if contract in contracts
    )


def _run(run: Run, log: Path, port: int, contracts: tuple[str, ...], rows: tuple[Mapping[str, Any], ...]) -> Iterator[Finding]:
    labels = run.config.get("Labels") or {}
    with running(run, log) as process, httpx.Client(base_url=f"http://{HOST}:{port}", timeout=ASK_SECONDS, trust_env=False) as client:
        subject = Subject(client, labels.get("convoy.revision"), labels.get("convoy.model"), rows, HEALTH, PREDICT)
        began = time.monotonic()
        while subject.get(READY).status != 200:
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                ended = f"ended with {process.returncode}" if process.returncode is not None else f"was not ready after {START_SECONDS:g} s"
                said = " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
                yield _image("starts", Outcome.FAILED, f"it {ended}; it said: {said or 'nothing'}")
                yield _image("stops", Outcome.INCONCLUSIVE, "it never ran")
                return
            time.sleep(POLL_SECONDS)
        yield _image("starts", Outcome.PASSED, f"ready after {time.monotonic() - began:.1f} s")
        yield from judge(known(subject), contracts)
        status = stopped(process)
        yield _image(
            "stops", Outcome.PASSED if status == 0 else Outcome.FAILED, "it did not end" if status is None else f"it ended with {status}"
        )


def known(subject: Subject) -> Subject:
    """Return a subject with what its server tells of its model, and a row of zeros where no row was given."""
    metadata = described(subject)
    return replace(subject, metadata=metadata, rows=subject.rows or sample_rows(metadata))


def _static(manifest: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[Finding]:
    config = document.get("config") or {}
    variables = dict(str(each).partition("=")[::2] for each in config.get("Env") or ())
    user = str(config.get("User") or "root")
    name = user.partition(":")[0]
    yield _image("user", Outcome.FAILED if name in ("root", "") or not name.strip("0") else Outcome.PASSED, f"its user is {user}")
    named = {
        (config.get("Labels") or {}).get("convoy.revision"),
        (manifest.get("subject") or {}).get("digest"),
        variables.get("CONVOY_SERVICE_REVISION"),
    }
    told = ", ".join(sorted(map(str, named)))
    yield _image("revision", Outcome.PASSED if len(named) == 1 and None not in named else Outcome.FAILED, f"they name {told}")
    yield listens(variables)


def listens(variables: Mapping[str, str]) -> Finding:
    """Find out from an image's variables where its service listens, by itself and where Vertex AI names a port."""
    try:
        usual, told = read_settings(variables), read_settings({**variables, "AIP_HTTP_PORT": OTHER_PORT})
    except ServiceError as problem:
        return _image("port", Outcome.FAILED, str(problem))
    good = (usual.host, usual.port, str(told.port)) == (ANYWHERE, PORT, OTHER_PORT)
    reason = f"it listens on {usual.host}:{usual.port}, and on {told.port} where AIP_HTTP_PORT is {OTHER_PORT}"
    return _image("port", Outcome.PASSED if good else Outcome.FAILED, reason)


def _image(key: str, outcome: Outcome, reason: str) -> Finding:
    return Finding(*IMAGE_RULES[key], outcome, reason)
