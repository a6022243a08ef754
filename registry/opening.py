"""Opening stores by their addresses: Amazon S3 and what speaks its protocol, Azure Blob Storage, Google Cloud Storage.

All go through obstore, with bounded waiting. Credentials are those of the region's own file, or else those that the provider's
machine or environment gives; they appear in no name and in no message.
"""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from fleet.errors import InputError
from registry.store import ContentStore

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from fleet.store_address import Scheme, StoreAddress

KEYS: dict[Scheme, tuple[str, ...]] = {
    "s3": ("access_key_id", "secret_access_key", "session_token"),
    "az": ("account_key", "sas_key", "tenant_id", "client_id", "client_secret"),
    "gs": ("service_account_key",),
}
"""What a credentials file may hold, by the names that the providers give them."""
WAITING: ClientConfig = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=60)}
RETRYING: RetryConfig = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


def open_store(address: StoreAddress, place: str, endpoint: str | None = None, credentials: Path | None = None) -> ContentStore:
    """Return the store at an address in a provider's region; nothing is asked of it yet.

    Raises InputError for a credentials file that others may read or that holds anything else than its provider's keys.
    """
    keys = _keys(credentials, address.scheme)
    try:
        return ContentStore(_store(address, place, endpoint, keys), str(address))
    except BaseError as problem:
        # Its text could repeat a key
        told = f"cannot be opened with what its credentials file or this environment gives ({type(problem).__name__})"
        raise InputError(f"store {address}", told, "Check the file, and the provider's variables.") from None


def _store(address: StoreAddress, place: str, endpoint: str | None, keys: dict[str, Any]) -> ObjectStore:
    more: dict[str, Any] = {"client_options": WAITING | {"allow_http": bool(endpoint and endpoint.startswith("http://"))}}
    more |= {"retry_config": RETRYING, "prefix": address.prefix or None} | keys
    match address.scheme:
        case "s3":
            # Behind an endpoint of one's own a bucket is no host name; what is sent is held against its checksum there
            style: dict[str, Any] = {"endpoint": endpoint, "virtual_hosted_style_request": False} if endpoint else {}
            return S3Store(address.bucket, region=place, checksum_algorithm="CRC64NVME", unsigned_payload=True, **style, **more)
        case "az":
            style = {"endpoint": f"{endpoint}/{address.account}"} if endpoint else {}
            return AzureStore(address.bucket, account_name=address.account, **style, **more)
        case "gs":
            return GCSStore(address.bucket, **more)


def _keys(file: Path | None, scheme: Scheme) -> dict[str, str]:
    if file is None or not file.exists():
        return {}
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise InputError(f"credentials {file}", "may be read by others", f"chmod 600 {file}")
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as problem:
        raise InputError(f"credentials {file}", f"cannot be read ({type(problem).__name__})", "It is a JSON object of texts.") from None
    known = KEYS[scheme]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()) or set(found) - set(known):
        raise InputError(f"credentials {file}", "is no JSON object of texts under the keys of its store", f"Known: {', '.join(known)}.")
    return found
