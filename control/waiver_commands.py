"""`convoy waiver`: two people let one thing go that a gate refuses, in one version, until a day."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control.printing import out, print_json, progress
from fleet.errors import ExitCode, InputError, Refused
from flows.house import House
from flows.rights import trust_of
from policies.signing import new_key
from policies.signing import sign as signed_by
from policies.waived import read_file
from policies.waivers import PEOPLE, SignedWaiver, Subject, Waiver, holds, read_waiver, signers


def make_key(file: Path) -> None:
    """Write a new private key and print its public half, which is all that anybody else needs."""
    public = new_key(file)
    sys.stdout.write(public + "\n")
    progress.print(f"{file} is yours alone: nobody can make it again. The line above goes into gates.waivers.keys.", markup=False)


def draft(waiver: dict[str, str | None], days: float, to: Path) -> None:
    """Write a waiver that nobody has signed yet; raises InputError where it is none, or `to` is there already."""
    expires = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = _checked(waiver | {"expires": expires})
    _write_new(to, made.to_json())
    out.print(f"{to}: {PEOPLE} people sign it with `convoy waiver sign {to} --key KEYFILE`.", markup=False)


def sign(file: Path, key: Path) -> None:
    """Add the signature of a private key to a waiver and say who has signed by now; what is signed is shown first."""
    signed = signed_by(read_file(file), key)
    _show(signed)
    # The file stays whole if this is killed
    aside = file.with_name(f".{file.name}.new")
    aside.write_bytes(signed.to_json())
    aside.replace(file)
    out.print(f"{file} has {len(signed.signatures)} signatures.", markup=False)


def check(file: Path, version: str | None, digest: str | None, as_json: bool) -> ExitCode:
    """Say whether a waiver holds now for the version that it names, or for another one; returns 2 where it does not.

    The keys are those that fleet.yaml declares for its model.
    """
    signed = read_file(file)
    waiver = signed.waiver
    trust = trust_of(House.open().model(waiver.model))
    if not trust.keys:
        raise Refused(f"model '{waiver.model}'", "says of nobody that they may waive anything", "Declare gates.waivers in fleet.yaml.")
    subject = Subject(waiver.model, version or waiver.model_version or "", digest or waiver.digest or "")
    why, people = holds(signed, trust, subject, datetime.now(UTC)), signers(signed, trust)
    if as_json:
        print_json({"holds": not why, "why_not": why, "signed_by": list(people), **waiver.model_dump(mode="json")})
    else:
        _show(signed)
        out.print(f"signed by {' and '.join(people) or 'nobody who is declared'}", markup=False)
        out.print(f"It does not hold: it {why}." if why else f"It holds until {waiver.expires}.", markup=False)
    return ExitCode.BAD_INPUT if why else ExitCode.DONE


def _checked(told: dict[str, str | None]) -> SignedWaiver:
    return read_waiver(json.dumps({"waiver": told, "signatures": []}).encode(), "the waiver")


def _show(signed: SignedWaiver) -> None:
    waiver: Waiver = signed.waiver
    version = " and ".join(filter(None, (waiver.model_version and f"version {waiver.model_version}", waiver.digest)))
    out.print(f"gate '{waiver.gate}' lets '{waiver.thing}' go, in {waiver.model} {version}, until {waiver.expires}", markup=False)
    out.print(f"because {waiver.reason}", markup=False)


def _write_new(file: Path, data: bytes) -> None:
    try:
        with file.open("xb") as opened:
            opened.write(data)
    except OSError as problem:
        raise InputError(str(file), f"cannot be made ({problem.strerror})", "Give a new file in a folder that is there.") from problem
