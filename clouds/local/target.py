"""The local target: each revision is a process of its own under supervisord, on a port of its region's range."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from clouds.local.contained import check_servable, is_laid
from clouds.local.files import exclusive, private_folder, write_private
from clouds.local.health import observe
from clouds.local.placements import (
    Placement,
    choose_port,
    forget_parity,
    is_free,
    manifest_file,
    placement_of,
    placements,
    program_name,
    revision_root,
)
from clouds.local.slices import check_slice
from clouds.local.supervisor import STOPPED_STATES, Supervisor
from clouds.serving import Capability, Deployment, Fetch, RevisionStatus, State, Support
from fleet.contained import root_of
from fleet.errors import IntegrityError, OperationFailed, UnknownName
from fleet.home import Home
from fleet.manifest import Manifest, manifest_named

LOCK_SECONDS = 120.0

CAPABILITIES = {
    Capability.SIDE_BY_SIDE: Support(True, "each revision has a process and a port of its own"),
    Capability.DIRECT_ENDPOINT: Support(True, "the edge reaches the process on loopback"),
    Capability.SELF_HEALING: Support(True, "supervisord starts a process again that ended"),
    Capability.BREAKABLE: Support(True, "a process can be killed and kept down by its supervisor"),
    Capability.GPU: Support(False, "local processes share one machine and nothing places them on its devices"),
}


class LocalTarget:
    """Runs the regions of one home; constructing it touches nothing.

    Acts in one region exclude each other across processes; regions are independent.
    """

    def __init__(self, home: Home, stack_id: str, ports: Mapping[str, range]) -> None:
        self.home = home
        self.stack_id = stack_id
        self.ports = ports
        self.supervisor = Supervisor.of(home)

    def deploy(self, deployment: Deployment, fetch: Fetch) -> None:
        """Unpack the revision from the region's store, verify it, and have one process serve it.

        A process that gave up is started again. Raises IntegrityError, with nothing started, for wrong bytes; NotSupported for
        a container of its own that this machine cannot keep apart, and for a slice of a GPU that it does not show.
        """
        with self._alone(deployment.region):
            self._unpack(deployment, fetch)
            check_servable(revision_root(self.home, deployment))
            check_slice(revision_root(self.home, deployment))
            self._serve(self._place(deployment))

    def status(self, model: str, region: str) -> tuple[RevisionStatus, ...]:
        """Return every revision of a model that was deployed to a region."""
        self._known(region)
        found = (each for each in placements(self.home.programs) if each.deployment.region == region and each.deployment.model == model)
        return tuple(observe(placement, self.supervisor) for placement in found)

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        """Return what the supervisor and the process itself say of one revision."""
        self._known(region)
        placement = placement_of(self.home.programs, Deployment(model, region, digest))
        if placement is None:
            return RevisionStatus(model, region, digest, State.ABSENT, reason="it was never deployed here, or is retired")
        return observe(placement, self.supervisor)

    def retire(self, region: str, model: str, digest: str) -> None:
        """Stop the revision's process, forget its program and delete its files; its log stays."""
        deployment = Deployment(model, region, digest)
        with self._alone(region):
            placement_of(self.home.programs, deployment)
            self.supervisor.remove(program_name(deployment))
            if not any(each.deployment.digest == digest and each.deployment.region == region for each in placements(self.home.programs)):
                _delete(revision_root(self.home, deployment))
                forget_parity(self.home)

    def break_(self, deployment: Deployment) -> None:
        """SIGKILL the revision's process and all its children; the supervisor keeps it down until it is told otherwise.

        The program's file stays as it is, so a supervisor that is itself started again starts the revision too.
        """
        with self._alone(deployment.region):
            if placement_of(self.home.programs, deployment) is None or not self.supervisor.kill(program_name(deployment)):
                raise OperationFailed(
                    f"region '{deployment.region}'", f"does not run {deployment.digest}, so nothing was broken", "See `convoy status`."
                )

    def mend(self, deployment: Deployment) -> None:
        """Start the revision's process again, on its port unless somebody else took that meanwhile."""
        with self._alone(deployment.region):
            if placement_of(self.home.programs, deployment) is None:
                raise UnknownName(f"region '{deployment.region}'", f"was never given {deployment.digest}", "Deploy it.")
            self._serve(self._place(deployment))

    def unpacked(self, region: str) -> tuple[tuple[Deployment, Path], ...]:
        """Return each revision that a region was given, with the folder that it serves from."""
        self._known(region)
        found = (each.deployment for each in placements(self.home.programs) if each.deployment.region == region)
        return tuple((deployment, revision_root(self.home, deployment)) for deployment in found)

    def capabilities(self) -> Mapping[Capability, Support]:
        """Return what local regions can do."""
        return CAPABILITIES

    def _known(self, region: str) -> None:
        if region not in self.ports:
            raise UnknownName(f"region '{region}'", f"is no local region (known: {', '.join(sorted(self.ports))})", "Correct fleet.yaml.")

    def _alone(self, region: str) -> AbstractContextManager[None]:
        self._known(region)
        return exclusive(self.home.region(region) / "deploying.lock", LOCK_SECONDS)

    def _unpack(self, deployment: Deployment, fetch: Fetch) -> None:
        """Have the revision's folder with its manifest beside it; files that are not the revision's are replaced."""
        root = revision_root(self.home, deployment)
        private_folder(self.home.parity)
        manifest = _manifest(root, deployment.digest)
        if manifest is None or manifest.digest != deployment.digest or not is_laid(root):
            if root_of(root).exists():
                # A container reads its files as it goes, and would find them gone
                self.supervisor.kill(program_name(deployment))
            _delete(root)
            private_folder(root.parent)
            fetch(deployment.digest, root)
            manifest = manifest_named(root, deployment.digest)
        if manifest.digest != deployment.digest:
            _delete(root)
            raise IntegrityError(
                f"region '{deployment.region}'",
                f"its store gave {manifest.digest} where {deployment.digest} was asked for",
                "Repair the region's store from the origin, then deploy again.",
            )
        write_private(manifest_file(root), manifest.to_bytes())

    def _serve(self, placement: Placement) -> None:
        """Have one process of the placement; one that was stopped or gave up is started again.

        One that a drill had frozen, and died before it killed it, goes on or ends first.
        """
        self.supervisor.thaw(placement.program_name)
        self.supervisor.add(placement.program(self.home, self.stack_id))
        if self.supervisor.state(placement.program_name) in STOPPED_STATES:
            self.supervisor.start(placement.program_name)

    def _place(self, deployment: Deployment) -> Placement:
        """Keep the port that the revision has, unless its process is gone and somebody else took it meanwhile."""
        before = placement_of(self.home.programs, deployment)
        if before is not None:
            process = self.supervisor.process(before.program_name)
            if (process is not None and process.pid is not None) or is_free(before.port):
                return before
        taken = [each.port for each in placements(self.home.programs)]
        return Placement(deployment, choose_port(deployment.region, self.ports[deployment.region], taken))


def _manifest(root: Path, digest: str) -> Manifest | None:
    """Return the manifest of an unpacked folder, None for one that is not there or holds links or special files."""
    try:
        return manifest_named(root, digest) if root.is_dir() else None
    except IntegrityError:
        return None


def _delete(root: Path) -> None:
    """Delete an unpacked revision and what lies beside it; its manifest first, so that none ever stands beside half a folder."""
    manifest_file(root).unlink(missing_ok=True)
    for folder in (root, root_of(root)):
        if folder.exists():
            shutil.rmtree(folder)
    for left in root.parent.glob(f".{root_of(root).name}-*"):
        # Of one that was killed while it laid the container's files
        shutil.rmtree(left)
    for file in root.parent.glob(f"{root.name}.*"):
        file.unlink(missing_ok=True)
