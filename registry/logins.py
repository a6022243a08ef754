"""Who one is to OCI registries, read from the file that `docker login`, `skopeo login` and `oras login` write."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from fleet.errors import InputError, NotSupported
from registry.oci import Login


def login_for(host: str, file: Path | None) -> Login | None:
    """Return the login of a host, None where the file has none or there is no file.

    Raises InputError for a file that cannot be read, NotSupported where it leaves a password to a helper program.
    """
    if file is None:
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        helper = document.get("credHelpers", {}).get(host)
        found = document.get("auths", {}).get(host)
        encoded = found.get("auth") if found is not None else None
        plain = base64.b64decode(encoded, validate=True).decode() if encoded else ""
    except (OSError, ValueError, AttributeError, TypeError) as problem:
        told = f"is no file of logins for registries ({type(problem).__name__})"
        raise InputError(str(file), told, f"Write one with `skopeo login --authfile {file} {host}`.") from problem
    if helper or (found is not None and not encoded):
        told = "has its password in a helper program, which Convoy does not run"
        raise NotSupported(f"registry {host} in {file}", told, "Write it into a file with `skopeo login --authfile`.")
    user, _, password = plain.partition(":")
    return Login(user, password) if plain else None
