"""Opening a store: a folder, or an address of S3, Azure Blob Storage or Google Cloud Storage, with the provider's own credentials.

Nothing is asked before the first read or write, but whoever gives the credentials. Where the bytes go is declared and
never taken from the environment; obstore reads credentials there. An S3 upload carries the CRC-64/NVME of its bytes, which
the store checks before it keeps them; it is not signed over as well, since TLS is, and since all is read back and hashed.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from fleet.canonical import canonical_json, digest_of
from fleet.declared_store import StoreKind, StorePlace
from fleet.errors import ConvoyError, Denied, InputError, OperationFailed
from fleet.settings import STORE_VARIABLES, store_environment
from registry.events import stamp
from registry.store import ContentStore

if TYPE_CHECKING:
    from obstore.store import AzureCredentialProvider, ClientConfig, RetryConfig, S3CredentialProvider

# A part has 32 MiB, and all that is under way to a region together has no more: it gets there at 0.3 MiB/s and faster
TIMES: ClientConfig = {"connect_timeout": timedelta(seconds=2), "read_timeout": timedelta(seconds=60), "timeout": timedelta(seconds=120)}
# For a blink of the network; what takes longer is the caller's to try again
RETRIES: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}
DOCUMENT = "docs/stores.md"


def open_store(place: StorePlace | None, folder: Path) -> ContentStore:
    """Return the store at a place, the one in a folder where there is none.

    Raises Denied where no credentials can be had, InputError where they cannot be read, OperationFailed for a folder that
    cannot be used.
    """
    if place is None:
        return ContentStore.at(folder)
    try:
        return ContentStore(_OPENINGS[place.kind](place), place.name, _remedy(place.kind))
    except (ValueError, exceptions.BaseError) as problem:
        says = str(problem).partition("\n")[0]
        raise InputError(f"store {place.name}", f"cannot be opened ({says})", _remedy(place.kind)) from problem


def prove(store: ContentStore) -> None:
    """Write, list, read and delete a small blob of its own; raises as the store does. Killed in between, garbage collection deletes it."""
    data = b"convoy asks whether this store can be used: " + secrets.token_hex(16).encode()
    digest = digest_of(data)
    store.put_blob(digest, data)
    name = digest.removeprefix("sha256:")
    store.note("tombstones", name, canonical_json({"at": stamp(datetime.now(UTC)), "size": len(data)}))
    if name not in store.notes("tombstones"):
        raise OperationFailed(
            f"store {store.name}", "does not list what was just written", "Convoy needs a store whose listings are not late."
        )
    store.read_back(digest)
    store.delete_blob(digest)


def _s3(place: StorePlace) -> ObjectStore:
    suffix = "amazonaws.com.cn" if str(place.region).startswith("cn-") else "amazonaws.com"
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        # The one that outdoes all other places where an endpoint may be set
        aws_endpoint_url_s3=place.endpoint or f"https://s3.{place.region}.{suffix}",
        region=place.region or "",
        virtual_hosted_style_request=False,
        s3_express=False,
        skip_signature=False,
        unsigned_payload=True,
        conditional_put="etag",
        checksum_algorithm="CRC64NVME",
        # Not every S3-compatible store has it, and what is deleted is deleted one by one
        disable_bulk_delete=True,
        client_options=_client(place),
        retry_config=RETRIES,
        credential_provider=_aws_credentials(place),
    )


def _azure(place: StorePlace) -> ObjectStore:
    account = str(place.host).partition(".")[0]
    return AzureStore(
        place.bucket,
        prefix=place.prefix or None,
        account_name=account,
        endpoint=place.endpoint or f"https://{place.host}",
        use_emulator=False,
        use_fabric_endpoint=False,
        skip_signature=False,
        client_options=_client(place),
        retry_config=RETRIES,
        credential_provider=_azure_credentials(),
    )


def _google(place: StorePlace) -> ObjectStore:
    return GCSStore(
        place.bucket,
        prefix=place.prefix or None,
        base_url="https://storage.googleapis.com",
        skip_signature=False,
        client_options=_client(place),
        retry_config=RETRIES,
    )


_OPENINGS = {StoreKind.S3: _s3, StoreKind.AZURE: _azure, StoreKind.GOOGLE: _google}


def _client(place: StorePlace) -> ClientConfig:
    return {**TIMES, "allow_http": (place.endpoint or "").startswith("http://"), "allow_invalid_certificates": False}


def _aws_credentials(place: StorePlace) -> S3CredentialProvider | None:
    """Return the chain of Amazon's SDK: profiles, single sign-on, the machine's role; None where obstore reads the environment.

    Raises Denied where the chain has nothing.
    """
    given = store_environment((StoreKind.S3,))
    own = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    if any(name in given for name in own):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except Exception as problem:  # whatever the SDK raises, it has no credentials
        raise _without(place, problem) from problem


def _azure_credentials() -> AzureCredentialProvider | None:
    """Return the chain of Azure's SDK: a workload's or the machine's identity, `az login`; None where obstore reads the environment."""
    given = store_environment((StoreKind.AZURE,))
    own = (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
    )
    if any(name in given for name in own):
        return None
    try:
        from obstore.auth.azure import AzureCredentialProvider
    except ImportError:
        return None
    return AzureCredentialProvider()


def _without(place: StorePlace, problem: Exception) -> ConvoyError:
    return Denied(f"store {place.name}", f"no credentials were found ({type(problem).__name__})", _remedy(place.kind))


def _remedy(kind: StoreKind) -> str:
    first = ", ".join(STORE_VARIABLES[kind][:2])
    return f"Check its address, that it can be reached from here, and the credentials: {first} or another of {DOCUMENT}."
