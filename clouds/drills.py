"""The seam between a failover drill and a target: what breaks a revision on purpose and puts it back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from clouds.serving import Capability, Deployment, ServingTarget
from fleet.errors import NotSupported


@runtime_checkable
class Breakable(Protocol):
    """A target whose revisions can be broken for a drill. Both verbs may be repeated; `status_of` shows their effect."""

    def break_(self, deployment: Deployment) -> None:
        """Kill what serves the revision, without a warning, and keep it down; returns once it is gone.

        Nothing written is changed, so that a restart of the target itself brings the revision back. Raises
        OperationFailed when the revision does not run.
        """

    def mend(self, deployment: Deployment) -> None:
        """Put the revision back as it was and start it; returns before it is ready. One that runs is left alone.

        Raises UnknownName for a revision that was never deployed there, or is retired.
        """


def breakable(target: ServingTarget, region: str) -> Breakable:
    """Return what breaks and mends a region's revisions; raises NotSupported with the target's own reason."""
    support = target.capabilities()[Capability.BREAKABLE]
    if not support.supported or not isinstance(target, Breakable):
        raise NotSupported(f"region '{region}'", f"cannot be broken for a drill: {support.reason}", "Drill a region on another target.")
    return target
