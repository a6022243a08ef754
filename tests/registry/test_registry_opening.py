"""Opening a store: the declared address alone says where the bytes go, and credentials come from where their provider has them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from fleet.canonical import digest_of
from fleet.declared_store import place_of
from fleet.errors import Denied, InputError
from fleet.settings import STORE_VARIABLES
from registry.opening import open_store
from registry.store import ContentStore
from support.object_stores import S3_KEYS, azure_place, meddling, s3_place

NOWHERE = Path("/nowhere")
GOOGLE_KEY = {"type": "service_account", "private_key": "none", "private_key_id": "1", "client_email": "convoy@example.org"}


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process has no credentials at all, and no machine gives it any."""
    for names in STORE_VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_without_an_address_it_is_the_folder(tmp_path: Path) -> None:
    store = open_store(None, tmp_path / "store")
    assert store.put_blob(digest_of(b"x"), b"x")
    assert ContentStore.at(tmp_path / "store").get_blob(digest_of(b"x")) == b"x"


def test_without_any_credentials_of_amazons_chain_one_is_told_what_to_set() -> None:
    with pytest.raises(Denied, match="no credentials were found") as caught:
        open_store(place_of("s3://models/x", place="eu-west-1"), NOWHERE)
    assert "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in caught.value.remedy


def test_a_profile_of_amazons_files_is_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[convoy]\naws_access_key_id = AKIA\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "convoy")
    assert open_store(place_of("s3://models/x", place="eu-west-1"), NOWHERE).name == "s3://models/x"
    monkeypatch.setenv("AWS_PROFILE", "another")
    with pytest.raises(Denied, match="ProfileNotFound"):
        open_store(place_of("s3://models/x", place="eu-west-1"), NOWHERE)


def test_the_environment_leads_no_byte_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    with meddling("http://127.0.0.1:9") as declared, meddling("http://127.0.0.1:9") as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", other.endpoint)
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        with pytest.raises(Exception, match="store s3"):
            open_store(s3_place(declared.endpoint), NOWHERE).put_blob(digest_of(b"x"), b"x")
    assert other.sent == []
    assert declared.sent
    assert all("authorization" in headers for headers in declared.sent)


@pytest.mark.parametrize(
    ("region", "url"),
    [("eu-west-1", "https://s3.eu-west-1.amazonaws.com"), ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn")],
)
def test_amazons_own_endpoint_is_the_one_of_the_region(region: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    opened = open_store(place_of("s3://models/x", place=region), NOWHERE)._store
    assert isinstance(opened, S3Store)
    assert (opened.config["region"], opened.prefix) == (region, "x")
    assert obstore.sign(opened, "GET", "blobs", expires_in=timedelta(hours=1)).startswith(f"{url}/models/x/blobs?")


def test_googles_store_is_made_of_its_address_and_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here speaks the interface that obstore speaks with Google, so no byte is ever sent: see docs/stores.md."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    (tmp_path / "key.json").write_text(json.dumps({**GOOGLE_KEY, "private_key": pem}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    opened = open_store(place_of("gs://models/x"), NOWHERE)._store
    assert isinstance(opened, GCSStore)
    assert (opened.config["bucket"], opened.prefix) == ("models", "x")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(InputError, match="store gs://models/x: cannot be opened"):
        open_store(place_of("gs://models/x"), NOWHERE)


@pytest.mark.parametrize(("name", "value"), [("AZURE_STORAGE_ACCOUNT_KEY", "no base64: s3cret!"), ("AZURE_STORAGE_SAS_TOKEN", "s3cret")])
def test_credentials_that_cannot_be_read_are_told_and_not_repeated(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="cannot be opened") as caught:
        open_store(azure_place("http://127.0.0.1:9"), NOWHERE)
    assert "s3cret" not in str(caught.value)


def test_azures_store_is_the_one_of_the_account_in_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bm90IHRoZSBrZXk=")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "another")
    opened = open_store(place_of("https://models4eu.blob.core.windows.net/models/x"), NOWHERE)._store
    assert isinstance(opened, AzureStore)
    signed = obstore.sign(opened, "GET", "blobs", expires_in=timedelta(hours=1))
    assert signed.startswith("https://models4eu.blob.core.windows.net/models/x/blobs?")
