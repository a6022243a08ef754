"""A version that must be signed: the bundle is OpenSSF's own, and every file of the model is covered by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError

from fleet.declared_gates import Gates
from fleet.declared_signature import Signature
from fleet.errors import InputError
from fleet.evidence import GateOutcome
from flows.signatures import signature_doubts
from policies.files.contents import Content, look
from policies.files.seen import Bounds
from policies.signed import ModelSigned
from support.stack import house_without_servers

KEYS = {"signature": {"keys": ["old.pub", "new.pub"]}}


def key(folder: Path, name: str) -> Path:
    """Write a key pair, and return where its private half lies."""
    made = generate_private_key(SECP256R1())
    (folder / f"{name}.pub").write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / f"{name}.pem").write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / f"{name}.pem"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that the second of two declared keys signed, with its bundle among its files."""
    from model_signing import signing

    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / ".gitattributes").write_text("* -text\n")
    key(tmp_path, "old")
    config = signing.Config().use_elliptic_key_signer(private_key=key(tmp_path, "new"))
    from model_signing import hashing

    config = config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    config.sign(model, tmp_path / "made.sig")
    (tmp_path / "made.sig").rename(model / "model.sig")
    return model


def declared(tmp_path: Path, gates: dict[str, Any]) -> Any:
    (model, *_) = house_without_servers(tmp_path / "home").fleet.models.values()
    return model.model_copy(update={"gates": Gates.model_validate(gates)})


def doubts(folder: Path, gates: dict[str, Any] = KEYS) -> tuple[str, ...] | None:
    return signature_doubts(declared(folder.parent, gates), folder.parent, folder)


def test_one_of_the_declared_keys_is_enough_and_the_bundle_is_a_file_that_a_model_may_have(folder: Path) -> None:
    assert doubts(folder) == ()
    model = declared(folder.parent, KEYS)
    assert ModelSigned().judge(model, ()).outcome is GateOutcome.PASSED
    bundle = folder / "model.sig"
    with bundle.open("rb") as file:
        assert look(file, Content("model.sig", bundle.stat().st_size, Bounds(1 << 20, 10, 10))).problems == ()


@pytest.mark.parametrize("path", ["later.txt", ".gitattributes", ".gitignore"])
def test_a_file_that_came_later_or_was_changed_is_named(folder: Path, path: str) -> None:
    (folder / path).write_text("another\n")
    found = doubts(folder)
    assert found
    assert any(path in doubt for doubt in found)
    result = ModelSigned().judge(declared(folder.parent, KEYS), found)
    assert result.outcome is GateOutcome.FAILED
    assert result.reasons[0].startswith("by old.pub: ")


def test_a_strangers_signature_a_missing_bundle_and_one_that_is_a_link_are_refused(folder: Path) -> None:
    assert doubts(folder, {"signature": {"keys": ["old.pub"]}})
    (folder / "model.sig").rename(folder.parent / "elsewhere.sig")
    assert doubts(folder) == ("the model has no file model.sig: sign what MLflow holds, and log the bundle beside it",)
    (folder / "model.sig").symlink_to(folder.parent / "elsewhere.sig")
    assert doubts(folder) == ("the model has no file model.sig: sign what MLflow holds, and log the bundle beside it",)


def test_a_key_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.pub"):
        doubts(folder, {"signature": {"keys": ["gone.pub"]}})


def test_without_a_declaration_it_does_not_apply_and_unlooked_at_it_passes_nothing(folder: Path) -> None:
    assert doubts(folder, {}) is None
    assert ModelSigned().judge(declared(folder.parent, {}), None).outcome is GateOutcome.NOT_APPLICABLE
    assert ModelSigned().judge(declared(folder.parent, KEYS), None).outcome is GateOutcome.INCONCLUSIVE


@pytest.mark.parametrize(
    "wrong",
    [{}, {"keys": ["a.pub"], "certificates": ["a.pem"]}, {"keys": ["/a.pub"]}, {"keys": ["a.pub"], "bundle": "../a.sig"},
     {"keys": ["a.pub"], "bundle": "MLmodel"}],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Signature.model_validate(wrong)
