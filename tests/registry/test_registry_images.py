"""Images are copied between two real registries with their digests, and what is wrong on either side is found."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet.canonical import canonical_json, digest_of
from fleet.errors import ConvoyError, Denied, InputError, IntegrityError, NotSupported, OperationFailed, UnknownName, Unreachable
from registry.images import copy_image
from registry.logins import login_for
from registry.oci import INDEXES, MANIFESTS, Login, OciRegistry, Place, referrers_tag
from support.waiting import wait_until

CONFIG, LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
Start = Callable[[str], tuple[OciRegistry, Path]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a registry of its own on loopback, and give it with the folder that it keeps everything in."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed: sudo apt-get install docker-registry")
    running: list[subprocess.Popen[bytes]] = []

    def one(name: str) -> tuple[OciRegistry, Path]:
        host = f"127.0.0.1:{free_port()}"
        folder = tmp_path / name
        settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder)}}, "http": {"addr": host}}
        file = tmp_path / f"{name}.yml"
        file.write_text(json.dumps(settings))
        with (tmp_path / f"{name}.log").open("wb") as log:
            running.append(subprocess.Popen([program, "serve", str(file)], stdout=log, stderr=log))
        wait_until(lambda: answers(host), 30)
        return OciRegistry(host), folder

    yield one
    for process in running:
        process.terminate()
        process.wait(20)


def answers(host: str) -> bool:
    try:
        return httpx.get(f"http://{host}/v2/", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def push(registry: OciRegistry, repository: str, *layers: bytes, tag: str = "1") -> str:
    """Put an image into a registry and return its digest."""
    blobs = [(b'{"architecture":"amd64","os":"linux"}', CONFIG), *((data, LAYER) for data in layers)]
    named = [{"mediaType": kind, "digest": digest_of(data), "size": len(data)} for data, kind in blobs]
    for data, _ in blobs:
        registry.put_blob(repository, digest_of(data), len(data), iter([data]))
    document = canonical_json({"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": named[0], "layers": named[1:]})
    registry.put_manifest(repository, tag, document, MANIFESTS[0])
    return digest_of(document)


def place(registry: OciRegistry, repository: str, reference: str = "1") -> Place:
    return Place.parse(f"{registry.host}/{repository}{'@' if reference.startswith('sha256:') else ':'}{reference}")


def stored(folder: Path, digest: str) -> Path:
    hexed = digest.removeprefix("sha256:")
    return folder / "docker/registry/v2/blobs/sha256" / hexed[:2] / hexed / "data"


def test_an_image_keeps_its_digest_and_what_is_there_is_not_sent_again(start: Start):
    (source, _), (target, _) = start("source"), start("target")
    digest = push(source, "team/model", b"layer one" * 1000, b"layer two")
    done = copy_image(source, target, place(source, "team/model"), place(target, "mirror/model"))
    assert (done.digest, done.sent, done.mounted, done.present) == (digest, 3, 0, 0)
    assert target.manifest("mirror/model", digest) == source.manifest("team/model", "1")
    again = copy_image(source, target, place(source, "team/model", digest), place(target, "mirror/model", "2"))
    assert (again.sent, again.present, again.bytes) == (0, 3, 0)
    assert target.manifest("mirror/model", "2")[0] == source.manifest("team/model", "1")[0]


def test_an_index_is_copied_with_every_image_that_it_names(start: Start):
    (source, _), (target, _) = start("source"), start("target")
    children = [push(source, "model", data, tag=tag) for tag, data in (("amd64", b"one"), ("arm64", b"two"))]
    listed = [{"mediaType": MANIFESTS[0], "digest": child, "size": len(source.manifest("model", child)[0])} for child in children]
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": listed})
    source.put_manifest("model", "both", index, INDEXES[0])
    done = copy_image(source, target, place(source, "model", "both"), place(target, "model", "both"))
    assert done.manifests == [*children, digest_of(index)]
    assert (done.sent, done.present) == (3, 1), "both images have the same configuration"
    assert target.manifest("model", "both") == (index, INDEXES[0])


def test_within_one_registry_blobs_are_mounted(start: Start):
    registry, _ = start("one")
    digest = push(registry, "candidate", b"layer")
    done = copy_image(registry, registry, place(registry, "candidate"), place(registry, "released"))
    assert (done.digest, done.sent, done.mounted) == (digest, 0, 2)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_byte_that_is_wrong_on_either_side_is_found_and_the_tag_is_not_set(start: Start, side: str):
    (source, here), (target, there) = start("source"), start("target")
    layer = b"layer" * 100
    push(source, "model", layer)
    if side == "target":
        # It is there already, and rots
        target.put_blob("model", digest_of(layer), len(layer), iter([layer]))
    file = stored(here if side == "source" else there, digest_of(layer))
    file.write_bytes(b"L" + layer[1:])
    with pytest.raises(ConvoyError) as raised:
        copy_image(source, target, place(source, "model"), place(target, "model"))
    assert isinstance(raised.value, IntegrityError)
    with pytest.raises(UnknownName):
        target.manifest("model", "1")


def test_what_there_is_not_or_is_another_is_told(start: Start):
    (source, _), (target, _) = start("source"), start("target")
    push(source, "model", b"layer")
    with pytest.raises(UnknownName):
        copy_image(source, target, place(source, "model", "7"), place(target, "model"))
    other = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    with pytest.raises(IntegrityError, match="not what was asked for"):
        copy_image(source, target, place(source, "model"), place(target, "model", other))
    with pytest.raises(Unreachable):
        OciRegistry(f"127.0.0.1:{free_port()}").manifest("model", "1")


def test_an_image_of_ours_is_read_by_skopeo_where_it_was_copied_to(start: Start):
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: sudo apt-get install skopeo")
    (source, _), (target, _) = start("source"), start("target")
    digest = push(source, "model", b"layer")
    copy_image(source, target, place(source, "model"), place(target, "model"))
    name = f"docker://{target.host}/model@{digest}"
    told = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", name], capture_output=True, timeout=60, check=False, cwd=Path(__file__).parent
    )
    assert told.returncode == 0, told.stderr
    assert digest_of(told.stdout) == digest


def refer(registry: OciRegistry, repository: str, subject: str, told: bytes) -> tuple[str, dict[str, Any]]:
    """Put a document into a registry that refers to a manifest; returns its digest and how a list of referrers names it."""
    named = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": digest_of(told), "size": len(told)}
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    for data in (told, b"{}"):
        registry.put_blob(repository, digest_of(data), len(data), iter([data]))
    about = {"mediaType": MANIFESTS[0], "digest": subject, "size": len(registry.manifest(repository, subject)[0])}
    document = {"schemaVersion": 2, "mediaType": MANIFESTS[0], "artifactType": named["mediaType"], "config": empty, "layers": [named]}
    data = canonical_json({**document, "subject": about})
    registry.put_manifest(repository, digest_of(data), data, MANIFESTS[0])
    return digest_of(data), {
        "mediaType": MANIFESTS[0],
        "digest": digest_of(data),
        "size": len(data),
        "artifactType": named["mediaType"],
    }


def list_by_tag(registry: OciRegistry, repository: str, subject: str, *referrers: dict[str, Any]) -> None:
    index = canonical_json({"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": list(referrers)})
    registry.put_manifest(repository, referrers_tag(subject), index, INDEXES[0])


class Listing(httpx.BaseTransport):
    """A registry that lists referrers itself, two pages of them: the real one behind it, which has no such list."""

    def __init__(self, *referrers: dict[str, Any]) -> None:
        self._real, self._referrers = httpx.HTTPTransport(), referrers

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "/referrers/" not in request.url.path:
            return self._real.handle_request(request)
        page = int(request.url.params.get("page", "0"))
        subject = request.url.path.rpartition("/")[2]
        found = [each for each in self._referrers if each["subject"] == subject][page : page + 1]
        named = [{name: value for name, value in each.items() if name != "subject"} for each in found]
        more = {"Link": f'<{request.url.path}?page={page + 1}>; rel="next"'} if page == 0 else {}
        return httpx.Response(200, json={"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": named}, headers=more)


@pytest.mark.parametrize("lists", ["itself", "by a tag"])
def test_what_refers_to_an_image_is_copied_with_it_and_with_what_refers_to_that(start: Start, lists: str):
    (source, _), (target, _) = start("source"), start("target")
    image = push(source, "model", b"layer")
    signed, one = refer(source, "model", image, b"a signature")
    listed, two = refer(source, "model", image, b"a bill of materials")
    of_bill, three = refer(source, "model", listed, b"a signature of the bill")
    if lists == "by a tag":
        list_by_tag(source, "model", image, one, two)
        list_by_tag(source, "model", listed, three)
    else:
        told = (one | {"subject": image}, two | {"subject": image}, three | {"subject": listed})
        source = OciRegistry(source.host, None, Listing(*told))
    done = copy_image(source, target, place(source, "model"), place(target, "copy"))
    assert (done.digest, done.manifests) == (image, [image])
    assert done.referrers == [signed, listed, of_bill]
    assert [each["digest"] for each in target.referrers("copy", image)] == [signed, listed]
    assert target.referrers("copy", listed) == [three]
    assert b"".join(target.read_blob("copy", digest_of(b"a bill of materials"))) == b"a bill of materials"
    again = copy_image(source, target, place(source, "model"), place(target, "copy"))
    assert (again.sent, again.referrers) == (0, done.referrers)
    assert len(target.referrers("copy", image)) == 2


def test_a_list_that_names_what_refers_to_another_image_is_found_and_the_tag_is_not_set(start: Start):
    (source, _), (target, _) = start("source"), start("target")
    image, other = push(source, "model", b"layer"), push(source, "model", b"another", tag="2")
    _, theirs = refer(source, "model", other, b"a signature")
    list_by_tag(source, "model", image, theirs)
    with pytest.raises(IntegrityError, match="refers to another"):
        copy_image(source, target, place(source, "model"), place(target, "model"))
    with pytest.raises(UnknownName):
        target.manifest("model", "1")


def test_a_list_of_referrers_leads_to_no_other_host():
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "registry.example.org"
        return httpx.Response(200, json={"manifests": []}, headers={"Link": '<https://elsewhere.example.org/v2/>; rel="next"'})

    with pytest.raises(OperationFailed, match="another host"):
        OciRegistry("registry.example.org", None, httpx.MockTransport(answer)).referrers("model", "sha256:" + "0" * 64)


class Guarded:
    """A registry that asks for a token, as the clouds' do, and gives one for the right password; it keeps nothing but a manifest."""

    data = canonical_json({"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": {}, "layers": []})

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            right = request.headers.get("Authorization") == httpx.BasicAuth("AWS", "secret")._auth_header
            return httpx.Response(200, json={"token": "t"}) if right else httpx.Response(401)
        if request.headers.get("Authorization") != "Bearer t":
            asks = 'Bearer realm="https://registry.example.org/token",service="registry.example.org"'
            return httpx.Response(401, headers={"WWW-Authenticate": asks})
        return httpx.Response(200, content=self.data, headers={"Content-Type": MANIFESTS[0]})


