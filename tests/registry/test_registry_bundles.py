"""A model-signing bundle vouches for every file of a folder or for none: what it ignores by default is no hole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import InputError
from registry.bundles import verify_with_certificates, verify_with_key


def private(key: EllipticCurvePrivateKey, file: Path) -> Path:
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def public(key: EllipticCurvePrivateKey, file: Path) -> Path:
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


class Signed:
    """A model folder, its bundle beside it, and the public key."""

    def __init__(self, root: Path, shards: bool = False) -> None:
        from model_signing import hashing, signing

        self.model, self.bundle = root / "model", root / "model.sig"
        files = {"weights.bin": b"w" * 5_000, "src/MLmodel": b"flavors: {}\n"} | ({} if shards else {"empty.txt": b""})
        for path, data in files.items():
            (self.model / path).parent.mkdir(parents=True, exist_ok=True)
            (self.model / path).write_bytes(data)
        key = generate_private_key(SECP256R1())
        self.public = public(key, root / "key.pub")
        config = signing.Config().use_elliptic_key_signer(private_key=private(key, root / "key.pem"))
        if shards:
            config = config.set_hashing_config(hashing.Config().use_shard_serialization(shard_size=1_024))
        config.sign(self.model, self.bundle)

    def verified(self) -> tuple[str, ...]:
        return verify_with_key(self.model, self.bundle, self.public)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


@pytest.mark.parametrize("shards", [False, True])
def test_what_was_signed_verifies(tmp_path: Path, shards: bool) -> None:
    assert Signed(tmp_path, shards).verified() == ()


def write(path: str) -> Callable[[Path], None]:
    def act(model: Path) -> None:
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_text("import os\n")

    return act


@pytest.mark.parametrize(
    "attack",
    [
        write("weights.bin"),
        write("extra.py"),
        write(".gitignore"),
        write(".gitattributes"),
        write(".github/x/run.py"),
        write(".git/hooks/post-checkout"),
        lambda model: (model / "weights.bin").unlink(),
        lambda model: (model / "weights.bin").rename(model / "weights2.bin"),
        lambda model: (model / "src" / "plugins").mkdir(),
        lambda model: (model / ".git").mkdir(),
        lambda model: (model / "passwd").symlink_to("/etc/passwd"),
        lambda model: (model / ".github").symlink_to("/etc"),
        lambda model: (model / "zero").touch(),
        lambda model: (model / "WEIGHTS.bin").write_bytes(b"w" * 5_000),
    ],
)
@pytest.mark.parametrize("shards", [False, True])
def test_whatever_was_done_to_the_folder_is_refused(tmp_path: Path, attack: Callable[[Path], None], shards: bool) -> None:
    signed = Signed(tmp_path, shards)
    attack(signed.model)
    assert signed.verified()


def test_model_signing_alone_would_accept_what_is_added_under_github(signed: Signed) -> None:
    """Why the closed world stands on top: this is its default."""
    from model_signing import verifying

    write(".github/x.py")(signed.model)
    verifying.Config().use_elliptic_key_verifier(public_key=signed.public).verify(signed.model, signed.bundle)
    assert signed.verified() == ("'.github/x.py' is not signed",)


def test_an_empty_file_has_no_shard_so_nothing_signs_it(tmp_path: Path) -> None:
    """Signed in shards, a file without bytes is covered by nothing, and one that is added changes no digest."""
    signed = Signed(tmp_path, shards=True)
    (signed.model / "sitecustomize.py").touch()
    assert signed.verified() == ("'sitecustomize.py' is not signed",)


def test_the_bundle_itself_may_lie_in_the_folder_that_it_signs(signed: Signed, tmp_path: Path) -> None:
    from model_signing import hashing, signing

    inside = signed.model / "model.sig"
    key = generate_private_key(SECP256R1())
    ignoring = hashing.Config().set_ignored_paths(paths=[inside])
    config = signing.Config().use_elliptic_key_signer(private_key=private(key, tmp_path / "inside.pem")).set_hashing_config(ignoring)
    config.sign(signed.model, inside)
    their = public(key, tmp_path / "inside.pub")
    assert verify_with_key(signed.model, inside, their) == ()
    # What the signer had ignored is ignored by model-signing ever after, and not by us
    elsewhere = tmp_path / "elsewhere.sig"
    elsewhere.write_bytes(inside.read_bytes())
    assert verify_with_key(signed.model, elsewhere, their) == ("'model.sig' is not signed",)


def test_another_key_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = public(generate_private_key(SECP256R1()), tmp_path / "other.pub")
    (reason,) = verify_with_key(signed.model, signed.bundle, other)
    assert reason.startswith("model-signing refuses it")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff"])
def test_what_is_no_bundle_is_refused(signed: Signed, data: bytes) -> None:
    signed.bundle.write_bytes(data)
    assert signed.verified()


def test_what_is_not_there_is_told(signed: Signed, tmp_path: Path) -> None:
    signed.bundle.unlink()
    with pytest.raises(InputError, match=r"model\.sig"):
        signed.verified()
    assert verify_with_key(tmp_path / "nothing", signed.bundle, signed.public) == (f"{tmp_path / 'nothing'} is not a folder",)


# Certificates


def certificate(name: str, key: EllipticCurvePrivateKey, by: tuple[str, EllipticCurvePrivateKey] | None = None) -> x509.Certificate:
    issuer, signer = by or (name, key)
    now, authority = datetime.now(UTC), by is None
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    return builder.sign(signer, SHA256())


def test_a_certificate_vouches_only_through_a_chain_that_is_trusted(signed: Signed, tmp_path: Path) -> None:
    from model_signing import signing

    root, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    files = {
        "root": certificate("root", root),
        "signer": certificate("signer", key, ("root", root)),
        "other": certificate("root", generate_private_key(SECP256R1())),
    }
    for name, found in files.items():
        (tmp_path / name).write_bytes(found.public_bytes(Encoding.PEM))
    signing.Config().use_certificate_signer(
        private_key=private(key, tmp_path / "signer.pem"), signing_certificate=tmp_path / "signer", certificate_chain=[tmp_path / "root"]
    ).sign(signed.model, signed.bundle)
    assert verify_with_certificates(signed.model, signed.bundle, (tmp_path / "root",)) == ()
    assert verify_with_certificates(signed.model, signed.bundle, (tmp_path / "other",))
    with pytest.raises(InputError, match="no certificate is trusted"):
        verify_with_certificates(signed.model, signed.bundle, ())
    write(".github/x.py")(signed.model)
    assert verify_with_certificates(signed.model, signed.bundle, (tmp_path / "root",)) == ("'.github/x.py' is not signed",)
