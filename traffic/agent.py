"""The edge agent: `python -m traffic.agent`, one process per edge and the only writer of its Envoy's files."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Busy, ConvoyError, ExitCode, InputError
from traffic.envoy import LOOPBACK, EdgePorts

EXPIRE_SECONDS = 0.2
LOOK_SECONDS = 0.5
FOLD_SECONDS = 0.25
CHOOSE_SECONDS = 1.0
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How an agent is started; the token stands in a file, never in the arguments.

    `trusted_proxies` is how many proxies in front of the edge are believed about who called them.
    `region` is where the edge stands, which it prefers; None where one edge is for all regions.
    """

    edge: str
    folder: Path
    port: int
    ports: EdgePorts
    token_file: Path
    keep_raw_logs: bool = False
    trusted_proxies: int = 0
    region: str | None = None


def agent_command(options: AgentOptions) -> list[str]:
    """Return the command that runs an agent in the foreground."""
    return [
        *(sys.executable, "-m", "traffic.agent"),
        *("--edge", options.edge),
        *("--folder", str(options.folder)),
        *("--port", str(options.port)),
        *("--listener-port", str(options.ports.listener)),
        *("--admin-port", str(options.ports.admin)),
        *("--token-file", str(options.token_file)),
        *("--trusted-proxies", str(options.trusted_proxies)),
        *(["--region", options.region] if options.region else []),
        *(["--keep-raw-logs"] if options.keep_raw_logs else []),
    ]


def run(options: AgentOptions) -> ExitCode:
    """Serve until told to stop.

    Raises Busy when another agent has the folder, InputError for an unusable token, IntegrityError for a broken state.
    """
    import uvicorn

    from traffic.attempts.folder import Folder
    from traffic.chores import Chores
    from traffic.drill_key import drill_key
    from traffic.gateway import bootstrap
    from traffic.identity import EdgeIdentity
    from traffic.keeper import Keeper
    from traffic.placer import Placer
    from traffic.service import AgentService

    token = _token(options.token_file)
    options.folder.mkdir(parents=True, exist_ok=True)
    with _sole_writer(options.folder):
        bootstrap(options.folder, options.edge, options.ports, options.trusted_proxies)
        keeper = Keeper(EdgeIdentity(options.edge, options.region, drill_key(token)), options.folder, options.ports)
        folder = Folder(options.folder, options.edge, keeper.terms, options.keep_raw_logs, time.time, keeper.reopen_logs)
        placer = Placer(keeper, folder.timings, options.folder / "placement.json", options.region)
        application = AgentService(options.edge, token, keeper, folder).application()
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                host=LOOPBACK,
                port=options.port,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=2,
            )
        )
        placer.turn()
        keeper.start()
        chores = {keeper.expire: EXPIRE_SECONDS, keeper.look: LOOK_SECONDS, folder.turn: FOLD_SECONDS, placer.turn: CHOOSE_SECONDS}
        with closing(folder), Chores(chores, stop=lambda: setattr(server, "should_exit", True)) as running:
            server.run()
        return ExitCode.FAILED if running.failed else ExitCode.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent that the arguments describe; returns the process's exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        return run(_options(arguments))
    except ConvoyError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel releases however the process ends."""
    descriptor = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        raise Busy(f"edge folder {folder}", "another agent writes it", "Stop that one first; an edge has one agent.") from problem


def _token(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"token file {file}", "cannot be read", "Give a file that holds the edge's token.") from problem
    if len(token) < SHORTEST_TOKEN or not token.isascii():
        raise InputError(f"token file {file}", f"must hold at least {SHORTEST_TOKEN} ASCII characters")
    return token


def _options(arguments: Sequence[str] | None) -> AgentOptions:
    parser = argparse.ArgumentParser(prog="python -m traffic.agent", description="The agent of one edge.")
    parser.add_argument("--edge", required=True, help="the edge's id")
    parser.add_argument("--folder", required=True, type=Path, help="the edge's folder: state, Envoy's files, logs")
    parser.add_argument("--port", required=True, type=int, help="where the agent listens on loopback")
    parser.add_argument("--listener-port", required=True, type=int, help="where Envoy takes requests")
    parser.add_argument("--admin-port", required=True, type=int, help="Envoy's admin interface")
    parser.add_argument("--token-file", required=True, type=Path, help="file with the bearer token")
    parser.add_argument("--region", help="the region that the edge stands in and prefers; without it, it prefers none")
    parser.add_argument("--keep-raw-logs", action="store_true", help="keep the logs after they were counted")
    parser.add_argument("--trusted-proxies", type=int, default=0, help="how many proxies in front are believed about who called them")
    given = parser.parse_args(arguments)
    return AgentOptions(
        edge=given.edge,
        folder=given.folder.absolute(),
        port=given.port,
        ports=EdgePorts(given.listener_port, given.admin_port),
        token_file=given.token_file,
        keep_raw_logs=given.keep_raw_logs,
        trusted_proxies=given.trusted_proxies,
        region=given.region,
    )


if __name__ == "__main__":
    sys.exit(main())
