"""One OCI registry over its HTTP interface: manifests and blobs by digest, checked as they are read.

https://github.com/opencontainers/distribution-spec, spec.md; tokens as in https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

from fleet.canonical import digest_of
from fleet.errors import Busy, ConvoyError, Denied, InputError, IntegrityError, NotSupported, OperationFailed, UnknownName, Unreachable

SECONDS = 60.0
CHUNK = 1 << 20
MOST_MANIFEST = 8 << 20
MOST_PAGES = 100
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_PLACE = re.compile(
    r"(?P<host>[A-Za-z0-9.\[\]:-]+)/(?P<repository>[a-z0-9._/-]+)(:(?P<tag>\w[\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is, or shall be: a registry's host, a repository, and a tag or a digest or both."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST/REPOSITORY[:TAG][@DIGEST]`; raises InputError. A host is always named, and no tag is put in its place."""
        found = _PLACE.fullmatch(text.removeprefix("docker://"))
        if not found or not (found["tag"] or found["digest"]) or ("." not in found["host"] and ":" not in found["host"]):
            raise InputError(f"image '{text}'", "is not HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST", "Name all of it.")
        return cls(found["host"], found["repository"], found["tag"], found["digest"])

    @property
    def reference(self) -> str:
        """What its manifest is asked for by: the digest where it is known."""
        return self.digest or str(self.tag)

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


