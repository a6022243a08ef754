"""What package managers recorded in a container is told, nothing of the machine, and quickly whatever it was made to be."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bentos.container import packages as recorded
from bentos.container.packages import Found, Told, packages_in
from support.images import STATUS


def test_the_packages_that_managers_recorded_are_told_and_what_nobody_recorded_is_said(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for place, text in {
        "var/lib/dpkg/status": STATUS,
        "var/lib/dpkg/status.d/libc6": "Package: libc6\nVersion: 2.36\n",
        "lib/apk/db/installed": "C:Q1\nP:musl\nV:1.2.5-r0\n\nP:busybox\nV:1.36\n",
        "usr/lib/python3/numpy-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Num_Py\nVersion: 2.0\n\nVersion: 9\n",
        "usr/lib/sysimage/rpm/rpmdb.sqlite": "x",
    }.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/METADATA").write_text("Name: leaked\nVersion: 1\n")
    (root / "evil.dist-info").symlink_to(tmp_path / "secret")
    (root / "more.dist-info").mkdir()
    (root / "more.dist-info/METADATA").symlink_to(tmp_path / "secret/METADATA")

    told = packages_in(root)
    assert told.packages == (
        Found("apk", "busybox", "1.36"),
        Found("apk", "musl", "1.2.5-r0"),
        Found("deb", "libc6", "2.36"),
        Found("deb", "libgomp1", "12.2.0-14"),
        Found("pypi", "num-py", "2.0"),
    )
    assert [text for text in told.untold if "rpm" in text]
    assert [text for text in told.untold if "no package manager recorded" in text]


def packages_of(root: Path, files: dict[str, str]) -> Told:
    for place, text in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return packages_in(root)


@pytest.mark.parametrize("text", ["Package: a\n" * 200_000, "P:a\n" * 200_000, "Package: a\nVersion: " + "1" * 1_000_000])
def test_records_that_were_made_to_keep_a_reader_busy_are_read_at_once(text: str, tmp_path: Path) -> None:
    began = time.process_time()
    told = packages_of(tmp_path, {"var/lib/dpkg/status": text, "lib/apk/db/installed": text})
    assert told.packages == ()
    assert time.process_time() - began < 5


def test_of_more_packages_than_anybody_reads_the_first_are_told_and_that_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "MOST_PACKAGES", 3)
    told = packages_of(tmp_path, {"var/lib/dpkg/status": "\n\n".join(f"Package: p{number}\nVersion: 1" for number in range(9))})
    assert len(told.packages) == 3
    assert [text for text in told.untold if "more than 3 packages" in text]


def test_a_record_of_many_names_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "a0.dist-info"
    told = packages_of(tmp_path, {"a0.dist-info/METADATA": "Name: a\nVersion: 1\n"})
    for number in range(1, 9):
        (tmp_path / f"a{number}.dist-info").mkdir()
        (tmp_path / f"a{number}.dist-info/METADATA").hardlink_to(first / "METADATA")
    read: list[Path] = []
    monkeypatch.setattr(recorded, "_text", lambda path: read.append(path) or path.read_text())
    assert packages_in(tmp_path) == told
    assert len(read) == 1
