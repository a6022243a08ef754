"""What the gates of a model are told: the key `gates` of a model in fleet.yaml. Without it each does what it does by default."""

from __future__ import annotations

from fleet.declared_files import Files
from fleet.declared_golden import Golden
from fleet.declared_policy import PolicyFiles
from fleet.declared_rights import Dependencies, Licences, Privacy, WaiverKeys
from fleet.declared_service import Service
from fleet.declaring import Declared


class Gates(Declared):
    """One key for each gate that can be told something; `golden` and `service` apply only where they are declared.

    `reproducible` has every Bento built twice: two builds that differ fail the release. `waivers` says who may waive what
    `files`, `dependencies`, `licences` or `privacy` refuse, and where the waivers lie.
    """

    dependencies: Dependencies | None = None
    files: Files = Files()
    golden: Golden | None = None
    licences: Licences | None = None
    policy: PolicyFiles | None = None
    privacy: Privacy = Privacy()
    reproducible: bool = False
    service: Service | None = None
    waivers: WaiverKeys | None = None
