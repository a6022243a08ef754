"""What one local stack wrote down about itself: its id, its ports and its generated credentials."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import ConvoyError, InputError
from fleet.home import Home

HOST = "127.0.0.1"
PORTS_IN_A_BLOCK = 100
FIRST_REGION_PORT = 20
PORTS_PER_REGION = 20


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack of a home: `stack_id` marks its processes, `port_base` is the first of its hundred loopback ports."""

    stack_id: str
    port_base: int

    @property
    def control_url(self) -> str:
        """Convoy's HTTP API."""
        return f"http://{HOST}:{self.port_base}"

    @property
    def prefect_url(self) -> str:
        """Prefect's UI; its API lies below /api."""
        return f"http://{HOST}:{self.port_base + 1}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's UI and API."""
        return f"http://{HOST}:{self.port_base + 2}"

    @property
    def edge_url(self) -> str:
        """Where callers send their requests unless they choose: the first edge (`fleet/edges.py` has the others)."""
        return f"http://{HOST}:{self.port_base + 3}"

    def region_ports(self, position: int) -> range:
        """Return the ports of the region at a position of fleet.yaml; raises InputError past the block's end."""
        first = self.port_base + FIRST_REGION_PORT + position * PORTS_PER_REGION
        if first + PORTS_PER_REGION > self.port_base + PORTS_IN_A_BLOCK:
            raise InputError("fleet.yaml", "one local stack holds four local regions", "Move a region to another target or stack.")
        return range(first, first + PORTS_PER_REGION)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Generated secrets of one stack; never printed."""

    api_token: str = field(repr=False)
    edge_token: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    mlflow_webhook_key: str = field(repr=False)


def read_stack(home: Home) -> Stack:
    """Return the stack of a home; raises InputError where none was ever started."""
    document = _read(home.stack_file)
    return Stack(stack_id=document["stack_id"], port_base=int(document["port_base"]))


def read_credentials(home: Home) -> Credentials:
    """Return the generated credentials of a home; raises InputError where there are none."""
    return Credentials(**_read(home.credentials_file))


def _read(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(path), "there is no stack in this home", "Run `convoy up`, or set CONVOY_HOME.") from None
    except (OSError, ValueError) as problem:
        raise ConvoyError(
            str(path), f"cannot be read ({problem})", "Restore the file from a backup, or start in another home."
        ) from problem
    return dict(document)