def guarded(login: Login | None) -> OciRegistry:
    return OciRegistry("registry.example.org", login, httpx.MockTransport(Guarded()))


def test_a_token_is_fetched_with_the_password_and_a_wrong_one_is_denied():
    assert guarded(Login("AWS", "secret")).manifest("model", "1")[0] == Guarded.data
    for login in (Login("AWS", "wrong"), None):
        with pytest.raises(Denied):
            guarded(login).manifest("model", "1")
    assert "secret" not in repr(Login("AWS", "secret"))


def test_a_password_goes_to_no_place_in_clear():
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://registry.example.org/token",service="x"'})

    with pytest.raises(Denied):
        OciRegistry("registry.example.org", Login("AWS", "secret"), httpx.MockTransport(answer)).manifest("model", "1")
    assert asked == ["https://registry.example.org/v2/model/manifests/1"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mediaType": "text/plain"}, IntegrityError),
        ({"layers": [{"digest": "sha256:1", "size": 1}]}, IntegrityError),
        ({"layers": [{"digest": "sha256:" + "0" * 64}]}, IntegrityError),
        ({"layers": [{"digest": "sha256:../../other/blobs/sha256:" + "0" * 64, "size": 1}]}, IntegrityError),
        ({"layers": "none"}, IntegrityError),
        ({"layers": [{"digest": "sha256:" + "0" * 64, "size": 1, "urls": ["https://elsewhere.example.org"]}]}, NotSupported),
    ],
)
def test_what_is_no_image_or_lies_elsewhere_is_refused(change: dict[str, Any], error: type[ConvoyError]):
    config = {"digest": "sha256:" + "0" * 64, "size": 0}
    data = canonical_json({"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": config, "layers": [], **change})

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=data, headers={"Content-Type": MANIFESTS[0]})

    registry = OciRegistry("registry.example.org", None, httpx.MockTransport(answer))
    with pytest.raises(error):
        copy_image(registry, registry, place(registry, "model"), place(registry, "other"))


