"""The one settings root: what is set from outside, by environment variables that start with CONVOY_."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.errors import InputError

PREFIX = "CONVOY_"
STACK_MARK = "CONVOY_STACK_ID"
"""Set by the local stack on every process it starts, so that none is ever left behind."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What says to CUDA which devices a process may use."""
PROJECT = "CONVOY_PROJECT"
"""Set by the local stack for Prefect, which finds the flows below it (prefect.yaml)."""

NO_TELEMETRY = {
    # MLflow takes no other word than "true"
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
"""What keeps every library from calling home; in the environment of all that Convoy starts."""


STORE_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "s3": (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
        *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        *("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_BUCKET_KEY_ENABLED"),
    ),
    "azure": (
        *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
        *("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"),
    ),
    "google": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
}
"""Where the environment has credentials of stores, by the kind of store; the order is the one in which they are told."""


OTHERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
"""What the user's shell may say to Prefect's and MLflow's own commands; Convoy's processes never inherit it."""


class EdgeLayout(StrEnum):
    """How many edges a local stack has."""

    ONE = "one"
    PER_REGION = "per-region"


class Settings(BaseSettings):
    """Everything that may differ between two installations; each field's variable is CONVOY_ and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    home: Annotated[Path, Field(description="Folder of the local stack: ledger, stores, logs, credentials.")] = Path.home() / ".convoy"
    fleet: Annotated[Path | None, Field(description="The fleet file; without it, fleet.yaml in the home.")] = None
    advisories: Annotated[
        Path | None,
        Field(description="Advisories in OSV form: a JSON or JSON-lines file, a folder of such files, or a zip or tar.gz of them."),
    ] = None
    trusted_hosts: Annotated[
        str,
        Field(description="Hosts and networks that may be fetched from although their addresses are not public, separated by commas."),
    ] = ""
    origin_store: Annotated[
        str | None, Field(description="Address of the store that revisions are packaged into; without it, a folder in the home.")
    ] = None
    origin_store_endpoint: Annotated[str | None, Field(description="Where an S3-compatible origin store is reached.")] = None
    origin_store_region: Annotated[str | None, Field(description="The region that S3 is asked in for the origin store.")] = None
    # It may hold a password
    ledger_url: Annotated[
        str | None, Field(repr=False, description="SQLAlchemy URL of the ledger (SQLite or PostgreSQL); without it, SQLite in the home.")
    ] = None
    port_base: Annotated[
        int | None,
        Field(ge=1024, le=65000, description="First of the 100 ports of the local stack; without it, the first free block from 7400."),
    ] = None
    edges: Annotated[
        EdgeLayout | None,
        Field(
            description="The local stack's edges: 'one' for all regions, or 'per-region', one in each that prefers it;"
            " without it, as the stack has them, and a new stack has one."
        ),
    ] = None
    work_pool: Annotated[str, Field(description="The Prefect work pool that runs the flows.")] = "convoy"
    lease_seconds: Annotated[float, Field(gt=1, description="How long a release's claim on its model outlives its controller.")] = 15.0
    table_seconds: Annotated[float, Field(gt=2, description="How long a routing table holds before the edge takes its safe weights.")] = (
        20.0
    )
    anchor_events: Annotated[
        int, Field(ge=1, le=100_000, description="After how many new events the ledger's Merkle root is signed and copied to every region.")
    ] = 100
    scrub_days: Annotated[
        float, Field(gt=0, le=365, description="After how many days a stored blob is read again and held against its digest.")
    ] = 7.0
    scrub_bytes_per_second: Annotated[
        int, Field(ge=0, description="How fast a store is read while it is scrubbed, in bytes a second; 0 is without bound.")
    ] = 50 << 20
    keep_revisions: Annotated[
        int, Field(ge=2, le=1000, description="How many revisions of a model that were stable stay stored, with the one that serves.")
    ] = 3
    garbage_days: Annotated[
        float,
        Field(
            gt=0, le=365, description="How old a blob that nothing needs must be to get a tombstone, and how old that before it is deleted."
        ),
    ] = 7.0
    tick_seconds: Annotated[float, Field(gt=0, description="How often a canary is looked at.")] = 2.0
    unlike_seconds: Annotated[
        float, Field(gt=0, description="How long the share that is seen may differ from the one asked for until that is an incident.")
    ] = 60.0
    deploy_seconds: Annotated[float, Field(gt=1, description="How long a region may take to become ready with a revision.")] = 120.0
    gate_seconds: Annotated[float, Field(gt=1, description="How long a model may run inside a gate before it is stopped.")] = 120.0
    keep_raw_logs: Annotated[bool, Field(description="Keep the edges' raw request logs instead of deleting what has been counted.")] = False
    trusted_proxies: Annotated[
        int, Field(ge=0, le=10, description="Proxies in front of the edges that are believed about who called them (X-Forwarded-For).")
    ] = 0
    crash_at: Annotated[
        str | None, Field(description="For rehearsals: kill the controller at 'POINT EFFECT', POINT being before, between, acted or after.")
    ] = None


def settings() -> Settings:
    """Return the settings of this process; raises InputError for an unknown or wrong variable."""
    return _settings(tuple(sorted((name, value) for name, value in os.environ.items() if name.upper().startswith(PREFIX))))


@cache
def _settings(variables: tuple[tuple[str, str], ...]) -> Settings:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {STACK_MARK, PROJECT}
    unknown = [name for name, _ in variables if name.upper() not in known]
    if unknown:
        raise InputError(", ".join(unknown), "no such setting", f"Known: {', '.join(sorted(known - {STACK_MARK, PROJECT}))}.")
    try:
        return Settings()
    except ValidationError as problem:
        found = "; ".join(f"{PREFIX}{str(error['loc'][0]).upper()}: {error['msg']}" for error in problem.errors())
        raise InputError("settings", found, "Correct or unset the variable.") from problem


def inherited_environment() -> dict[str, str]:
    """Return what a child process may inherit: where things are, how text is encoded and which GPUs are shown, never a credential."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", VISIBLE)
    return {name: os.environ[name] for name in kept if name in os.environ}


def visible_slice() -> str:
    """Return the slice of a GPU (MIG) that CUDA is shown here, nothing where it is shown none."""
    shown = os.environ.get(VISIBLE, "")
    return shown if shown.startswith("MIG-") else ""


def store_environment(kinds: Iterable[str]) -> dict[str, str]:
    """Return what the environment has for stores of some kinds: credentials, to be handed to what opens such stores and nobody else."""
    return {name: os.environ[name] for kind in kinds for name in STORE_VARIABLES[kind] if os.environ.get(name)}


def installer_environment() -> dict[str, str]:
    """Return what uv may inherit besides: how this machine's user has set it and the way to its packages."""
    ways = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NETRC")
    kept = {name: value for name, value in os.environ.items() if name.startswith("UV_") or name.upper() in ways}
    return inherited_environment() | kept


def shell() -> dict[str, str]:
    """Return where the user's shell leads Prefect's and MLflow's own commands; only to be shown, never to be followed."""
    return {name: os.environ[name] for name in OTHERS if name in os.environ}


def silence_telemetry() -> None:
    """Keep the libraries of this process from calling home; to be called before any of them is imported."""
    os.environ.update(NO_TELEMETRY)
