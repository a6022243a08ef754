"""The same kills where releases really run: in a flow run of Prefect's runner, and of the runner itself."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import psutil

from clouds.local.supervisor import Supervisor
from flows.desires import release_stream, unfinished
from flows.effects import Effect, deploy
from proof.cases import REGIONS, Case
from proof.results import Progress
from proof.stage import TOLD_SECONDS
from proof.sweep import FLOW_RUN, IN_THE_RUNNER, Lane, Tried
from support.waiting import wait_until

AT = deploy(REGIONS[0])
START = """
from prefect.deployments import run_deployment
print(run_deployment("{deployment}", parameters={parameters!r}, job_variables={variables!r}, timeout=0, as_subflow=False).id)
"""
READ = """
from prefect import get_client
with get_client(sync_client=True) as client:
    print(client.read_flow_run("{run}").state.type.value)
"""


@dataclass
class RunnerLane(Lane):
    """A lane whose releases are told by deployments: `release` first, then `reconcile`."""

    def first(self, case: Case, effect: Effect) -> int:
        """Run the deployment until it is killed; returns the status of what was killed."""
        crash = {"env": {"CONVOY_CRASH_AT": f"acted {AT}"}} if case.point == FLOW_RUN else {}
        run = self._deployed("release/release", {"model": self.model}, crash)
        if case.point == FLOW_RUN:
            # The ledger is the truth, and here Prefect knows it too: the runner saw the process die
            wait_until(lambda: self._state(run) == "CRASHED", TOLD_SECONDS, 1, "Prefect says that the flow run crashed")
            return -signal.SIGKILL
        wait_until(lambda: self._intended(effect or AT), TOLD_SECONDS, 0.1, f"{AT} is intended")
        killed = Supervisor.of(self.stage.house.home).process("runner")
        assert killed is not None
        assert killed.pid is not None
        # With all that it started, as when a machine is lost: a flow run that outlived its runner would simply go on
        family = [*psutil.Process(killed.pid).children(recursive=True), psutil.Process(killed.pid)]
        for each in family:
            each.kill()
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive
        return -signal.SIGKILL

    def finish(self) -> int:
        """Let reconcile find the release; returns how often it was run."""
        self.stage.wait_for_lease(self.model)
        self._deployed("reconcile/reconcile", {}, {})
        wait_until(lambda: not unfinished(self.stage.house.ledger, self.model), TOLD_SECONDS, 0.3, f"{self.model} has ended")
        self.stage.wait_for_lease(self.model)
        return 1

    def _intended(self, effect: Effect) -> bool:
        release = unfinished(self.stage.house.ledger, self.model)[0].release
        events = self.stage.house.ledger.stream(release_stream(release))
        return any(event.type == "effect.intended" and event.effect_key == effect for event in events)

    def _deployed(self, deployment: str, parameters: dict[str, str], variables: dict[str, dict[str, str]]) -> str:
        return self._asked(START.format(deployment=deployment, parameters=parameters, variables=variables))

    def _state(self, run: str) -> str:
        return self._asked(READ.format(run=run))

    def _asked(self, program: str) -> str:
        done = self.stage.stack.python(program)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]


def in_the_runner(lane: RunnerLane, done: Progress[Tried]) -> list[Tried]:
    """Try the runner's cases on a model that is up, once the runner is at work again."""
    Supervisor.of(lane.stage.house.home).start("runner")
    tried = []
    for case in IN_THE_RUNNER:
        tried.append(lane.run(case))
        done.step(tried[-1], str(case), tried[-1].right)
    return tried
