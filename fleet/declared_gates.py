"""What the gates of a model are told: the key `gates` of a model in fleet.yaml. Without it each does what it does by default."""

from __future__ import annotations

from fleet.declared_policy import PolicyFiles
from fleet.declaring import Declared


class Gates(Declared):
    """One key for each gate that can be told something."""

    policy: PolicyFiles | None = None
