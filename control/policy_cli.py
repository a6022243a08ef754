"""The commands `convoy policy ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control.options import AsJson, leave

policy_app = typer.Typer(help="Ask and test the policies (Rego).", no_args_is_help=True)

PolicyFolder = Annotated[Path | None, typer.Option("--policy", help="A folder of one's own Rego files; Convoy's are asked besides.")]
PolicyData = Annotated[
    Path | None, typer.Option("--data", help="What the rules go by (YAML, JSON); a key that it has replaces the shipped one whole.")
]
PolicySeconds = Annotated[float, typer.Option("--seconds", min=1, max=600, help="How long one's own policy may take.")]


@policy_app.command("check")
def policy_check(
    files: Annotated[
        list[Path], typer.Argument(help="fleet.yaml, Kubernetes manifests (YAML, JSON), Terraform (*.tf).", metavar="FILE...")
    ],
    policy: PolicyFolder = None,
    package: Annotated[str, typer.Option("--package", help="The package of --policy that is asked.")] = "main",
    data: PolicyData = None,
    seconds: PolicySeconds = 30.0,
    as_json: AsJson = False,
) -> None:
    """Ask Convoy's policies, and one's own beside them, about files before they leave Git; exit 3 when one is refused."""
    from control.policy_commands import Asking, check_files

    leave(check_files(files, Asking(policy, package, data, seconds), as_json))


@policy_app.command("test")
def policy_test(
    path: Annotated[Path | None, typer.Argument(help="A folder of Rego files with *_test.rego; if absent, Convoy's own policies.")] = None,
    data: PolicyData = None,
    seconds: PolicySeconds = 30.0,
    as_json: AsJson = False,
) -> None:
    """Run the tests of policies and say which lines of the rules they reached; exit 5 when one does not hold."""
    from control.policy_commands import Asking, run_tests_of

    leave(run_tests_of(path, Asking(data=data, seconds=seconds), as_json))
