"""What a stack writes down once: its id, its ports, its generated secrets."""

from __future__ import annotations

import base64
import json
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from clouds.local.files import write_private
from fleet.errors import InputError
from fleet.home import Home
from fleet.operators import DEFAULT, Operators, new_token, read_operators
from fleet.stack import Credentials, Stack, read_credentials, read_stack

PLACE = "ledger-place"
NAMING = ("dbname", "host", "hostaddr", "port", "service")
"""What of a URL's query names the database."""


def recorded_stack(home: Home) -> Stack | None:
    """Return the stack of a home, None where none was ever started."""
    return read_stack(home) if home.stack_file.exists() else None


def record_stack(home: Home, port_base: int) -> Stack:
    """Write down a new stack and return it."""
    document = {"stack_id": str(uuid.uuid4()), "port_base": port_base, "created": datetime.now(UTC).isoformat()}
    write_private(home.stack_file, json.dumps(document, indent=2).encode())
    return read_stack(home)


def check_same_ledger(home: Home, url: str | None) -> None:
    """Raise InputError when a URL names another ledger than the one that a home has.

    Without the ledger that knows what was released, a stack would begin anew over what serves. A home that wrote down
    no place although it was started, or holds a ledger, has it in its own file.
    """
    named, file = place_of(url), home.root / PLACE
    started = home.stack_file.exists() or home.ledger_file.exists()
    recorded = file.read_text(encoding="utf-8").strip() if file.exists() else place_of(None) if started else named
    if recorded != named:
        raise InputError(
            "CONVOY_LEDGER_URL",
            f"names {named}, and the releases of this home stand in {recorded}",
            f"Set it as it was. If that ledger was moved with all its events, write '{named}' into {file}.",
        )


def record_ledger(home: Home, url: str | None) -> None:
    """Write down which ledger a home has, once that was reached; neither user nor password is written down."""
    write_private(home.root / PLACE, place_of(url).encode())


def place_of(url: str | None) -> str:
    """Return which database a ledger's URL names, without what is needed to enter it; raises InputError."""
    if url is None:
        return "the file in this home"
    from registry.database import Database

    found = Database(url).url
    query = {name: value for name, value in found.query.items() if name in NAMING}
    return found.set(username=None, password=None, query=query).render_as_string()


def ensure_credentials(home: Home) -> Credentials:
    """Return the credentials of a home, generated if there are none; only the owner may read the file."""
    if not home.credentials_file.exists():
        document = {
            "api_token": secrets.token_urlsafe(32),
            "edge_token": secrets.token_urlsafe(32),
            "webhook_secret": secrets.token_urlsafe(32),
            # What MLflow takes is a Fernet key: 32 bytes, base64 for URLs, padded
            "mlflow_webhook_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        write_private(home.credentials_file, json.dumps(document, indent=2).encode())
    home.credentials_file.chmod(0o600)
    return read_credentials(home)


def ensure_operators(home: Home) -> Operators:
    """Return the operators of a home, one of them generated if there are none; only the owner may read the file."""
    if not home.operators_file.exists():
        record_operators(home, {DEFAULT: new_token()})
    home.operators_file.chmod(0o600)
    return read_operators(home)


def record_operators(home: Home, tokens: Mapping[str, str]) -> None:
    """Write down who the operators are."""
    write_private(home.operators_file, json.dumps(dict(tokens), indent=2).encode())