@dataclass(frozen=True, slots=True)
class Login:
    """Who one is to a registry; a cloud's registry takes a token as the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


class OciRegistry:
    """One registry; connects when first asked. Loopback is spoken to in clear, any other only by TLS.

    Raises Unreachable, Busy (throttled), Denied, UnknownName (no such repository, manifest or blob), OperationFailed.
    """

    def __init__(self, host: str, login: Login | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.host = host
        self._login = login
        self._transport = transport
        self._tokens: dict[str, str] = {}

    def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """Return a manifest's bytes, checked where it is asked for by digest, and its media type."""
        response = self._send("GET", f"/v2/{repository}/manifests/{reference}", repository, headers={"Accept": _ACCEPT})
        data = response.content
        if len(data) > MOST_MANIFEST:
            raise IntegrityError(f"{self.host}/{repository}@{reference}", f"has a manifest of {len(data)} bytes", "Look at it.")
        if reference.startswith("sha256:") and digest_of(data) != reference:
            raise IntegrityError(f"{self.host}/{repository}@{reference}", f"is {digest_of(data)}", "Look at the registry's storage.")
        return data, response.headers.get("Content-Type", "").partition(";")[0].strip()

    def has_manifest(self, repository: str, digest: str) -> bool:
        """Say whether a manifest is there."""
        return self._there(f"/v2/{repository}/manifests/{digest}", repository)

    def has_blob(self, repository: str, digest: str) -> bool:
        """Say whether a repository has a blob; its bytes are only checked by reading them."""
        return self._there(f"/v2/{repository}/blobs/{digest}", repository)

    def read_blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """Yield a blob's bytes; raises IntegrityError at the end when they were others."""
        running = hashlib.sha256()
        path = f"/v2/{repository}/blobs/{digest}"
        with self._streamed(path, repository) as response:
            for chunk in response.iter_bytes(CHUNK):
                running.update(chunk)
                yield chunk
        if f"sha256:{running.hexdigest()}" != digest:
            told = f"has other bytes (sha256:{running.hexdigest()})"
            raise IntegrityError(f"blob {digest} in {self.host}/{repository}", told, "Look at the registry's storage.")

    def mount(self, repository: str, digest: str, source: str) -> bool:
        """Have a blob of another repository of this registry in this one as well; False where the registry does not."""
        path = f"/v2/{repository}/blobs/uploads/"
        response = self._send("POST", path, repository, params={"mount": digest, "from": source}, also=source)
        return response.status_code == httpx.codes.CREATED

    def put_blob(self, repository: str, digest: str, size: int, chunks: Iterator[bytes]) -> None:
        """Upload a blob in one go; the registry refuses other bytes than the digest's."""
        begun = self._send("POST", f"/v2/{repository}/blobs/uploads/", repository)
        location = urljoin(str(begun.request.url), begun.headers.get("Location", ""))
        if urlsplit(location).hostname != urlsplit(self._base).hostname:
            raise OperationFailed(f"registry {self.host}", "sends an upload to another host", "Look at the registry's own address.")
        url = httpx.URL(location).copy_merge_params({"digest": digest})
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self._send("PUT", str(url), repository, headers=headers, content=chunks)

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> bool:
        """Upload a manifest under its digest or a tag; returns whether the registry lists it among the referrers of its subject."""
        path, headers = f"/v2/{repository}/manifests/{reference}", {"Content-Type": media_type}
        return "OCI-Subject" in self._send("PUT", path, repository, headers=headers, content=data).headers

    def referrers(self, repository: str, digest: str) -> list[Any]:
        """Return the descriptors of what refers to a manifest, nothing where nothing does: as the registry lists them, else by tag.

        https://github.com/opencontainers/distribution-spec, spec.md, "Listing Referrers" and "Unavailable Referrers API".
        """
        subject = f"{self.host}/{repository}@{digest}"
        try:
            return self._pages(f"/v2/{repository}/referrers/{digest}", repository, subject)
        except (UnknownName, NotSupported):
            try:
                return _listed(self.manifest(repository, referrers_tag(digest))[0], subject)
            except UnknownName:
                return []

    def _pages(self, path: str, repository: str, subject: str) -> list[Any]:
        """Return what a list names on all of its pages; raises OperationFailed for one that leads away or never ends."""
        found: list[Any] = []
        for _ in range(MOST_PAGES):
            response = self._send("GET", path, repository, headers={"Accept": INDEXES[0]})
            found += _listed(response.content, subject)
            following = response.links.get("next", {}).get("url")
            if following is None:
                return found
            path = urljoin(str(response.request.url), following)
            if urlsplit(path).netloc != urlsplit(self._base).netloc or urlsplit(path).scheme != urlsplit(self._base).scheme:
                raise OperationFailed(f"registry {self.host}", "sends a list to another host", "Look at the registry's own address.")
        raise OperationFailed(subject, f"has a list of referrers of more than {MOST_PAGES} pages", "Look at the registry.")

    @cached_property
    def _base(self) -> str:
        return f"{'http' if _is_loopback(self.host) else 'https'}://{self.host}"

    @cached_property
    def _client(self) -> httpx.Client:
        # What a proxy or a .netrc says in the environment is not a setting of ours
        return httpx.Client(base_url=self._base, timeout=SECONDS, trust_env=False, follow_redirects=True, transport=self._transport)

    def _there(self, path: str, repository: str) -> bool:
        try:
            self._send("HEAD", path, repository, headers={"Accept": _ACCEPT})
        except UnknownName:
            return False
        return True

    @contextmanager
    def _streamed(self, path: str, repository: str) -> Iterator[httpx.Response]:
        # Asked for before, so that what streams has the right to
        self._send("HEAD", path, repository)
        with self._translated(path), self._client.stream("GET", path, headers=self._authorization(repository)) as response:
            if response.is_error:
                response.read()
                raise self._in_our_terms(response, path)
            yield response

    def _send(self, method: str, path: str, repository: str, also: str | None = None, **request: Any) -> httpx.Response:
        """Send a request, and once more with what the registry asks for where it wants to know who asks."""
        headers = request.pop("headers", {})
        with self._translated(path):
            response = self._client.request(method, path, headers={**headers, **self._authorization(repository)}, **request)
            if response.status_code == httpx.codes.UNAUTHORIZED and self._authorize(response, repository, also):
                response = self._client.request(method, path, headers={**headers, **self._authorization(repository)}, **request)
        if not response.is_success:
            raise self._in_our_terms(response, path)
        return response

    def _authorization(self, repository: str) -> dict[str, str]:
        return {"Authorization": self._tokens[repository]} if repository in self._tokens else {}

    def _authorize(self, response: httpx.Response, repository: str, also: str | None) -> bool:
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        told = dict(_CHALLENGE.findall(rest))
        if kind.lower() == "basic" and self._login is not None:
            plain = f"{self._login.user}:{self._login.password}".encode()
            self._tokens[repository] = f"Basic {base64.b64encode(plain).decode()}"
            return True
        realm = told.get("realm", "")
        if kind.lower() != "bearer" or urlsplit(realm).scheme not in (("http", "https") if _is_loopback(self.host) else ("https",)):
            return False
        scopes = [f"repository:{repository}:pull,push", *([f"repository:{also}:pull"] if also else [])]
        login = (self._login.user, self._login.password) if self._login else None
        with httpx.Client(timeout=SECONDS, trust_env=False, transport=self._transport) as client:
            answered = client.get(realm, params={"service": told.get("service", ""), "scope": scopes}, auth=login)
        if not answered.is_success:
            raise Denied(f"registry {self.host}", f"gave no token ({answered.status_code})", "Check the credentials for it.")
        document = answered.json()
        self._tokens[repository] = f"Bearer {document.get('token') or document.get('access_token')}"
        return True

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as problem:
            told = f"did not answer {path} ({type(problem).__name__})"
            raise Unreachable(f"registry {self.host}", told, "Check that it runs, and the way there.") from problem

    def _in_our_terms(self, response: httpx.Response, path: str) -> ConvoyError:
        subject, status = f"registry {self.host}", response.status_code
        reason = f"answered {path} with {status}{_told(response)}"
        if status in (401, 403):
            return Denied(subject, reason, "Check the credentials for it.")
        if status == httpx.codes.NOT_FOUND:
            return UnknownName(subject, reason)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return Busy(subject, reason)
        if status in (405, 415):
            return NotSupported(subject, reason)
        return Unreachable(subject, reason) if status >= 500 else OperationFailed(subject, reason)


def referrers_tag(digest: str) -> str:
    """Return the tag under which an index lists what refers to a manifest, where the registry itself does not."""
    return digest.replace(":", "-")


def _listed(data: bytes, subject: str) -> list[Any]:
    """Return what an index names; raises IntegrityError where it is none."""
    try:
        return list(json.loads(data)["manifests"])
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise IntegrityError(subject, f"has a list of referrers that is none ({problem})", "Look at the registry's storage.") from problem


def _told(response: httpx.Response) -> str:
    try:
        errors = json.loads(response.content)["errors"]
        return ": " + "; ".join(str(each.get("message") or each.get("code")) for each in errors)[:200]
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        return ""


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
