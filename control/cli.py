"""The `convoy` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from control.contract_cli import contract_app
from control.costs_cli import costs_app
from control.fleet_cli import fleet_app
from control.ledger_cli import ledger_app
from control.operator_cli import operator_app
from control.options import AsJson, CommandName, ModelName, ReleaseName, TokenFile, leave
from control.policy_cli import policy_app
from control.waiver_cli import waiver_app
from fleet.errors import ConvoyError, InputError

app = typer.Typer(
    name="convoy",
    help="Moves a model from the MLflow registry to every region that serves it, on evidence.",
    epilog="Exit codes: 0 done or promoted, 2 bad input, 3 rejected, 4 rolled back, 5 failed, 6 ledger broken, 7 something to do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ledger_app, name="ledger")
app.add_typer(costs_app, name="costs")
app.add_typer(policy_app, name="policy")
app.add_typer(contract_app, name="contract")
app.add_typer(operator_app, name="operator")
app.add_typer(waiver_app, name="waiver")
app.add_typer(fleet_app, name="fleet")

Wait = Annotated[bool, typer.Option("--wait", help="Wait until the release has ended; the exit code says how.")]
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

    leave(show_findings(as_json, everything))


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
    leave(apply_plan(model, timeout, as_json) if apply else show_plan(model, stored, as_json))


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

    leave(start_release(model, version, again, Following(wait, timeout, as_json)))


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

    leave(check(subject, tuple(contract or ()), (digest, model), input_file, as_json))


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

    leave(start_rollback(model, version, Following(wait, timeout, as_json)))


@app.command()
def gates(
    release: Annotated[str, typer.Argument(help="A release, as `convoy status` and the ledger name it.")],
    as_json: AsJson = False,
) -> None:
    """Show what each gate said of a release, with reasons and figures, out of the ledger; exit 3 where they refused."""
    from control.gates_command import show_gates

    leave(show_gates(release, as_json))


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

    leave(show_attestations(release, to, as_json))


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

    leave(judge_release(release, changes or [], as_json))


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
    leave(rehearse(plan, as_json) if dry_run else run(plan, as_json))


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

    leave(scrub_stores(region, due, as_json))


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

    leave(run(Options(home, port_base, pair, fault, seed, rate, stop, as_json, fast)))


def main() -> None:
    """Run the command; an error names the thing, the reason and the remedy, and sets the exit code."""
    try:
        app()
    except ConvoyError as problem:
        from control.printing import complain

        complain(problem)
        sys.exit(int(problem.exit_code))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was begun goes on by itself, see `convoy status`\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
