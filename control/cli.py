"""The `convoy` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from control.fleet_cli import fleet_app
from control.waiver_cli import waiver_app
from fleet.commands import Command
from fleet.errors import ConvoyError, ExitCode, InputError

app = typer.Typer(
    name="convoy",
    help="Moves a model from the MLflow registry to every region that serves it, on evidence.",
    epilog="Exit codes: 0 done or promoted, 2 bad input, 3 rejected, 4 rolled back, 5 failed, 6 ledger broken, 7 something to do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger_app = typer.Typer(help="Read and check the ledger.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
costs_app = typer.Typer(help="Reconcile what serving costs.", no_args_is_help=True)
app.add_typer(costs_app, name="costs")
policy_app = typer.Typer(help="Ask and test the policies (Rego).", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
contract_app = typer.Typer(help="What the data of a model must be like.", no_args_is_help=True)
app.add_typer(contract_app, name="contract")
operator_app = typer.Typer(help="Who may command releases.", no_args_is_help=True)
app.add_typer(operator_app, name="operator")
app.add_typer(waiver_app, name="waiver")
app.add_typer(fleet_app, name="fleet")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ModelName = Annotated[str, typer.Argument(help="The model's name in fleet.yaml and MLflow.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the release has ended; the exit code says how.")]

PolicyFolder = Annotated[Path | None, typer.Option("--policy", help="A folder of one's own Rego files; Convoy's are asked besides.")]
PolicyData = Annotated[
    Path | None, typer.Option("--data", help="What the rules go by (YAML, JSON); a key that it has replaces the shipped one whole.")
]
PolicySeconds = Annotated[float, typer.Option("--seconds", min=1, max=600, help="How long one's own policy may take.")]

CommandName = Annotated[Command, typer.Argument(help="What it shall do.")]
ReleaseName = Annotated[str | None, typer.Option("--release", help="Its name, such as employment-3; if absent, the one under way.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="Holds your operator's token; if absent, this home's operator.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="How long --wait waits for the end at most.")]


@app.command()
def up(as_json: AsJson = False) -> None:
    """Start the local stack, or what is missing of it, and wait until all of it is healthy."""
    from control.stack_commands import start

    start(as_json)


@app.command()
def down(as_json: AsJson = False) -> None:
    """Stop the local stack; none of its processes is left, all of its data stays."""
    from control.stack_commands import stop

    stop(as_json)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it, with the releases under way; Ctrl-C ends it.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.2, metavar="SECONDS", help="How often --watch looks.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show every component and, region by region, which revision serves with which weight and measured share."""
    if watch:
        from control.watching import watch as keep_showing
        from fleet.settings import settings

        keep_showing(settings(), interval, as_json)
        return
    from control.stack_commands import show_status

    show_status(as_json)


