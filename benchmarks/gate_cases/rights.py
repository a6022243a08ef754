"""The gates of rights: attacks that are let in and ordinary inputs that are refused, by class, and what the gates take."""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rights_world import NOW, advisory, candidate, gated

from benchmarks.form import Row, measured
from bentos.needs import needs_of
from bentos.requirements import locked
from fleet.addresses import Reach
from fleet.components import Needs
from fleet.errors import ConvoyError
from fleet.image_inputs import unfit_base_image, unfit_system_package
from policies.archives import Bounds, unpack
from policies.dependencies.gate import DependenciesSound
from policies.licences.expressions import Right, expression_of, judged
from policies.licences.gate import LicencesAllowed
from policies.signing import new_key, sign
from policies.waivers import SignedWaiver, Subject, Trust, Waiver, holds
from support import attacks
from support.hostile_archives import BOMBS, CLASHES, LINKS, NAMES, member, tar, zip_of

LET_IN, REFUSED, TAKES = "attacks let in", "ordinary inputs refused", "time of a look"
REACH = Reach(resolve=lambda host: attacks.ADDRESSES.get(host, ()))
BOUNDS = Bounds(files=1000, file=1 << 20, total=8 << 20, ratio=100)
ADVISORIES, QUICK_ADVISORIES = 20_000, 2_000
ROUNDS, QUICK_ROUNDS = 9, 2
LOOKS = 1000
ALLOW = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0"]


