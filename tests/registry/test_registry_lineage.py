from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.addresses import Reach
from fleet.canonical import digest_of, digest_of_file
from fleet.errors import InputError, IntegrityError, NotSupported, Refused, TransientError, UnknownName
from fleet.settings import inherited_environment
from fleet.versions import DataLineage
from registry.lineage import describe, fetch, read_tags, record_tags

ROWS = b"age,employed\n" + b"".join(b"%d,%d\n" % (age, age % 2) for age in range(5000))
LATER = ROWS + b"99,1\n"
FILE = "data/v1.csv"


def git(repository: Path, *arguments: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=Census", "-c", "user.email=census@example.org", *arguments]
    done = subprocess.run(command, cwd=repository, env=inherited_environment() | identity, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Git and DVC repository with two versions of a file, its remote beside it."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("lineage") / "rows"
    (root / "data" / "many").mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    with Repo.init(str(root)) as made, made.config.edit() as config:
        config["remote"]["store"] = {"url": str(root.parent / "remote")}
        config["core"] |= {"remote": "store", "analytics": False}
    (root / "README.md").write_text("in Git alone\n")
    (root / "data" / "many" / "a.csv").write_bytes(ROWS)
    for rows, message in ((ROWS, "first rows"), (LATER, "later rows")):
        (root / FILE).write_bytes(rows)
        with Repo(str(root)) as opened:
            opened.add([str(root / FILE), str(root / "data" / "many")])
            opened.push()
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", message)
    git(root, "tag", "first", "HEAD~1")
    return root


@pytest.fixture(scope="module")
def lineage(repository: Path) -> DataLineage:
    return describe(str(repository), "first", FILE)


def test_a_lineage_says_where_the_rows_are(repository: Path, lineage: DataLineage):
    assert lineage.repository == str(repository)
    assert lineage.commit == git(repository, "rev-parse", "first")
    assert lineage.path == FILE
    assert lineage.remote == str(repository.parent / "remote")
    assert lineage.sha256 == digest_of(ROWS)
    assert lineage.dvc_hash.startswith("md5:")
    assert describe(str(repository), "HEAD", FILE).sha256 == digest_of(LATER)


def test_tags_carry_a_lineage_there_and_back(lineage: DataLineage):
    tags = record_tags(lineage)
    assert sorted(tags) == [f"convoy.data.{name}" for name in ("commit", "dvc_hash", "path", "remote", "repository", "sha256")]
    assert read_tags(tags | {"owner": "somebody"}) == lineage
    assert read_tags({"owner": "somebody"}) is None
    del tags["convoy.data.sha256"]
    with pytest.raises(InputError, match=r"convoy\.data\.sha256"):
        read_tags(tags)


def test_rows_are_fetched_again_and_verified(lineage: DataLineage, tmp_path: Path):
    file = fetch(lineage, tmp_path / "deep" / "v1.csv")
    assert file.read_bytes() == ROWS
    before = file.stat().st_mtime_ns
    assert fetch(lineage, file) == file
    assert file.stat().st_mtime_ns == before
    file.write_bytes(b"half")
    assert digest_of_file(fetch(lineage, file)) == lineage.sha256


def test_rows_come_from_a_clone_and_the_recorded_remote_too(repository: Path, lineage: DataLineage, tmp_path: Path):
    clone = tmp_path / "clone.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(clone))
    assert fetch(replace(lineage, repository=f"file://{clone}"), tmp_path / "v1.csv").read_bytes() == ROWS


def test_rows_that_are_not_what_was_recorded_are_refused(lineage: DataLineage, tmp_path: Path):
    kept = tmp_path / "v1.csv"
    kept.write_bytes(b"older")
    with pytest.raises(IntegrityError, match=r"(?s)v1\.csv.*was recorded"):
        fetch(replace(lineage, sha256=digest_of(b"other")), kept)
    assert kept.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["v1.csv"]


def test_rows_changed_behind_dvcs_back_are_refused(repository: Path, tmp_path: Path):
    """Both copies that DVC has of the later rows are overwritten under their old name."""
    later = describe(str(repository), "main", FILE)
    name = later.dvc_hash.removeprefix("md5:")
    for files in (repository / ".dvc" / "cache", repository.parent / "remote"):
        stored = files / "files" / "md5" / name[:2] / name[2:]
        stored.chmod(0o644)
        stored.unlink()
        stored.write_bytes(LATER.replace(b"99,1", b"99,0"))
    with pytest.raises(IntegrityError):
        fetch(later, tmp_path / "v1.csv")
    assert not (tmp_path / "v1.csv").exists()


@pytest.mark.parametrize(
    ("revision", "path", "error"),
    [
        ("never", FILE, UnknownName),
        ("first", "data/none.csv", UnknownName),
        ("first", "README.md", InputError),
        ("first", "data/many", NotSupported),
    ],
)
def test_what_has_no_lineage_says_why(repository: Path, revision: str, path: str, error: type[Exception]):
    with pytest.raises(error, match=path):
        describe(str(repository), revision, path)


def test_a_repository_that_is_not_there_is_reported(tmp_path: Path):
    with pytest.raises(TransientError, match="could not be cloned"):
        describe(f"file://{tmp_path}/nowhere", "HEAD", FILE)
    with pytest.raises(InputError, match="Git and DVC repository"):
        describe(str(tmp_path), "HEAD", FILE)


def test_a_repository_without_a_remote_cannot_be_recorded(repository: Path, tmp_path: Path):
    git(tmp_path, "clone", "-q", str(repository), "lonely")
    config = tmp_path / "lonely" / ".dvc" / "config"
    config.write_text("")
    git(tmp_path / "lonely", "commit", "-q", "-a", "-m", "no remote")
    with pytest.raises(InputError, match=r"no default DVC remote|DVC remote"):
        describe(str(tmp_path / "lonely"), "HEAD", FILE)


METADATA = "http://169.254.169.254/latest"


@pytest.mark.parametrize(
    "changed",
    [
        {"remote": METADATA},
        {"remote": "http://[::1]/rows"},
        {"repository": "http://169.254.169.254/rows.git"},
        {"repository": "ext::sh -c 'touch ran'"},
        {"repository": "--upload-pack=touch ran"},
        {"commit": "--output=ran"},
        {"path": "../../etc/passwd"},
        {"path": "/etc/passwd"},
        {"path": "data/%2e%2e/%2e%2e/secret"},
    ],
)
def test_ssrf_and_traversal_by_the_tags_of_a_version_are_refused_before_anything_is_asked(
    lineage: DataLineage, tmp_path: Path, changed: dict[str, str]
):
    asked: list[str] = []
    reach = Reach(resolve=lambda host: asked.append(host) or ())
    with pytest.raises(Refused):
        fetch(replace(lineage, **changed), tmp_path / "rows.csv", reach)
    assert asked == []
    assert not (tmp_path / "rows.csv").exists()


def test_ssrf_by_a_repositorys_own_remotes_is_refused(repository: Path, lineage: DataLineage, tmp_path: Path):
    """A tracked file may name any remote of its repository, so each is looked at."""
    git(tmp_path, "clone", "-q", str(repository), "clone")
    clone = tmp_path / "clone"
    with (clone / ".dvc" / "config").open("a") as config:
        config.write(f"['remote \"inside\"']\n    url = s3://bucket/rows\n    endpointurl = {METADATA}\n")
    git(clone, "commit", "-q", "-a", "-m", "another remote")
    for act in (
        lambda: describe(str(clone), "HEAD", FILE),
        lambda: fetch(replace(lineage, repository=str(clone), commit=git(clone, "rev-parse", "HEAD")), tmp_path / "rows.csv"),
    ):
        with pytest.raises(Refused, match=r"the DVC remote 'inside'.*169\.254\.169\.254"):
            act()


def test_rows_that_dvc_imports_from_another_place_are_not_followed(repository: Path, tmp_path: Path):
    from dvc.repo import Repo

    git(tmp_path, "clone", "-q", str(repository), "clone")
    (tmp_path / "elsewhere.csv").write_bytes(ROWS)
    with Repo(str(tmp_path / "clone")) as opened:
        opened.imp_url(str(tmp_path / "elsewhere.csv"), str(tmp_path / "clone" / "data" / "imported.csv"))
    git(tmp_path / "clone", "add", "-A")
    git(tmp_path / "clone", "commit", "-q", "-m", "an import")
    with pytest.raises(NotSupported, match="imported by DVC"):
        describe(str(tmp_path / "clone"), "HEAD", "data/imported.csv")