@app.command()
def doctor(
    everything: Annotated[bool, typer.Option("--all", help="Tell also what is well, finding by finding.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what is installed, running, reachable and mis-set, each finding with its remedy; changes nothing."""
    from control.doctor_commands import show_findings

    _leave(show_findings(as_json, everything))


@app.command()
def plan(
    model: Annotated[str | None, typer.Argument(help="The model's name; if absent, all of fleet.yaml.")] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Plan from what reconcile saw last, and ask nobody.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Start reconcile, and wait until nothing is left to do.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="How long --apply waits at most.")] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Show what reconcile would do now and why; exit 0 where that is nothing, 7 where it is something; changes nothing."""
    from control.plan_commands import apply_plan, show_plan

    if apply and stored:
        raise InputError("--apply", "acts on what is so now, and --stored shows what was", "Use one of them.")
    _leave(apply_plan(model, timeout, as_json) if apply else show_plan(model, stored, as_json))


@app.command()
def adopt(
    model: ModelName,
    region: Annotated[str, typer.Option("--region", help="Where it runs.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the ledger.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Its digest, or the beginning; if absent, the only one there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a revision that somebody started by hand, and that was stable once, go on running in a region; it gets no requests."""
    from control.plan_commands import adopt_revision

    adopt_revision(model, region, revision, reason, as_json)


@app.command()
def release(
    model: ModelName,
    version: Annotated[str, typer.Option("--version", help="The MLflow version to release.")],
    wait: Wait = False,
    timeout: Timeout = 3600.0,
    again: Annotated[bool, typer.Option("--again", help="Try a version again whose release has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Release a version of a model: sets the alias `candidate`, and the release flow does the rest."""
    from control.release_commands import Following, start_release

    _leave(start_release(model, version, again, Following(wait, timeout, as_json)))


@app.command()
def tune(
    model: ModelName,
    version: Annotated[str | None, typer.Option("--version", help="The packaged version; if absent, the newest.")] = None,
    batch_rows: Annotated[
        list[int] | None, typer.Option("--batch-rows", min=1, max=1 << 20, help="A batch size to try; may repeat.")
    ] = None,
    workers: Annotated[list[int] | None, typer.Option("--workers", min=1, max=64, help="A worker count to try; may repeat.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.2, max=60, help="How long each is loaded.")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Measure batch size and worker count of a packaged revision on this machine, and keep the choice beside it."""
    from control.tune_command import tune_model

    tune_model(model, version, tuple(batch_rows or ()), tuple(workers or ()), seconds, as_json)


@app.command()
def package(
    model: ModelName,
    version: Annotated[str, typer.Option("--version", help="The MLflow version to package.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="A new folder for the Bento, or a file NAME.bento; if absent, only its digest is told.")
    ] = None,
    oci: Annotated[Path | None, typer.Option("--oci", help="A new folder for an image, as an OCI layout.")] = None,
    base: Annotated[
        list[str] | None,
        typer.Option("--base", metavar="[ARCH=]FOLDER", help="What the image begins with: an OCI layout or a root file system."),
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", metavar="[ARCH=]FOLDER", help="The installed packages; if absent, uv finds their wheels."),
    ] = None,
    platforms: Annotated[
        list[str] | None, typer.Option("--platform", help="linux/amd64 or linux/arm64; may be repeated. If absent, this machine's.")
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="Load the image into Podman, Buildah or Docker, whichever is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a version's Bento exactly as a release would, and its image if wanted, without releasing it."""
    from control.package_commands import Wanted
    from control.package_commands import package as make

    make(Wanted(model, version, to, oci, tuple(base or ()), tuple(environment or ()), tuple(platforms or ()), load), as_json)


@app.command()
def conformance(
    subject: Annotated[str, typer.Argument(metavar="URL|FOLDER", help="A running server, or an image as --oci wrote it, which is run.")],
    contract: Annotated[
        list[str] | None, typer.Option("--contract", help="convoy, sagemaker, vertex or azure; may be repeated. If absent, all.")
    ] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="The revision that a server must name.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model's name, so that a server can be asked about its columns.")] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="Rows that it answers (JSON, CSV); if absent, one of zeros is tried.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a server or an image against the contracts of SageMaker, Vertex AI, Azure ML and Convoy; exit 3 where one is not kept."""
    from control.conformance_command import check

    _leave(check(subject, tuple(contract or ()), (digest, model), input_file, as_json))


@app.command()
def rollback(
    model: ModelName,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", help="Where to go back to; if absent, what serves while a release is under way, else what served before."
        ),
    ] = None,
    wait: Wait = False,
    timeout: Timeout = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Go back to a version that was stable before: a new release of the digest that is still stored."""
    from control.release_commands import Following, start_rollback

    _leave(start_rollback(model, version, Following(wait, timeout, as_json)))


@app.command()
def gates(
    release: Annotated[str, typer.Argument(help="A release, as `convoy status` and the ledger name it.")],
    as_json: AsJson = False,
) -> None:
    """Show what each gate said of a release, with reasons and figures, out of the ledger; exit 3 where they refused."""
    from control.gates_command import show_gates

    _leave(show_gates(release, as_json))


@app.command()
def attestations(
    release: Annotated[str, typer.Argument(help="A release, as `convoy status` and the ledger name it.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="A new folder for the statements, the bills of materials and the public keys.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was signed of a release's revision, and whether it holds in every store; exit 3 where it does not."""
    from control.attestations_command import show_attestations

    _leave(show_attestations(release, to, as_json))


@app.command()
def judge(
    release: Annotated[str, typer.Argument(help="A release with a canary, as `convoy status` and the ledger name it.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Judge with another limit, such as alpha=0.01; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a canary again from what the ledger recorded, with its own limits or with others; changes nothing."""
    from control.judge_command import judge_release

    _leave(judge_release(release, changes or [], as_json))


@app.command()
def operate(
    model: ModelName,
    command: CommandName,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the ledger beside the command.")],
    seconds: Annotated[int | None, typer.Option("--seconds", help="By how much the canary is extended.")] = None,
    release: ReleaseName = None,
    digest: Annotated[str | None, typer.Option("--digest", help="For approve, deny and revoke: the revision that you looked at.")] = None,
    command_id: Annotated[str | None, typer.Option("--id", help="For scripts: sent again with the same id, it is one command.")] = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Command a release under way; it obeys at its next tick, whoever tells it then."""
    from control.operate_commands import command_release
    from flows.operating import Wish

    command_release(Wish(model, command.value, reason, seconds, release, digest, command_id), token_file, as_json)


@app.command()
def predict(
    model: ModelName,
    input_file: Annotated[
        Path, typer.Option("--input", help="Rows as JSON (list of objects), CSV, or an Open Inference v2 request; - reads stdin.")
    ],
    edge: Annotated[str | None, typer.Option("--edge", help="The edge to ask, by its id; the first one, if absent.")] = None,
) -> None:
    """Ask a model through an edge and print its answer as JSON."""
    from control.predict_command import ask

    ask(model, input_file, edge)


@app.command()
def drill(
    region: Annotated[str, typer.Argument(help="The region to lose.")],
    rate: Annotated[float, typer.Option("--rate", min=1, max=1000, help="Requests a second for each model of the region.")] = 50.0,
    window: Annotated[
        float, typer.Option("--window", min=1, max=60, metavar="SECONDS", help="How long all must be well to be well.")
    ] = 5.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and whether it would be refused; exit 2 if so.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Kill a region's servers under load, measure what users notice, put it back; exit 5 when a promise was not kept."""
    from control.drill_commands import rehearse, run
    from flows.drill_checks import DrillPlan

    plan = DrillPlan(region, rate, window)
    _leave(rehearse(plan, as_json) if dry_run else run(plan, as_json))


@app.command()
def export(
    model: ModelName,
    to: Annotated[Path, typer.Option("--out", help="A new folder for the OCI layout.")],
    version: Annotated[str | None, typer.Option("--version", help="A version that a release packaged; if absent, what serves.")] = None,
    region: Annotated[str | None, typer.Option("--region", help="Read it from this region's store; if absent, from the origin's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a stored revision as an OCI layout of the CNCF ModelPack format, for skopeo, oras and registries."""
    from control.export_command import export_revision

    export_revision(model, version, to, region, as_json)


@app.command("copy-image")
def copy_image(
    source: Annotated[str, typer.Argument(help="HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST.")],
    target: Annotated[str, typer.Argument(help="Where to, in the same form.")],
    authfile: Annotated[
        Path | None, typer.Option("--authfile", help="Logins as `skopeo login --authfile` writes them; if absent, none is given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy an image, or an index with all its images, between OCI registries; its digest stays, and all of it is read back."""
    from control.image_command import copy_between_registries

    copy_between_registries(source, target, authfile, as_json)


@app.command()
def scrub(
    region: Annotated[str | None, typer.Option("--region", help="Only this region's store, or 'origin'; if absent, all.")] = None,
    due: Annotated[bool, typer.Option("--due", help="Read only what was not read for CONVOY_SCRUB_DAYS.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read what is stored, hold it against its digests, and repair it from the other stores; exit 5 where that is not possible."""
    from control.scrub_command import scrub_stores

    _leave(scrub_stores(region, due, as_json))


@app.command()
def drift(model: ModelName, as_json: AsJson = False) -> None:
    """Compare what a model answered lately with what it learned from, column by column; writes a report."""
    from control.drift_commands import show_drift

    show_drift(model, as_json)


@app.command()
def demo(
    home: Annotated[Path, typer.Option("--home", help="The demo's own home; an earlier demo there is deleted.")] = Path(".convoy/demo"),
    port_base: Annotated[
        int | None, typer.Option("--port-base", help="First of its hundred ports; the first free block, if absent.")
    ] = None,
    pair: Annotated[str, typer.Option("--pair", help="The pair of values on which version 3 raises.")] = "MAR=3,SEX=2",
    fault: Annotated[bool, typer.Option("--fault/--no-fault", help="Whether version 3 has its mistake.")] = True,
    seed: Annotated[int, typer.Option("--seed", help="Which rows are drawn.")] = 1,
    rate: Annotated[float, typer.Option("--rate", min=50, help="Requests a second.")] = 60.0,
    fast: Annotated[bool, typer.Option("--fast", help="The same story with fewer requests: the canaries ask for less evidence.")] = False,
    stop: Annotated[bool, typer.Option("--stop/--keep", help="Stop the stack afterwards, or keep it to look around.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story with real data and live traffic; exits non-zero when a step ended otherwise than told."""
    from control.demo.command import Options, run

    _leave(run(Options(home, port_base, pair, fault, seed, rate, stop, as_json, fast)))


@ledger_app.command("show")
def ledger_show(
    stream: Annotated[str | None, typer.Option("--stream", help="Only this stream, such as release/employment-1.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the ledger's events, oldest first."""
    from control.ledger_commands import show

    show(stream, as_json)


@ledger_app.command("verify")
def ledger_verify(
    heads: Annotated[
        list[Path] | None,
        typer.Option("--heads", help="A signed head kept elsewhere, or a folder of all of them such as a store; may be repeated."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public keys (PEM) to believe: a file, or a folder of *.pub; else those of this home."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every event, the signed heads and their copies in the regions' stores; needs no server. Exit 6 when anything was changed."""
    from control.ledger_commands import verify

    verify(heads or [], key, as_json)


@costs_app.command("reconcile")
def costs_reconcile(
    bill: Annotated[
        list[Path] | None,
        typer.Option("--bill", help="A FOCUS bill (CSV, CSV.gz, Parquet), read and not recorded; may be repeated. Else the regions' own."),
    ] = None,
    totals: Annotated[Path | None, typer.Option("--totals", help="Control totals (JSON) that the bills must have exactly.")] = None,
    as_json: AsJson = False,
) -> None:
    """Split bills by model, region and traffic to the last digit, and tell every deviation from the forecast."""
    from control.costs_commands import reconcile_bills, reconcile_regions

    if bill:
        reconcile_bills(bill, totals, as_json)
    else:
        reconcile_regions(totals, as_json)


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

    _leave(check_files(files, Asking(policy, package, data, seconds), as_json))


@policy_app.command("test")
def policy_test(
    path: Annotated[Path | None, typer.Argument(help="A folder of Rego files with *_test.rego; if absent, Convoy's own policies.")] = None,
    data: PolicyData = None,
    seconds: PolicySeconds = 30.0,
    as_json: AsJson = False,
) -> None:
    """Run the tests of policies and say which lines of the rules they reached; exit 5 when one does not hold."""
    from control.policy_commands import Asking, run_tests_of

    _leave(run_tests_of(path, Asking(data=data, seconds=seconds), as_json))


@contract_app.command("learn")
def contract_learn(
    subject: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="A model of fleet.yaml, or a Parquet or CSV file.")],
    rows: Annotated[
        str, typer.Option("--rows", help="Which rows of the model: training, validation, evaluation, golden, or drift's reference.")
    ] = "training",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; if absent, the contract that fleet.yaml names, or beside FILE.")
    ] = None,
    slack: Annotated[
        float, typer.Option("--slack", min=0.01, max=10, help="How far what comes may differ, as a part of what was seen.")
    ] = 0.1,
    categories: Annotated[int, typer.Option("--categories", min=0, max=1000, help="The most values of a column that are named.")] = 25,
    force: Annotated[bool, typer.Option("--force", help="Replace a contract that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn a data contract (Great Expectations) from rows that are known to be good; people edit it afterwards."""
    from control.contract_commands import Wanted, learn_contract
    from flows.contracts import rows_named
    from policies.learning import Slack

    learn_contract(Wanted(subject, rows_named(rows), Slack(slack, categories), out, force), as_json)


@operator_app.command("add")
def operator_add(
    name: Annotated[str, typer.Argument(help="A role, such as night-shift: it stays in the ledger.")],
    again: Annotated[bool, typer.Option("--again", help="Give a known operator a new token; the old one is refused from now on.")] = False,
) -> None:
    """Make an operator and print the token, once."""
    from control.operate_commands import add_operator

    add_operator(name, again)


@operator_app.command("remove")
def operator_remove(name: Annotated[str, typer.Argument(help="The operator's name.")]) -> None:
    """Remove an operator; the token is refused from now on."""
    from control.operate_commands import remove_operator

    remove_operator(name)


@operator_app.command("list")
def operator_list(as_json: AsJson = False) -> None:
    """List the operators by name."""
    from control.operate_commands import list_operators

    list_operators(as_json)


@operator_app.command("pass")
def operator_pass(
    model: ModelName,
    command: CommandName,
    release: ReleaseName = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, max=60, help="How long it is good.")] = 10.0,
    token_file: TokenFile = None,
) -> None:
    """Print a pass for Prefect's UI, which keeps what is typed there: good for this command, once."""
    from control.operate_commands import print_pass
    from flows.operating import Wish

    print_pass(Wish(model, command.value, "", release=release), minutes, token_file)


@operator_app.command("claim")
def operator_claim(
    model: ModelName,
    version: Annotated[str, typer.Option("--version", help="The MLflow version that you built.")],
    token_file: TokenFile = None,
) -> None:
    """Say that you built a version, in a tag of MLflow: where several people must approve, its builder may not."""
    from control.operate_commands import claim_version

    claim_version(model, version, token_file)


def _leave(code: ExitCode) -> NoReturn:
    raise typer.Exit(int(code))


def main() -> None:
    """Run the command; an error names the thing, the reason and the remedy, and sets the exit code."""
    try:
        app()
    except ConvoyError as problem:
        _complain(problem)
        sys.exit(int(problem.exit_code))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was begun goes on by itself, see `convoy status`\n")
        sys.exit(130)


def _complain(problem: ConvoyError) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error[/] [bold]{_plain(problem.subject)}[/]: {_plain(problem.reason)}")
    if problem.remedy:
        console.print(f"  {_plain(problem.remedy)}")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
