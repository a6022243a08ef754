"""What `convoy package` makes of its options, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bentos.oci.image import Image
from control import package_commands
from control.package_commands import Wanted, package
from fleet.errors import InputError
from fleet.versions import Revision
from flows.images import Order, Packed
from support.images import AMD64, ARM64

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """What the flow is asked for; nothing is packaged."""
    orders: list[Order] = []

    def answer(house: Any, order: Order, say: Any) -> Packed:
        orders.append(order)
        say("building [the] Bento")
        image = (
            None
            if order.image is None
            else Image("sha256:" + "b" * 64, "3-aaaaaaaaaaaa", b"", dict.fromkeys(order.image.bases, b""), (), 7)
        )
        return Packed(Revision(order.model, order.version, DIGEST), 2, 1 << 20, ("prophet==1.1",), False, image, None)

    monkeypatch.setattr(package_commands, "package_version", answer)
    return orders


def wanted(**more: Any) -> Wanted:
    return Wanted(
        **({"model": "m", "version": "3", "out": None, "oci": None, "bases": (), "environments": (), "platforms": (), "load": False} | more)
    )


def test_bases_and_environments_are_for_all_platforms_or_for_one(asked: list[Order], tmp_path: Path) -> None:
    both = ("linux/amd64", "arm64")
    package(wanted(oci=tmp_path / "i", bases=("base",), environments=("arm64=arm", "amd64=amd"), platforms=both), as_json=True)
    (order,) = asked

    assert order.image is not None
    assert order.image.bases == {AMD64: Path("base"), ARM64: Path("base")}
    assert order.image.environments == {ARM64: Path("arm"), AMD64: Path("amd")}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"bases": ("base",)}, "is about an image, and none is asked for"),
        ({"load": True}, "is about an image, and none is asked for"),
        ({"oci": Path("i")}, "has no base to begin with, and none can be pulled"),
        ({"oci": Path("i"), "bases": ("amd64=b",), "platforms": ("amd64", "arm64")}, "image for linux/arm64"),
        ({"oci": Path("i"), "bases": ("arm64=b",), "platforms": ("amd64",)}, "no image for it is asked for"),
        ({"oci": Path("i"), "bases": ("a", "b")}, "is a second one for"),
        ({"oci": Path("i"), "bases": ("b",), "platforms": ("windows/amd64",)}, "known: linux/amd64, linux/arm64"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_anything_is_done(
    more: dict[str, Any], told: str, asked: list[Order]
) -> None:
    with pytest.raises(InputError, match=told):
        package(wanted(**more), as_json=False)
    assert asked == []


def test_json_says_what_came_of_it_and_people_are_told_what_is_not_locked_by_hash(
    asked: list[Order], capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    package(wanted(oci=tmp_path / "i", bases=("base",), platforms=("amd64",)), as_json=True)
    told = json.loads(capfdbinary.readouterr().out)
    package(wanted(), as_json=False)
    people = capfdbinary.readouterr()

    assert (told["revision"], told["locked_by_hash"], told["unhashed"]) == (DIGEST, False, ["prophet==1.1"])
    assert told["image"]["platforms"] == ["linux/amd64"]
    assert b"Convoy's lock has not prophet==1.1" in people.out
    assert b"nothing was released" in people.out
    assert b"building [the] Bento" in people.err
