"""How long a policy decision takes, beside the bare engine, and beside OPA itself where it can be had.

Every decision is about another document, so that nothing is remembered: a release, a Kubernetes manifest and a Terraform
file in turn. OPA is asked the same rules about the same documents in a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.form import Row, interleaved, measured, skipped
from policies.rego.bundle import Bundle, shipped_bundle, shipped_data
from policies.rego.decision import Policy, decide, load
from policies.rego.engine import add_data, parsed, set_input

DECISIONS, QUICK_DECISIONS = 3_000, 600
ROUNDS, QUICK_ROUNDS = 5, 3
TARGET_MS = 10.0
CASE = "a policy decision"
OURS, BARE, OPA = "Convoy", "the engine alone", "OPA 1.20 (opa-golib-python-bindings 0.4.4)"
PEER = "opa-golib-python-bindings==0.4.4"
OPA_SECONDS = 300
ASKS_OPA = """
import json, sys, time
from opa_bindings import OpaEngine
given = json.load(open(sys.argv[1]))
engine = OpaEngine()
for path, text in given["files"]:
    engine.add_policy(path, text)
engine.add_data(given["data"])
engine.eval_document("main.deny", given["documents"][0])
took, said = [], []
for document in given["documents"]:
    began = time.perf_counter()
    found = engine.eval_document("main.deny", document)
    engine.eval_document("main.warn", document)
    took.append((time.perf_counter() - began) * 1000)
    said.append(sorted(found))
json.dump({"took": took, "said": said}, sys.stdout)
"""


def rows(quick: bool) -> list[Row]:
    """Return p50 and p99 of a decision, of loading a policy, and how many decisions OPA gives otherwise."""
    count, rounds = (QUICK_DECISIONS, QUICK_ROUNDS) if quick else (DECISIONS, ROUNDS)
    documents = documents_of(count)
    policy = Policy.of(shipped_bundle(), shipped_data())
    found = interleaved({OURS: lambda: _ours(policy, documents), BARE: lambda: _bare(policy, documents)}, rounds)
    made = [row for subject, taken in found.items() for row in _row_pair(subject, taken)]
    loads = interleaved({OURS: lambda: _loading(policy)}, rounds)[OURS]
    return [*made, measured("reading and looking through the policy", OURS, loads, "ms"), *_opa(policy, documents, rounds)]


def documents_of(count: int) -> list[dict[str, Any]]:
    """Return so many documents, no two alike; a third of them is refused by several rules."""
    makers: tuple[Callable[[int], dict[str, Any]], ...] = (_release, _manifest, _terraform)
    return [makers[number % len(makers)](number) for number in range(count)]


def _release(number: int) -> dict[str, Any]:
    regions = {
        f"region-{place}": {
            "target": "local",
            "provider": "aws",
            "place": f"place-{place}",
            "jurisdiction": "IE",
            "prices": {"currency": "USD", "cpu_second": "0.000011", "memory_gib_second": "0.000001", "request": "0"},
        }
        for place in range(3)
    }
    model = {"owner": "people", "regions": list(regions), "forecast": {name: {"per_day": f"{number % 900}.09"} for name in regions}}
    return {"version": 1, "regions": regions, "models": {"churn": model}, "release": {"version": str(number), "actor": "pipeline"}}


def _manifest(number: int) -> dict[str, Any]:
    containers = [{"name": f"c{each}", "image": f"model:{number}", "env": [{"name": "MODE", "value": "fast"}]} for each in range(3)]
    metadata = {"name": f"churn-{number}", "labels": {"owner": "people"}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": {"containers": containers}}}}


def _terraform(number: int) -> dict[str, Any]:
    tags = {"owner": "people", "model": f"churn-{number}", "cost-centre": "4711"}
    volumes = {f"v{each}": [{"encrypted": True, "size": number, "tags": tags}] for each in range(10)}
    return {"provider": {"aws": [{"region": "eu-west-1"}]}, "resource": {"aws_ebs_volume": volumes}}


def _ours(policy: Policy, documents: Sequence[dict[str, Any]]) -> list[float]:
    load(policy)
    return [_timed(lambda document=document: decide(policy, document)) for document in documents]  # type: ignore[misc]


def _bare(policy: Policy, documents: Sequence[dict[str, Any]]) -> list[float]:
    """The same rules without digests, canonical bytes and checks."""
    engine = parsed(policy.bundle)
    add_data(engine, policy.data)

    def one(document: dict[str, Any]) -> None:
        set_input(engine, json.dumps(document))
        engine.eval_rule_as_json("data.main.deny")
        engine.eval_rule_as_json("data.main.warn")

    return [_timed(lambda document=document: one(document)) for document in documents]  # type: ignore[misc]


def _loading(policy: Policy) -> float:
    """Load a policy that was never seen before."""
    fresh = Policy.of(Bundle((*policy.bundle.files, ("fresh.rego", f"package fresh\n\nat := {time.perf_counter_ns()}\n"))), {})
    fresh = Policy(fresh.bundle, policy.data, policy.package, policy.data_digest)
    return _timed(lambda: load(fresh))


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _row_pair(subject: str, rounds: Sequence[Sequence[float]]) -> list[Row]:
    target = TARGET_MS if subject == OURS else None
    return [
        measured(f"{CASE}, p50", subject, [_part(taken, 0.50) for taken in rounds], "ms"),
        measured(f"{CASE}, p99", subject, [_part(taken, 0.99) for taken in rounds], "ms", target),
    ]


def _part(taken: Sequence[float], part: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(part * len(taken)))]


def _opa(policy: Policy, documents: Sequence[dict[str, Any]], rounds: int) -> list[Row]:
    """Ask OPA in an environment of its own; a row says so where it cannot be had."""
    names = (f"{CASE}, p50", f"{CASE}, p99", "decisions that OPA gives otherwise")
    with tempfile.TemporaryDirectory(prefix="convoy-opa-") as folder:
        try:
            answers = [_asked_opa(policy, documents, Path(folder)) for _ in range(rounds)]
        except (OSError, subprocess.SubprocessError, ValueError) as problem:
            why = f"OPA could not be asked ({type(problem).__name__})"
            return [skipped(name, OPA, "ms" if name.startswith(CASE) else "decisions", why) for name in names]
    said = [list(decide(policy, document).reasons) for document in documents]
    otherwise = [float(sum(ours != theirs for ours, theirs in zip(said, answer["said"], strict=True))) for answer in answers]
    return [*_row_pair(OPA, [answer["took"] for answer in answers]), measured(names[2], OPA, otherwise, "decisions", 0.0)]


def _asked_opa(policy: Policy, documents: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    packages = folder / "packages"
    if not packages.exists():
        # The wheel says that it needs a newer Python than the code in it does
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python", "--dest", str(folder), PEER]
        subprocess.run(pip, check=True, capture_output=True, timeout=OPA_SECONDS)
        shutil.unpack_archive(next(folder.glob("*.whl")), packages, "zip")
    given = folder / "given.json"
    given.write_text(json.dumps({"files": policy.bundle.files, "data": json.loads(policy.data), "documents": documents}))
    command = [sys.executable, "-c", ASKS_OPA, str(given)]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=OPA_SECONDS, cwd=packages)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found
