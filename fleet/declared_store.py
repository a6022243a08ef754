"""Where a store lies: `store` of a region in fleet.yaml, or CONVOY_ORIGIN_STORE. No credentials: the environment has those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from fleet.errors import InputError

if TYPE_CHECKING:
    from fleet.settings import Settings

AZURE_FORM = "https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX"
FORMS = f"s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or {AZURE_FORM}"
_AZURE_HOST = re.compile(
    r"[a-z0-9]{3,24}(\.z[0-9]{1,2})?\.blob\.(core\.windows\.net|core\.usgovcloudapi\.net|core\.chinacloudapi\.cn|storage\.azure\.net)"
)
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_S3_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}")
_ANY_REGION = re.compile(r"[a-z0-9-]{1,40}")
COMPATIBLE_REGION = "us-east-1"
"""What S3-compatible stores are told that have no regions."""


class StoreKind(StrEnum):
    """Whose store it is, by the interface that it speaks."""

    S3 = "s3"
    AZURE = "azure"
    GOOGLE = "google"


_BUCKETS = {
    StoreKind.S3: re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    StoreKind.AZURE: re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}"),
    StoreKind.GOOGLE: re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]"),
}


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A bucket (Azure: container), the prefix below which all lies, the endpoint where one is declared, S3's region, Azure's host."""

    kind: StoreKind
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    host: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        scheme = {StoreKind.S3: "s3:/", StoreKind.GOOGLE: "gs:/", StoreKind.AZURE: f"https://{self.host}"}[self.kind]
        told = "/".join(part for part in (scheme, self.bucket, self.prefix) if part)
        return f"{told} at {self.endpoint}" if self.endpoint else told

    def overlaps(self, other: StorePlace) -> bool:
        """Whether one of the two lies in the other."""
        if (self.kind, self.bucket, self.endpoint, self.host) != (other.kind, other.bucket, other.endpoint, other.host):
            return False
        mine, others = f"{self.prefix}/".lstrip("/"), f"{other.prefix}/".lstrip("/")
        return mine.startswith(others) or others.startswith(mine)


def place_of(address: str, endpoint: str | None = None, region: str | None = None, place: str = "") -> StorePlace:
    """Return what an address says; `place` is where its region lies, which S3 is told where no `region` is declared.

    Raises ValueError in words for people, without the address itself: somebody may have put a secret into it.
    """
    parts = _split(address, "store")
    kind = _kind(parts)
    bucket, *segments = _bucket_and_prefix(kind, parts)
    if not _BUCKETS[kind].fullmatch(bucket):
        raise ValueError(f"store names no {'container' if kind is StoreKind.AZURE else 'bucket'} that there can be: write {FORMS}")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise ValueError("store has a prefix of other than letters, digits, dots, dashes and underscores between its slashes")
    host = parts.netloc if kind is StoreKind.AZURE else None
    found = _endpoint(kind, endpoint)
    return StorePlace(kind, bucket, "/".join(segments), found, _region(kind, found, region, place), host)


def origin_place(settings: Settings) -> StorePlace | None:
    """Return where the settings say that the origin store lies, None for the folder in the home; raises InputError."""
    address, endpoint, region = settings.origin_store, settings.origin_store_endpoint, settings.origin_store_region
    if address is None:
        if endpoint or region:
            raise InputError("CONVOY_ORIGIN_STORE", "is not set, and its endpoint or region is", "Set it, or unset those.")
        return None
    try:
        return place_of(address, endpoint, region)
    except ValueError as problem:
        # The address itself may hold a secret, and so may what it was raised from
        raise InputError("CONVOY_ORIGIN_STORE", str(problem), "Correct the variable.") from None


def _split(address: str, key: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        taken = parts.username is not None or parts.password is not None
        port = parts.port
    except ValueError:
        raise ValueError(f"{key} is no address: write {FORMS}") from None
    if taken or "@" in parts.netloc:
        raise ValueError(f"{key} holds credentials: take them out and have them in the environment (docs/stores.md)")
    if parts.query or parts.fragment or address.endswith(("?", "#")):
        raise ValueError(f"{key} holds a query: a shared access signature belongs into the environment (docs/stores.md)")
    if key == "store" and port is not None:
        raise ValueError("store names a port: declare it in store_endpoint")
    return parts


def _kind(parts: SplitResult) -> StoreKind:
    match parts.scheme:
        case "s3":
            return StoreKind.S3
        case "gs":
            return StoreKind.GOOGLE
        case "https" if _AZURE_HOST.fullmatch(parts.netloc):
            return StoreKind.AZURE
        case "az" | "azure" | "abfs" | "abfss" | "adl" | "wasb" | "wasbs" | "http" | "https":
            raise ValueError(f"store must name the account of an Azure container: write {AZURE_FORM}")
        case scheme:
            told = f"is no {scheme} address" if scheme else "is no address of a bucket"
            raise ValueError(f"store {told}: write {FORMS}, or leave it out for a folder in the home")


def _bucket_and_prefix(kind: StoreKind, parts: SplitResult) -> list[str]:
    path = parts.path.removeprefix("/").removesuffix("/")
    segments = path.split("/") if path else []
    return (segments or [""]) if kind is StoreKind.AZURE else [parts.netloc, *segments]


def _endpoint(kind: StoreKind, endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    if kind is StoreKind.GOOGLE:
        raise ValueError("store_endpoint is for stores that speak S3's or Azure's interface: Google's has one address")
    parts = _split(endpoint, "store_endpoint")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("store_endpoint must begin with https:// and a host")
    if parts.scheme == "http" and not _loopback(parts.hostname):
        raise ValueError("store_endpoint is plain http, which anybody on the way can read and change: write https://")
    path = parts.path.removesuffix("/")
    # Azure's emulator has its account there
    if path and (kind is not StoreKind.AZURE or not _SEGMENT.fullmatch(path.removeprefix("/"))):
        raise ValueError("store_endpoint has a path: the bucket and the prefix belong into store")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _region(kind: StoreKind, endpoint: str | None, region: str | None, place: str) -> str | None:
    if kind is not StoreKind.S3:
        if region is not None:
            raise ValueError("store_region is for S3: no other store is asked by region")
        return None
    if region is not None:
        if not _ANY_REGION.fullmatch(region):
            raise ValueError("store_region must be small letters, digits and dashes, such as eu-central-1")
        return region
    if endpoint is not None:
        return COMPATIBLE_REGION
    if not _S3_REGION.fullmatch(place):
        raise ValueError(f"store_region is missing: {f'{place!r} is no region of S3' if place else 'S3 is asked by region'}")
    return place


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
