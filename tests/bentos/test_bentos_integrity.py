import random
from pathlib import Path

import pytest
from bentos_serving import digest_of, launched

from bentos.service import cutting as shipped
from bentos.service.errors import FilesDiffer
from bentos.service.integrity import digest_of_folder, verify
from fleet import cutting
from fleet.manifest import manifest_of


def flip_a_byte(root: Path) -> str:
    file = root / "src" / "model" / "conda.yaml"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    return "src/model/conda.yaml has other bytes"


def add_a_file(root: Path) -> str:
    (root / "src" / "sitecustomize.py").write_text("")
    return "src/sitecustomize.py does not belong"


def add_an_empty_folder(root: Path) -> str:
    (root / "src" / "sitecustomize").mkdir()
    return "src/sitecustomize does not belong"


def take_a_file(root: Path) -> str:
    (root / "README.md").unlink()
    return "README.md is missing"


def make_a_file_executable(root: Path) -> str:
    (root / "README.md").chmod(0o755)
    return "README.md has the mode 755, not 644"


def put_a_link(root: Path) -> str:
    (root / "README.md").unlink()
    (root / "README.md").symlink_to("/etc/hostname")
    return "README.md is a link or a special file"


def change_the_manifest(root: Path) -> str:
    manifest = root.with_name("revision.manifest")
    manifest.write_bytes(manifest.read_bytes() + b" ")
    return "revision.manifest has the digest sha256:"


def take_the_manifest(root: Path) -> str:
    root.with_name("revision.manifest").unlink()
    return "revision.manifest cannot be read"


DAMAGES = [
    flip_a_byte,
    add_a_file,
    add_an_empty_folder,
    take_a_file,
    make_a_file_executable,
    put_a_link,
    change_the_manifest,
    take_the_manifest,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_kind_of_damage_is_found_and_named(damage, copy_of_logistic):
    revision = digest_of(copy_of_logistic)
    reason = damage(copy_of_logistic)

    with pytest.raises(FilesDiffer) as found:
        verify(copy_of_logistic, copy_of_logistic.with_name("revision.manifest"), revision)
    assert reason in str(found.value)


@pytest.mark.parametrize("damage", [flip_a_byte, add_a_file, take_a_file])
def test_a_damaged_revision_is_never_ready_and_its_process_exits_3_with_the_reason(damage, copy_of_logistic, tmp_path):
    revision = digest_of(copy_of_logistic)
    reason = damage(copy_of_logistic)
    answers = []

    with launched(copy_of_logistic, tmp_path / "log", revision=revision) as service:
        while service.process.poll() is None:
            answer = service.health()
            answers += [answer] if answer is not None else []
        assert service.process.returncode == 3
        assert f"never ready: {copy_of_logistic} is not {revision}: {reason}" in service.text()

    assert answers
    assert {answer.status_code for answer in answers} == {503}
    assert reason in answers[-1].json()["error"]


def test_an_undamaged_revision_passes(copy_of_logistic):
    verify(copy_of_logistic, copy_of_logistic.with_name("revision.manifest"), digest_of(copy_of_logistic))


def test_what_ships_cuts_as_the_registry_does():
    assert Path(shipped.__file__).read_text() == Path(cutting.__file__).read_text()


def test_the_service_measures_a_folder_as_the_registry_does(logistic_bento, tmp_path):
    (tmp_path / "grüße.bin").write_bytes(random.Random(1).randbytes(300_000))
    (tmp_path / "run").write_text('"\n')
    (tmp_path / "run").chmod(0o700)
    (tmp_path / "nothing").touch()

    for folder in (logistic_bento, tmp_path):
        assert digest_of_folder(folder) == manifest_of(folder).digest


def test_bytecode_does_not_change_the_digest_of_a_bento_started_by_hand(copy_of_logistic):
    (copy_of_logistic / "src" / "__pycache__").mkdir()
    (copy_of_logistic / "src" / "__pycache__" / "service.pyc").write_bytes(b"x")

    assert digest_of_folder(copy_of_logistic) == digest_of(copy_of_logistic)
