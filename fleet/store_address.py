"""Where a region's store is that lies in a provider's object store: what `store` and `store_endpoint` in fleet.yaml may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

Scheme = Literal["s3", "az", "gs"]
_BUCKETS = {
    "s3": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "gs": re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]"),
    "az": re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}"),
}
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
FORMS = "s3://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX, gs://BUCKET/PREFIX (the prefix may be left out)"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A bucket (Azure: a container of an account), and the prefix below which all of ours lies."""

    scheme: Scheme
    bucket: str
    prefix: str = ""
    account: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Return the address that a text is; raises ValueError that says what is wrong, and never repeats a password."""
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in _BUCKETS:
            raise ValueError(
                "is none of s3://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX, gs://BUCKET/PREFIX (the prefix may be left out)"
            )
        if set(rest) & set("@?#"):
            raise ValueError("holds more than a bucket and a prefix; credentials stand in a file of their own, never in fleet.yaml")
        account = ""
        if scheme == "az":
            account, _, rest = rest.partition("/")
            if not _ACCOUNT.fullmatch(account):
                raise ValueError("names no account: az://ACCOUNT/CONTAINER/PREFIX, the account in 3 to 24 small letters and digits")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.removesuffix("/")
        if not _BUCKETS[scheme].fullmatch(bucket):
            raise ValueError(f"names no {'container' if scheme == 'az' else 'bucket'} as its provider allows them")
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ValueError("has a prefix that is not letters, digits, dots, dashes and underscores, in parts divided by slashes")
        found: Scheme = "s3" if scheme == "s3" else "az" if scheme == "az" else "gs"
        return cls(found, bucket, prefix, account)

    def __str__(self) -> str:
        return f"{self.scheme}://{'/'.join(part for part in (self.account, self.bucket, self.prefix) if part)}"


def checked_endpoint(text: str) -> str:
    """Return an endpoint, https or on this machine; raises ValueError that says what is wrong."""
    found = urlsplit(text)
    if found.scheme not in ("http", "https") or not found.hostname or found.username or found.password or found.query or found.fragment:
        raise ValueError("is no http(s)://HOST[:PORT] without credentials")
    if found.scheme == "http" and found.hostname not in LOOPBACK:
        raise ValueError("is not encrypted: http is taken on this machine alone")
    return text.rstrip("/")
