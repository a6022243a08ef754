"""Only the right key's word about this revision in this release counts; everything else is refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError
from registry.attestations import Claim, Kind, TrustPolicy, attest, read_claim, statement, verify_all
from registry.dsse import Envelope, Signature, pae, sealed
from registry.keys import Keyring, ensure_keyring, public_key, read_key
from registry.referrers import ATTESTATION, BOM, attach, copy_referrers, documents, read_all, referrers
from registry.store import ContentStore

SUBJECT, OTHER = digest_of(b"this revision"), digest_of(b"another revision")
BUILDER = "convoy://build/local"
AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLAIMS = {
    Kind.BUILD: Claim(Kind.BUILD, "employment", SUBJECT, "employment-3", 7, AT, BUILDER, details={"source": OTHER, "version": "3"}),
    Kind.SCAN: Claim(Kind.SCAN, "employment", SUBJECT, "employment-3", 7, AT, "scan", details={"findings": 0}),
    Kind.VALIDATION: Claim(Kind.VALIDATION, "employment", SUBJECT, "employment-3", 7, AT, "gates", details={"gates": ["schema"]}),
    Kind.APPROVAL: Claim(Kind.APPROVAL, "employment", SUBJECT, "employment-3", 8, AT, "night-shift", details={"order": "order-1"}),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Keyring]:
    root = tmp_path_factory.mktemp("keys")
    return {name: ensure_keyring(root / name) for name in (*Kind, "stranger")}


@pytest.fixture
def policy(keys: dict[str, Keyring]) -> TrustPolicy:
    return TrustPolicy(
        keys={keys[kind].key.public.id: keys[kind].key.public for kind in Kind},
        signers={kind: frozenset({keys[kind].key.public.id}) for kind in Kind},
        builders=frozenset({BUILDER}),
        model="employment",
        release="employment-3",
        epochs=(7, 9),
        orders=frozenset({"order-1"}),
    )


def signed(keys: dict[str, Keyring], **other: Claim) -> dict[Kind, bytes]:
    return {kind: attest(other.get(kind.value, claim), keys[kind].key).to_bytes() for kind, claim in CLAIMS.items()}


def test_all_four_by_their_own_keys_are_enough(keys, policy) -> None:
    assert verify_all(SUBJECT, signed(keys).values(), policy) == ()


@pytest.mark.parametrize("kind", Kind)
def test_one_predicate_stripped_is_refused_by_name(keys, policy, kind: Kind) -> None:
    left = signed(keys)
    del left[kind]
    assert verify_all(SUBJECT, left.values(), policy) == (f"{kind}: it was not attested",)


@pytest.mark.parametrize("kind", Kind)
def test_a_swapped_subject_is_refused_with_and_without_its_signature(keys, policy, kind: Kind) -> None:
    moved = replace(CLAIMS[kind], digest=OTHER)
    resigned = signed(keys) | {kind: attest(moved, keys[kind].key).to_bytes()}
    (reason,) = verify_all(SUBJECT, resigned.values(), policy)
    assert reason == f"{kind}: no attestation of it counts (it is about another revision, {OTHER} of model employment)"
    # The signature of the one under the payload of the other
    forged = signed(keys) | {kind: replace(attest(moved, keys[kind].key), payload=statement(CLAIMS[kind])).to_bytes()}
    (reason,) = verify_all(SUBJECT, forged.values(), policy)
    assert "not signed with a key that may sign this" in reason


def test_a_swapped_builder_is_refused_with_and_without_its_signature(keys, policy) -> None:
    foreign = replace(CLAIMS[Kind.BUILD], by="convoy://build/elsewhere")
    (reason,) = verify_all(SUBJECT, signed(keys, build=foreign).values(), policy)
    assert "'convoy://build/elsewhere' is no builder that is trusted" in reason
    real = attest(CLAIMS[Kind.BUILD], keys[Kind.BUILD].key)
    forged = replace(real, payload=statement(foreign))
    (reason,) = verify_all(SUBJECT, (signed(keys) | {Kind.BUILD: forged.to_bytes()}).values(), policy)
    assert "not signed with a key that may sign this" in reason


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("older", [{"release": "employment-2"}, {"epoch": 6}, {"epoch": 10}, {"release": "employment-2", "epoch": 3}])
def test_an_older_valid_attestation_of_the_same_revision_is_not_taken(keys, policy, kind: Kind, older: dict) -> None:
    replayed = signed(keys) | {kind: attest(replace(CLAIMS[kind], **older), keys[kind].key).to_bytes()}
    (reason,) = verify_all(SUBJECT, replayed.values(), policy)
    assert reason.startswith(f"{kind}: no attestation of it counts (it was made")


@pytest.mark.parametrize(("kind", "by"), [(kind, by) for kind in Kind for by in (*Kind, "stranger") if by != kind])
def test_nobody_signs_for_another(keys, policy, kind: Kind, by: str) -> None:
    forged = signed(keys) | {kind: attest(CLAIMS[kind], keys[by].key).to_bytes()}
    (reason,) = verify_all(SUBJECT, forged.values(), policy)
    assert reason == f"{kind}: no attestation of it counts (not signed with a key that may sign this)"


@pytest.mark.parametrize("kind", [Kind.SCAN, Kind.VALIDATION, Kind.APPROVAL])
def test_a_no_counts_whatever_else_was_signed(keys, policy, kind: Kind) -> None:
    no = attest(replace(CLAIMS[kind], passed=False), keys[kind].key).to_bytes()
    assert verify_all(SUBJECT, [*signed(keys).values(), no], policy) == (f"{kind}: {CLAIMS[kind].by} says no to this revision",)


def test_a_strangers_rubbish_stops_no_release(keys, policy) -> None:
    no = attest(replace(CLAIMS[Kind.SCAN], passed=False), keys["stranger"].key).to_bytes()
    assert verify_all(SUBJECT, [b"", b"{}", b"\xff", no, *signed(keys).values()], policy) == ()


def test_one_key_for_builds_and_approvals_is_no_policy(keys, policy) -> None:
    with pytest.raises(InputError, match="who builds must not approve"):
        replace(policy, signers={kind: frozenset({keys[Kind.BUILD].key.public.id}) for kind in Kind})


def test_a_statement_is_in_totos_with_slsas_provenance(keys) -> None:
    document = json.loads(statement(CLAIMS[Kind.BUILD]))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [{"name": "employment", "digest": {"sha256": SUBJECT.removeprefix("sha256:")}}]
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert document["predicate"]["runDetails"]["builder"] == {"id": BUILDER}


@pytest.mark.parametrize("kind", Kind)
def test_a_claim_reads_back_as_it_was_made(keys, kind: Kind) -> None:
    assert read_claim(attest(CLAIMS[kind], keys[kind].key)) == CLAIMS[kind]


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said | {"extra": 1},
        lambda said: said | {"subject": said["subject"] * 2},
        lambda said: said | {"subject": [said["subject"][0] | {"digest": said["subject"][0]["digest"] | {"sha512": "00"}}]},
        lambda said: said | {"predicate": said["predicate"] | {"epoch": True}},
        lambda said: said | {"predicate": said["predicate"] | {"epoch": "7"}},
        lambda said: said | {"predicate": said["predicate"] | {"result": "maybe"}},
        lambda said: said | {"predicate": said["predicate"] | {"note": "x"}},
        lambda said: said | {"predicateType": "https://slsa.dev/provenance/v1"},
        lambda said: said | {"predicateType": "urn:else"},
        lambda said: said | {"_type": "https://in-toto.io/Statement/v0.1"},
        lambda said: [said],
    ],
)
def test_what_says_more_or_less_than_a_statement_does_not_count(keys, policy, change) -> None:
    payload = canonical_json(change(json.loads(statement(CLAIMS[Kind.SCAN]))))
    odd = sealed("application/vnd.in-toto+json", payload, keys[Kind.SCAN].key).to_bytes()
    (reason,) = verify_all(SUBJECT, (signed(keys) | {Kind.SCAN: odd}).values(), policy)
    assert reason.startswith("scan: no attestation of it counts")


def test_a_statement_of_another_type_is_not_one(keys, policy) -> None:
    odd = sealed("application/json", statement(CLAIMS[Kind.SCAN]), keys[Kind.SCAN].key).to_bytes()
    assert verify_all(SUBJECT, (signed(keys) | {Kind.SCAN: odd}).values(), policy) != ()


@settings(deadline=None)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_of_an_envelope_can_be_flipped(place: int, bit: int) -> None:
    key = fixed_key()
    policy = TrustPolicy(
        keys={key.public.id: key.public},
        signers={Kind.SCAN: frozenset({key.public.id})},
        builders=frozenset(),
        model="employment",
        release="employment-3",
        epochs=(7, 9),
        demanded=frozenset({Kind.SCAN}),
    )
    data = bytearray(attest(CLAIMS[Kind.SCAN], key).to_bytes())
    document = json.loads(data)
    data[place % len(data)] ^= 1 << bit
    accepted = verify_all(SUBJECT, [bytes(data)], policy) == ()
    # A key's id is a hint that nobody signs and nobody relies on
    assert not accepted or same_but_for_hints(bytes(data), document)


def same_but_for_hints(data: bytes, document: dict) -> bool:
    found = json.loads(data)
    signed = lambda said: (said["payloadType"], said["payload"], said["signatures"][0]["sig"])  # noqa: E731
    return signed(found) == signed(document)


def fixed_key():
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from registry.keys import SigningKey

    secret = derive_private_key(7, SECP256R1())
    pem = secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(public_key(pem, "test"), secret)


# The envelope


def test_the_encoding_is_that_of_the_specification() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_the_specifications_own_example_verifies() -> None:
    """protocol.md, test vectors: ECDSA on P-256 over SHA-256."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    pem = EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = public_key(pem, "the specification")
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    envelope = Envelope("http://example.com/HelloWorld", b"hello world", (Signature("", signature),))
    assert envelope.signers({key.id: key}) == {key.id}
    assert replace(envelope, payload=b"hello worlD").signers({key.id: key}) == frozenset()
    assert replace(envelope, type="http://example.com/").signers({key.id: key}) == frozenset()


