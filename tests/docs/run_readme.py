"""Runs the README's everyday commands as they stand there, on the stack that `make demo` left; CI does so after the demo.

A version that serves already cannot be released again, so what the demo promoted is rolled back first. Requests come in
meanwhile, without which a canary has no evidence.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.home import Home
from fleet.stack import read_stack

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".convoy" / "demo"
WATCHED_SECONDS = 6.0
RATE = "60"


def everyday_commands() -> list[list[str]]:
    """Return the commands of the README, each as its words."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(".venv/bin/convoy ")]


def run(words: list[str], folder: Path) -> int:
    """Run one command and return its exit code; one that watches is interrupted after some seconds, as by Ctrl-C."""
    process = subprocess.Popen([str(ROOT / words[0]), *words[1:]], cwd=folder, env=os.environ | {"CONVOY_HOME": str(HOME)})
    if "--watch" in words:
        try:
            return process.wait(WATCHED_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    return process.wait(600)


@contextmanager
def requests(folder: Path) -> Iterator[None]:
    """Send the demo's requests while the block runs."""
    url = f"{read_stack(Home(HOME)).edge_url}/v2/models/employment/infer"
    options = ["--url", url, "--rate", RATE, "--bodies", str(HOME / "demo" / "requests.jsonl"), "--log", str(folder / "client.jsonl")]
    process = subprocess.Popen([sys.executable, "-m", "traffic.load", *options], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run them all; returns how many ended otherwise than with 0."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="convoy-readme-") as name:
        folder = Path(name)
        # The README is read where the repository is; what its commands write goes elsewhere
        (folder / "examples").symlink_to(ROOT / "examples")
        with (HOME / "demo" / "requests.jsonl").open(encoding="utf-8") as lines:
            (folder / "rows.json").write_text(next(lines), encoding="utf-8")
        wanted = [[".venv/bin/convoy", "rollback", "employment", "--wait"], *everyday_commands()]
        for words in wanted:
            tell(f"$ {shlex.join(words)}")
            began = time.monotonic()
            if "release" in words:
                with requests(folder):
                    code = run(words, folder)
            else:
                code = run(words, folder)
            tell(f"  exit {code} after {time.monotonic() - began:.1f} s")
            failed += [shlex.join(words)] if code else []
    for each in failed:
        tell(f"did not end with 0: {each}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