def rows(quick: bool) -> list[Row]:
    """Return every row; the quick run looks less often, at fewer advisories."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="cb-") as scratch:
        folder = Path(scratch)
        return [*_let_in(folder), *_refused(folder), *_times(folder, rounds, QUICK_ADVISORIES if quick else ADVISORIES)]


def _let_in(folder: Path) -> Iterator[Row]:
    """Count the attacks of each class that nothing refuses."""
    urls = [*attacks.INSIDE, *attacks.DISGUISED]
    yield _count(LET_IN, "URLs, repositories and remotes", [_taken(lambda url=url: REACH.check(url, "it")) for url in urls])
    yield _count(LET_IN, "base images", [not unfit_base_image(text) for text in attacks.BASE_IMAGES])
    yield _count(LET_IN, "system packages", [not unfit_system_package(text) for text in attacks.SYSTEM_PACKAGES])
    yield _count(LET_IN, "requirements", [_taken(lambda line=line: locked([line])) for line in attacks.REQUIREMENTS])
    yield _count(LET_IN, "archives", [_unpacked(folder, make) for make in _hostile_archives()])
    yield _count(LET_IN, "waivers", _waivers(folder))


def _refused(folder: Path) -> Iterator[Row]:
    """Count the ordinary inputs of each class that something refuses."""
    yield _count(REFUSED, "URLs, repositories and remotes", [not _taken(lambda url=url: REACH.check(url, "it")) for url in attacks.PUBLIC])
    images = [text + attacks.DIGEST for text in attacks.IMAGES]
    yield _count(REFUSED, "base images", [bool(unfit_base_image(text)) for text in images])
    yield _count(REFUSED, "system packages", [bool(unfit_system_package(text)) for text in attacks.DEBIAN_PACKAGES])
    plain: list[Callable[[Path], Path]] = [
        lambda to: tar(to, member("a/b.json"), member("c.json")),
        lambda to: zip_of(to, "a/", "a/b.json", "c.json"),
    ]
    yield _count(REFUSED, "archives", [not _unpacked(folder, make) for make in plain])
    served = _served(folder).components
    silent = [found for found in served if judged(expression_of(found), ALLOW) is Right.UNKNOWN]
    yield measured("packages whose licence nobody can read", f"of {len(served)} that serve a scikit-learn model", [len(silent)], "packages")


def _times(folder: Path, rounds: int, advisories: int) -> Iterator[Row]:
    needs, feed = _served(folder), folder / "osv.jsonl"
    feed.write_text("\n".join(json.dumps(advisory(f"GHSA-{number}", package=f"package-{number % 5000}")) for number in range(advisories)))
    given = candidate(folder, declared=gated(dependencies={}, licences={"allow": ALLOW, "model": "MIT"}), needs=needs, advisories=feed)
    packages = f"{len(needs.components)} packages"
    taken = [_milliseconds(lambda: DependenciesSound().evaluate(given)) for _ in range(rounds)]
    yield measured(TAKES, f"dependencies, {packages} against {advisories:,} advisories", taken, "ms")
    LicencesAllowed().evaluate(given)
    yield measured(TAKES, f"licences, {packages}", [_milliseconds(lambda: LicencesAllowed().evaluate(given)) for _ in range(rounds)], "ms")
    yield measured(TAKES, "what a model needs", [_milliseconds(lambda: needs_of(folder / "model")) for _ in range(rounds)], "ms")
    url = "https://git.example.org:8443/team/rows.git"
    yield measured(TAKES, "a URL", [_milliseconds(lambda: [REACH.check(url, "it") for _ in range(LOOKS)]) for _ in range(rounds)], "µs")
    signed, trust, subject = _signed(folder / "keys")
    every = [_milliseconds(lambda: [holds(signed, trust, subject, NOW) for _ in range(LOOKS)]) for _ in range(rounds)]
    yield measured(TAKES, "a waiver with two signatures", every, "µs")


def _count(row: str, subject: str, wrong: Sequence[bool]) -> Row:
    return measured(row, f"{subject}, of {len(wrong)}", [sum(wrong)], "inputs", 0.0)


def _taken(act: Callable[[], Any]) -> bool:
    try:
        act()
    except ConvoyError:
        return False
    return True


def _hostile_archives() -> Iterator[Callable[[Path], Path]]:
    yield from (lambda to, found=found: tar(to, *found) for found in LINKS)  # type: ignore[misc]
    for names in [*((name,) for name in NAMES), *CLASHES]:
        yield lambda to, names=names: tar(to, *map(member, names))  # type: ignore[misc]
        yield lambda to, names=names: zip_of(to, *names)  # type: ignore[misc]
    yield from (lambda to, make=make: make(to, 16 << 20) for make in BOMBS)  # type: ignore[misc]


def _unpacked(folder: Path, make: Callable[[Path], Path]) -> bool:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return _taken(lambda: unpack(make(Path(scratch)), Path(scratch) / "to", BOUNDS))


def _waivers(folder: Path) -> list[bool]:
    """Try a waiver that holds in every way in which it must not."""
    signed, trust, subject = _signed(folder)
    first, second = signed.signatures
    wrong = second.model_copy(update={"signature": base64.b64encode(bytes(64)).decode()})
    mine = first.model_copy(update={"key": second.key})
    changed = [{"thing": "other"}, {"gate": "other"}, {"reason": "other"}, {"expires": "2026-12-02T00:00:00Z"}]
    tried = [
        *(signed.model_copy(update={"signatures": found}) for found in ((), (first,), (first, first), (first, wrong), (first, mine))),
        *(signed.model_copy(update={"waiver": signed.waiver.model_copy(update=change)}) for change in changed),
    ]
    elsewhere = [replace(subject, model="other"), replace(subject, version="4"), replace(subject, digest="sha256:" + "b" * 64)]
    return [
        *(not holds(each, trust, subject, NOW) for each in tried),
        *(not holds(signed, trust, each, NOW) for each in elsewhere),
        *(not holds(signed, trust, subject, NOW + timedelta(days=days)) for days in (8, -200)),
        not holds(signed, Trust({}, 90), subject, NOW),
    ]


def _signed(folder: Path) -> tuple[SignedWaiver, Trust, Subject]:
    folder.mkdir(exist_ok=True)
    subject = Subject("employment", "3", "sha256:" + "a" * 64)
    trust = Trust({name: new_key(folder / f"{name}.pem") for name in ("anna", "ben")}, 90)
    told = {"gate": "licences", "thing": "ghost 1.0", "model": subject.model, "reason": "bought", "expires": "2026-12-01T00:00:00Z"}
    signed = SignedWaiver(waiver=Waiver.model_validate(told | {"model_version": subject.version, "digest": subject.digest}))
    for name in trust.keys:
        signed = sign(signed, folder / f"{name}.pem")
    assert holds(signed, trust, subject, NOW) == "", "what the others are made from must hold"
    return signed, trust, subject


def _served(folder: Path) -> Needs:
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "requirements.txt").write_text("scikit-learn\nskops\n")
    return needs_of(model)


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000
