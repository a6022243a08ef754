"""Waivers: signed by two different people, for one thing of one version, until a day."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rights_world import NOW

from fleet.declared_rights import WaiverKeys
from fleet.errors import InputError, Refused
from policies.signing import new_key, sign
from policies.waived import waivers_in
from policies.waivers import SignedWaiver, Subject, Trust, Waiver, holds, key_id, read_waiver, signers

SUBJECT = Subject("employment", "3", "sha256:" + "a" * 64)
TOLD = {
    "gate": "dependencies",
    "thing": "CVE-2026-1 in requests 2.31.0",
    "model": "employment",
    "model_version": "3",
    "reason": "never leaves the network",
    "expires": "2026-12-01T00:00:00Z",
}


@dataclass(frozen=True)
class People:
    """Three people with keys; only anna's and ben's are declared."""

    folder: Path
    trust: Trust

    def sign(self, *names: str, **changed: Any) -> SignedWaiver:
        signed = SignedWaiver(waiver=Waiver.model_validate(TOLD | changed))
        for name in names:
            signed = sign(signed, self.folder / f"{name}.pem")
        return signed


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    folder = tmp_path_factory.mktemp("keys")
    public = {name: new_key(folder / f"{name}.pem") for name in ("anna", "ben", "mallory")}
    return People(folder, Trust({name: public[name] for name in ("anna", "ben")}, 90))


def why_not(people: People, signed: SignedWaiver, subject: Subject = SUBJECT, **later: float) -> str:
    return holds(signed, people.trust, subject, NOW + timedelta(**later))


@pytest.mark.parametrize("order", [("anna", "ben"), ("ben", "anna"), ("ben", "mallory", "anna"), ("anna", "ben", "anna")])
def test_two_different_people_waive_in_whatever_order_they_sign(people: People, order: tuple[str, ...]) -> None:
    signed = people.sign(*order)
    assert why_not(people, signed) == ""
    assert signers(signed, people.trust) == ("anna", "ben")


@pytest.mark.parametrize("names", [(), ("anna",), ("anna", "anna"), ("anna", "mallory"), ("mallory", "mallory")])
def test_one_signer_is_not_two_nor_is_somebody_whom_nobody_declared(people: People, names: tuple[str, ...]) -> None:
    assert "2 of them must sign" in why_not(people, people.sign(*names))


def test_one_signature_twice_is_one_signer(people: People) -> None:
    signed = people.sign("anna")
    twice = signed.model_copy(update={"signatures": signed.signatures * 2})
    assert "signed by anna of" in why_not(people, twice)


def test_one_persons_signature_under_another_ones_key_is_nobodys(people: People) -> None:
    signed = people.sign("anna")
    forged = signed.signatures[0].model_copy(update={"key": key_id(people.trust.keys["ben"])})
    both = signed.model_copy(update={"signatures": (*signed.signatures, forged)})
    assert signers(both, people.trust) == ("anna",)


@pytest.mark.parametrize(
    "changed",
    [
        {"thing": "CVE-2026-2 in requests 2.31.0"},
        {"gate": "licences"},
        {"expires": "2027-01-01T00:00:00Z"},
        {"reason": "because"},
        {"model_version": None, "digest": SUBJECT.digest},
    ],
)
def test_a_waiver_that_was_changed_after_it_was_signed_holds_for_nothing(people: People, changed: dict[str, Any]) -> None:
    signed = people.sign("anna", "ben")
    other = signed.model_copy(update={"waiver": Waiver.model_validate(TOLD | changed)})
    assert "signed by nobody" in why_not(people, other)


def test_each_flipped_bit_of_a_signature_makes_it_nobodys(people: People) -> None:
    signed = people.sign("anna", "ben")
    raw = base64.b64decode(signed.signatures[1].signature)
    for position in range(0, len(raw), 7):
        flipped = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        bad = signed.signatures[1].model_copy(update={"signature": base64.b64encode(flipped).decode()})
        assert why_not(people, signed.model_copy(update={"signatures": (signed.signatures[0], bad)}))


def test_a_waiver_ends_at_its_moment_and_may_not_be_for_years(people: People) -> None:
    signed = people.sign("anna", "ben")
    assert why_not(people, signed, days=7, hours=11, minutes=59, seconds=59) == ""
    assert why_not(people, signed, days=7, hours=12) == "expired at 2026-12-01T00:00:00Z"
    assert "90 days ahead is the longest" in why_not(people, people.sign("anna", "ben", expires="2027-02-22T00:00:00Z"))


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (replace(SUBJECT, model="income"), "is for the model 'employment'"),
        (replace(SUBJECT, version="4"), "is for version 3"),
    ],
)
def test_a_waiver_is_not_played_again_for_another_model_or_version(people: People, subject: Subject, why: str) -> None:
    assert why_not(people, people.sign("anna", "ben"), subject) == why


def test_a_waiver_for_files_holds_for_these_files_alone(people: People) -> None:
    signed = people.sign("anna", "ben", model_version=None, digest=SUBJECT.digest)
    assert why_not(people, signed) == ""
    assert why_not(people, signed, replace(SUBJECT, version="9")) == "", "the same files under another number"
    assert why_not(people, signed, replace(SUBJECT, digest="sha256:" + "b" * 64)) == "is for other files than these"
    both = people.sign("anna", "ben", digest=SUBJECT.digest)
    assert why_not(people, both, replace(SUBJECT, version="9")) == "is for version 3"


@pytest.mark.parametrize(
    "changed",
    [
        {"model_version": None},
        {"model_version": "3 or 4"},
        {"thing": ""},
        {"expires": "tomorrow"},
        {"expires": "2026-12-01T00:00:00+00:00"},
        {"more": "keys"},
        {"version": 2},
        {"model_version": 3},
    ],
)
def test_what_is_no_waiver_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"w\.json"):
        read_waiver(json.dumps({"waiver": TOLD | changed, "signatures": []}).encode(), "w.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 50_000, b"{" + b" " * 70_000 + b"}", b'{"waiver": 1, "waiver": 2}'])
def test_what_cannot_be_read_one_way_only_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        read_waiver(data, "w.json")


def test_how_the_file_is_written_does_not_matter(people: People) -> None:
    told = json.loads(people.sign("anna", "ben").to_json())
    told["waiver"] = dict(reversed(told["waiver"].items()))
    again = read_waiver(json.dumps(told, indent=None).encode(), "w.json")
    assert why_not(people, again) == ""


def test_a_folder_tells_what_is_waived_by_whom_and_what_is_not_and_why(people: People, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(people.sign("anna", "ben").to_json())
    (tmp_path / "b.json").write_bytes(people.sign("anna", thing="other").to_json())
    (tmp_path / "c.json").write_bytes(b"{}")
    (tmp_path / "notes.txt").write_text("no waiver")
    found = waivers_in(tmp_path, people.trust, SUBJECT, NOW)
    assert found.things("dependencies") == {"CVE-2026-1 in requests 2.31.0"}
    assert found.things("licences") == frozenset()
    assert found.held[0].by == ("anna", "ben")
    assert "b.json is signed by anna of" in found.why_not("dependencies", "other")
    assert "c.json" in found.why_not("dependencies", "other")
    assert waivers_in(tmp_path / "nowhere", people.trust, SUBJECT, NOW).held == ()


@pytest.mark.timeout(20)
def test_a_pipe_by_a_waivers_name_is_not_waited_for(people: People, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").mkdir()
    found = waivers_in(tmp_path, people.trust, SUBJECT, NOW)
    assert found.unread == ("a.json is no file", "b.json is no file")


def test_a_private_key_is_its_owners_alone_and_never_written_over(people: People, tmp_path: Path) -> None:
    file = people.folder / "anna.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="cannot be made"):
        new_key(file)
    loose = tmp_path / "loose.pem"
    loose.write_bytes(file.read_bytes())
    loose.chmod(0o640)
    with pytest.raises(Refused, match="can be read by others") as told:
        sign(people.sign(), loose)
    assert "PRIVATE" not in str(told.value)
    (tmp_path / "none.pem").touch(0o600)
    with pytest.raises(InputError, match="private key"):
        sign(people.sign(), tmp_path / "none.pem")


def test_fleet_yaml_gives_each_person_a_key_of_their_own(people: People) -> None:
    keys = dict(people.trust.keys)
    assert WaiverKeys.model_validate({"folder": "waivers", "keys": keys}).longest_days == 90
    with pytest.raises(ValidationError, match="anna and carl have the same key"):
        WaiverKeys.model_validate({"folder": "waivers", "keys": keys | {"carl": keys["anna"]}})
    for wrong in ("no base64!", base64.b64encode(b"short").decode()):
        with pytest.raises(ValidationError, match="convoy waiver key"):
            WaiverKeys.model_validate({"folder": "waivers", "keys": keys | {"carl": wrong}})
    with pytest.raises(ValidationError, match="at least 2"):
        WaiverKeys.model_validate({"folder": "waivers", "keys": {"anna": keys["anna"]}})
