"""What the gates of a model are told: the key `gates` of a model in fleet.yaml. Without it each does what it does by default."""

from __future__ import annotations

from fleet.declared_files import Files
from fleet.declared_golden import Golden
from fleet.declared_policy import PolicyFiles
from fleet.declared_service import Service
from fleet.declaring import Declared


class Gates(Declared):
    """One key for each gate that can be told something; `golden` and `service` apply only where they are declared."""

    files: Files = Files()
    golden: Golden | None = None
    policy: PolicyFiles | None = None
    service: Service | None = None
