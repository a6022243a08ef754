"""What the gates of a model are told: the key `gates` of a model in fleet.yaml. Without it each does what it does by default."""

from __future__ import annotations

from fleet.declared_contract import ContractSets
from fleet.declared_files import Files
from fleet.declared_golden import Golden
from fleet.declared_policy import PolicyFiles
from fleet.declared_quality import Quality
from fleet.declared_rights import Dependencies, Licences, Privacy, WaiverKeys
from fleet.declared_robustness import Robustness
from fleet.declared_service import Service
from fleet.declared_signature import Signature
from fleet.declaring import Declared


class Gates(Declared):
    """One key for each gate that can be told something.

    `golden`, `quality`, `robustness`, `service` and `signature` apply only where they are declared. `contract` names further rows for the
    data contract. `reproducible` has every Bento built twice: two builds that differ fail the release. `waivers` says who
    may waive what `files`, `dependencies`, `licences` or `privacy` refuse, and where the waivers lie.
    """

    contract: ContractSets = ContractSets()
    dependencies: Dependencies | None = None
    files: Files = Files()
    golden: Golden | None = None
    licences: Licences | None = None
    policy: PolicyFiles | None = None
    privacy: Privacy = Privacy()
    quality: Quality | None = None
    reproducible: bool = False
    robustness: Robustness | None = None
    service: Service | None = None
    signature: Signature | None = None
    waivers: WaiverKeys | None = None

    def problem(self, metric: str | None, *, contract: bool) -> str:
        """Say what is missing for the gates in a model that is evaluated by a metric (None: it is not), and has a contract or not."""
        if not contract and self.contract.validation is not None:
            return "gates.contract names rows for the data contract: declare contract"
        if metric is None:
            asked = (("quality compares", self.quality), ("robustness disturbs", self.robustness))
            missing = [f"gates.{verb} the evaluation's rows: declare evaluation" for verb, section in asked if section is not None]
            return "; ".join(missing)
        if self.quality is not None and self.quality.calibration is not None and metric == "mean_absolute_error":
            return "gates.quality.calibration is about probabilities, and evaluation.metric is mean_absolute_error: declare one of them"
        return ""
