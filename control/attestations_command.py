"""`convoy attestations RELEASE`: what was signed of a release's revision, whether it still holds, and a copy of it for others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rich.markup import escape

from control.printing import out, print_json, print_table
from fleet.canonical import digest_of
from fleet.errors import ConvoyError, ExitCode, InputError, UnknownName
from fleet.versions import Revision
from flows.attested import Maker, doubts, maker_of
from flows.desires import desires
from flows.house import House
from flows.work import release_revision
from registry.attestations import Claim, Kind, read_claim
from registry.dsse import Envelope
from registry.referrers import ATTESTATION, BOM, documents

ORIGIN = "origin"


def show_attestations(release: str, to: Path | None, as_json: bool) -> ExitCode:
    """Print every statement about a release's revision and in which stores they hold; `to` takes a copy of all that a verifier needs.

    Returns 3 where they do not hold somewhere. Raises UnknownName for a release that attested nothing, InputError for a
    folder that is there already.
    """
    house = House.open()
    house.ledger.verify()
    revision, made_by = _found(house, release)
    regions = house.model(revision.model).regions
    held = {name: _doubts(house, revision, made_by, name) for name in (ORIGIN, *regions)}
    statements = _statements(house, revision)
    if to is not None:
        _export(house, revision, to)
    if as_json:
        said = [_as_json(house, claim, each) for claim, each in statements]
        print_json({"release": release, "revision": revision.digest, "statements": said, "doubts": {k: list(v) for k, v in held.items()}})
    else:
        _print(house, revision, statements, held, to)
    return ExitCode.REJECTED if any(held.values()) else ExitCode.DONE


def _found(house: House, release: str) -> tuple[Revision, Maker]:
    wanted = [found for model in house.fleet.models for found in desires(house.ledger, model) if found.release == release]
    revision = release_revision(house, wanted[0]) if wanted else None
    made_by = (maker_of(house, revision, release) or maker_of(house, revision)) if revision else None
    if revision is None or made_by is None:
        raise UnknownName(
            f"release '{release}'", "nothing is attested of it: it packaged nothing, or ended before that", "See `convoy status`."
        )
    return revision, made_by


def _doubts(house: House, revision: Revision, made_by: Maker, name: str) -> tuple[str, ...]:
    """Return why what one store holds does not speak for a revision, a store that is away included."""
    try:
        return doubts(house, revision, made_by, house.origin if name == ORIGIN else house.region_store(name))
    except ConvoyError as problem:
        return (str(problem),)


def _signers(house: House, statement: Envelope, claim: Claim) -> tuple[str, ...]:
    """Return the keys that may sign such a claim and did."""
    try:
        return tuple(statement.signers(house.attestation_trust(claim.kind)))
    except InputError:
        return ()


def _statements(house: House, revision: Revision) -> list[tuple[Claim, Envelope]]:
    """Return what is claimed of a revision, in the order in which it came about; what is no statement of ours is left out."""
    found = []
    for data in documents(house.origin, revision.digest, ATTESTATION):
        with suppress(InputError):
            envelope = Envelope.from_bytes(data)
            found.append((read_claim(envelope), envelope))
    order = {kind: at for at, kind in enumerate(Kind)}
    return sorted(found, key=lambda pair: (order[pair[0].kind], pair[0].at))


def _as_json(house: House, claim: Claim, statement: Envelope) -> dict[str, object]:
    return {
        "kind": claim.kind.value,
        "release": claim.release,
        "epoch": claim.epoch,
        "at": claim.at.isoformat(),
        "by": claim.by,
        "passed": claim.passed,
        "details": claim.details,
        "signed_with": list(_signers(house, statement, claim)),
    }


def _print(
    house: House, revision: Revision, statements: Sequence[tuple[Claim, Envelope]], held: Mapping[str, tuple[str, ...]], to: Path | None
) -> None:
    rows = [
        (claim.kind.value, "yes" if claim.passed else "no", f"{claim.at:%Y-%m-%d %H:%M:%S}Z", escape(claim.by), _key(house, claim, each))
        for claim, each in statements
    ]
    print_table(f"Signed of {revision.model} version {revision.version}, {revision.digest}", ("what", "passed", "at", "by", "key"), rows)
    for name, why in held.items():
        out.print(f"{escape(name)}: {'holds' if not why else 'does not hold: ' + escape('; '.join(why))}")
    if to is not None:
        out.print(f"A copy lies in {escape(str(to))}: statements, bills of materials and the public keys.")


def _key(house: House, claim: Claim, statement: Envelope) -> str:
    signers = _signers(house, statement, claim)
    return signers[0].removeprefix("sha256:")[:12] if signers else "none that may sign it"


def _export(house: House, revision: Revision, to: Path) -> None:
    """Write what a verifier needs who has nothing of ours: each file is named by what it is."""
    try:
        to.mkdir(parents=True)
    except OSError as problem:
        raise InputError(str(to), f"cannot be made ({problem.strerror})", "Name a folder that is not there yet.") from problem
    for claim, envelope in _statements(house, revision):
        data = envelope.to_bytes()
        (to / f"{claim.kind}-{digest_of(data).removeprefix('sha256:')[:12]}.dsse.json").write_bytes(data)
    for data in documents(house.origin, revision.digest, BOM):
        (to / f"bom-{digest_of(data).removeprefix('sha256:')[:12]}.cdx.json").write_bytes(data)
    for kind in Kind:
        with suppress(InputError):
            (to / f"{kind}.pub").write_bytes(b"".join(key.to_pem() for key in house.attestation_trust(kind).values()))
