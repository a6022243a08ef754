"""A folder is a revision only with every file of the manifest and nothing else: no false accept."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from fleet.errors import IntegrityError
from fleet.manifest import Manifest, manifest_of
from registry.closed_world import clashes, differences
from registry.store import ContentStore

FILES = {
    "src/model/weights.bin": random.Random(7).randbytes(20_000),
    "src/model/MLmodel": b"flavors: {}\n",
    "src/convoy_service/bento.py": b"print()\n",
    "bento.yaml": b"name: employment\n",
    "src/__init__.py": b"",
}


def made(root: Path) -> Path:
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made(tmp_path / "revision")


def flipped_at(place: int) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        bits = bytearray(FILES["src/model/weights.bin"])
        bits[place // 8] ^= 1 << place % 8
        (root / "src/model/weights.bin").write_bytes(bits)

    return act


def added(path: str, data: bytes = b"import os\n") -> Callable[[Path], None]:
    def act(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return act


def device(root: Path) -> None:
    os.mkfifo(root / "src" / "pipe")


def linked(root: Path, name: str) -> None:
    (root / name).rename(root.parent / "elsewhere")
    (root / name).symlink_to(root.parent / "elsewhere")


PLACES = random.Random(2026).sample(range(20_000 * 8), 20)
ATTACKS: dict[str, Callable[[Path], object]] = {
    **{f"bit {place} flipped": flipped_at(place) for place in PLACES},
    "renamed": lambda root: (root / "bento.yaml").rename(root / "bento.yml"),
    "moved": lambda root: (root / "bento.yaml").rename(root / "src" / "bento.yaml"),
    "deleted": lambda root: (root / "src/model/MLmodel").unlink(),
    "deleted, which was empty": lambda root: (root / "src/__init__.py").unlink(),
    "added": added("src/model/extra.py"),
    "added .github/x.py": added(".github/x.py"),
    "added .gitignore": added(".gitignore"),
    "added .git/config": added(".git/config"),
    "added __pycache__": added("src/__pycache__/x.pyc"),
    "an empty folder": lambda root: (root / "src" / "plugins").mkdir(),
    "an empty folder named .git": lambda root: (root / ".git").mkdir(),
    "a symlink out": lambda root: (root / "src" / "passwd").symlink_to("/etc/passwd"),
    "a symlink to the same bytes": lambda root: linked(root, "bento.yaml"),
    "a symlinked folder": lambda root: linked(root, "src"),
    "a dangling symlink": lambda root: (root / "src" / "gone").symlink_to("nowhere"),
    "a case-fold clash": added("src/model/mlMODEL", FILES["src/model/MLmodel"]),
    "a 0-byte file": added("src/model/sitecustomize.py", b""),
    "cut to 0 bytes": lambda root: (root / "bento.yaml").write_bytes(b""),
    "appended to": lambda root: (root / "bento.yaml").write_bytes(FILES["bento.yaml"] + b"\n"),
    "made runnable": lambda root: (root / "bento.yaml").chmod(0o755),
    "a named pipe": device,
    "a file where a folder was": lambda root: (shutil.rmtree(root / "src/convoy_service"), (root / "src/convoy_service").touch()),
    "a folder where a file was": lambda root: ((root / "bento.yaml").unlink(), (root / "bento.yaml").mkdir()),
    "a name that is no text": lambda root: (root / os.fsdecode(b"\xff\xfe")).write_bytes(b""),
}


def test_a_folder_as_it_was_has_no_difference(root: Path) -> None:
    assert differences(root, manifest_of(root)) == ()


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_was_done_to_a_folder_is_told_and_it_is_not_fetched(tmp_path: Path, root: Path, attack: str) -> None:
    store = ContentStore(MemoryStore(), "memory")
    manifest = store.put_tree(root)
    ATTACKS[attack](root)
    assert differences(root, manifest)
    with pytest.raises(IntegrityError, match=f"is not revision {manifest.digest}"):
        store.fetch_tree(manifest.digest, root)


def test_a_link_in_the_place_of_the_folder_is_told(tmp_path: Path, root: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    assert differences(link, manifest_of(root)) == (f"{link} is not a folder",)


def test_a_manifest_with_a_path_twice_describes_no_folder(root: Path) -> None:
    manifest = manifest_of(root)
    assert differences(root, Manifest((*manifest.entries, manifest.entries[0]))) == ("the manifest has a path twice",)


@pytest.mark.parametrize(
    ("paths", "told"),
    [
        (("a/B.py", "a/b.py"), 1),
        (("A/x", "a/y"), 1),
        (("caf\u00e9", "cafe\u0301"), 1),
        (("stra\u00dfe", "strasse"), 1),
        (("a/b", "a/c", "b/a"), 0),
    ],
)
def test_names_that_are_one_on_some_disks_are_told(paths: tuple[str, ...], told: int) -> None:
    assert len(clashes(paths)) == told


def test_a_tree_whose_names_clash_is_not_stored(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("Model.bin", "model.bin"):
        (tmp_path / "tree" / name).write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"'Model\.bin' and 'model\.bin' are one name"):
        ContentStore(MemoryStore(), "memory").put_tree(tmp_path / "tree")