def test_a_key_on_p_256_signs_as_well(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    for curve, name in ((SECP256R1(), "right"), (SECP384R1(), "wrong")):
        pem = generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / name).write_bytes(pem)
    key = read_key(tmp_path / "right")
    assert sealed("x", b"y", key).signers({key.public.id: key.public}) == {key.public.id}
    with pytest.raises(InputError, match="another kind"):
        read_key(tmp_path / "wrong")


@pytest.mark.parametrize(
    "data",
    [
        b'{"payload":"","payload":"","payloadType":"x","signatures":[]}',
        b'{"payload":"*","payloadType":"x","signatures":[]}',
        b'{"payload":"","payloadType":1,"signatures":[]}',
        b'{"payload":"","payloadType":"x"}',
        b'{"payload":"","payloadType":"x","signatures":[{"keyid":"a"}]}',
        b'{"payload":"","payloadType":"x","signatures":{"a":1}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_no_envelope(data: bytes) -> None:
    with pytest.raises(InputError, match="no DSSE envelope"):
        Envelope.from_bytes(data)


# Beside the revision


def test_documents_are_kept_beside_a_revision_and_copied_with_it(keys) -> None:
    here, there = ContentStore(MemoryStore(), "here"), ContentStore(MemoryStore(), "there")
    for data in signed(keys).values():
        attach(here, SUBJECT, ATTESTATION, data)
        attach(here, SUBJECT, ATTESTATION, data)
    attach(here, SUBJECT, BOM, b"{}")
    assert set(documents(here, SUBJECT, ATTESTATION)) == set(signed(keys).values())
    assert documents(here, OTHER, ATTESTATION) == ()
    assert [copy_referrers(SUBJECT, here, there) for _ in range(2)] == [5, 0]
    assert referrers(there, SUBJECT) == referrers(here, SUBJECT)


def test_a_document_whose_bytes_changed_is_not_read(keys) -> None:
    import obstore

    store = ContentStore(MemoryStore(), "here")
    found = attach(store, SUBJECT, ATTESTATION, b"{}")
    obstore.put(store._store, f"blobs/sha256/{found.digest.removeprefix('sha256:')}", b"[]")
    attach(store, SUBJECT, ATTESTATION, b"another")
    whole, (unreadable,) = read_all(store, SUBJECT, ATTESTATION)
    assert whole == (b"another",)
    assert "has other bytes" in unreadable
    name = f"referrers/{SUBJECT.removeprefix('sha256:')}/{found.digest.removeprefix('sha256:')}"
    obstore.put(store._store, name, canonical_json({"digest": OTHER, "mediaType": ATTESTATION, "size": 2}))
    assert [each.digest for each in referrers(store, SUBJECT)] == [digest_of(b"another")]


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "a" * 64])
def test_rubbish_beside_a_revision_keeps_nobody_from_reading_or_copying_what_is_whole(name: str) -> None:
    import obstore

    here, there = ContentStore(MemoryStore(), "here"), ContentStore(MemoryStore(), "there")
    attach(here, SUBJECT, ATTESTATION, b"whole")
    for store in (here, there):
        obstore.put(store._store, f"referrers/{SUBJECT.removeprefix('sha256:')}/{name}", b"rubbish")
    assert copy_referrers(SUBJECT, here, there) == 1
    assert copy_referrers(SUBJECT, here, there) == 0
    assert documents(there, SUBJECT, ATTESTATION) == (b"whole",)


def test_an_approval_that_the_ledger_does_not_count_is_none(keys, policy) -> None:
    other = replace(CLAIMS[Kind.APPROVAL], details={"order": "order-2"})
    envelopes = (signed(keys) | {Kind.APPROVAL: attest(other, keys[Kind.APPROVAL].key).to_bytes()}).values()
    (reason,) = verify_all(SUBJECT, envelopes, policy)
    assert "the approval of night-shift is none by which the release may have traffic" in reason


def test_what_was_said_of_another_model_of_the_same_files_does_not_count(keys, policy) -> None:
    (reason, *_) = verify_all(SUBJECT, signed(keys).values(), replace(policy, model="other"))
    assert f"it is about another revision, {SUBJECT} of model employment" in reason


def test_an_envelope_with_more_signatures_than_anybody_gives_is_none(keys) -> None:
    one = attest(CLAIMS[Kind.SCAN], keys[Kind.SCAN].key)
    with pytest.raises(InputError, match="no DSSE envelope"):
        Envelope.from_bytes(replace(one, signatures=one.signatures * 17).to_bytes())