@pytest.mark.parametrize(
    "text", ["", "model", "model:1", "library/model:1", "127.0.0.1:5000/model", "127.0.0.1:5000/Model:1", "a.b/c@sha256:1"]
)
def test_a_name_that_leaves_something_to_guess_is_refused(text: str):
    with pytest.raises(InputError):
        Place.parse(text)


def test_a_name_is_read_whole():
    digest = "sha256:" + "a" * 64
    assert Place.parse(f"docker://localhost:5000/team/model:2@{digest}") == Place("localhost:5000", "team/model", "2", digest)
    assert str(Place.parse("registry.example.org/model:2")) == "registry.example.org/model:2"


def test_logins_are_read_as_other_tools_write_them(tmp_path: Path):
    file = tmp_path / "logins.json"
    auths = {"registry.example.org": {"auth": base64.b64encode(b"AWS:to:ken").decode()}, "kept.example.org": {}}
    file.write_text(json.dumps({"auths": auths, "credHelpers": {"helped.example.org": "ecr-login"}}))
    assert login_for("registry.example.org", file) == Login("AWS", "to:ken")
    assert login_for("other.example.org", file) is None
    assert login_for("registry.example.org", None) is None
    for host in ("kept.example.org", "helped.example.org"):
        with pytest.raises(NotSupported, match="helper"):
            login_for(host, file)


@pytest.mark.parametrize("text", ["", "[]", '{"auths": {"a.b": {"auth": "%"}}}', '{"auths": []}', '{"auths": {"a.b": {"auth": 1}}}'])
def test_a_file_that_has_no_logins_is_told(text: str, tmp_path: Path):
    file = tmp_path / "logins.json"
    file.write_text(text)
    with pytest.raises(InputError, match="skopeo login"):
        login_for("a.b", file)
    with pytest.raises(InputError):
        login_for("a.b", tmp_path / "gone.json")
