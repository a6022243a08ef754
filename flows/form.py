"""What was typed into a form of Prefect's UI: kept by Prefect in clear, whatever its type says, so only a pass is taken."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from pydantic import SecretStr

from fleet.errors import Refused
from fleet.operators import is_pass, read_operators
from flows.house import House
from flows.showing import if_prefect_answers

GONE = "not kept"
SECONDS = 10.0


def pass_of(house: House, typed: SecretStr) -> str:
    """Return the pass that was typed; raises Refused for anything else, loudly where it was somebody's own token."""
    text = typed.get_secret_value().strip()
    if is_pass(text):
        return text
    owner = read_operators(house.home).name_of(text)
    if owner is None:
        raise Refused("the token", "is no pass", "Make one with `convoy operator pass MODEL COMMAND` and paste it.")
    get_run_logger().error("the own token of operator '%s' was typed into a form, and stands in Prefect's database now", owner)
    remedy = f"Make {owner} a new one now: `convoy operator add {owner} --again`. Here paste `convoy operator pass MODEL COMMAND`."
    raise Refused("the token", f"is operator {owner}'s own one, which Prefect has stored in clear", remedy)


def forget_parameters(*names: str) -> None:
    """Have Prefect show no more what was typed for some parameters; what it has written already may stay in its files."""
    if not flow_run.id:
        return
    kept = {**flow_run.parameters, **dict.fromkeys(names, GONE)}

    def forget() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, parameters=kept)

    if_prefect_answers("what was typed could not be taken out of Prefect", forget, SECONDS)
