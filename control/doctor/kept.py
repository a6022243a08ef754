"""What is kept: the ledger's clock, the stores with the revisions that serve, and what kills left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from fleet.canonical import short
from fleet.declared_store import origin_place
from fleet.errors import ConvoyError
from fleet.home import Home

SLACK = timedelta(seconds=5)
MIB = 1 << 20
READ_ONLY = os.ST_RDONLY


def clock(case: Case) -> Iterator[Finding]:
    """Whether this machine's clock is where the ledger's last event and its leases say that it is."""
    ledger, late = case.house.ledger, []
    last = ledger.events(after_seq=max(0, ledger.head().seq - 1), limit=1)
    leases = [lease for model in case.house.fleet.models if (lease := case.house.leases.recorded(model)) is not None]
    # Read after what it is held against: to open the case may have taken long, and a living holder renews meanwhile
    now = datetime.now(UTC)
    ahead = last[0].at - now if last else timedelta()
    if ahead > SLACK:
        late.append(f"the ledger's last event is {ahead.total_seconds():.0f} s in the future")
    for lease in leases:
        left = lease.expires_at - now
        if left > timedelta(seconds=lease.seconds) + SLACK:
            late.append(f"the lease of {lease.model} runs {left.total_seconds():.0f} s from now, not {lease.seconds:.0f}")
    if late:
        yield problem("clock", f"was set back, here or where the ledger is written: {'; '.join(late)}", "timedatectl status")
    else:
        yield ok("clock", "agrees with the ledger")


def stores(case: Case) -> Iterator[Finding]:
    """Whether the origin's and each region's store can be written; one elsewhere is given a small blob, which is deleted again."""
    folders, elsewhere = _folders_of_stores(case), _elsewhere(case)
    for name, path in folders.items():
        if not path.exists():
            yield ok(f"store of {name}", f"{path} is made by the first release")
        elif not os.access(path, os.W_OK | os.X_OK) or os.statvfs(path).f_flag & READ_ONLY:
            yield problem(f"store of {name}", f"{path} cannot be written", f"ls -ld {path}; findmnt -T {path}")
        else:
            yield ok(f"store of {name}", f"{path} can be written")
    if elsewhere:
        with ThreadPoolExecutor(len(elsewhere)) as pool:
            yield from pool.map(partial(_proven, case), elsewhere)


def _proven(case: Case, name: str) -> Finding:
    """Use a store elsewhere as a release does: one that only answers may still refuse to be written."""
    from flows.tending import store_of
    from registry.opening import prove

    try:
        store = store_of(case.house, name)
        prove(store)
    except ConvoyError as error:
        return problem(f"store of {name}", f"{error.subject} {error.reason}", error.remedy, error.exit_code)
    return ok(f"store of {name}", f"{store.name} can be written, listed and read")


def stored(case: Case) -> Iterator[Finding]:
    """Whether what serves, and what a rollback would bring back, is still stored everywhere."""
    from flows.tending import store_of
    from flows.work import once_stable, stable_of

    house = case.house
    made = [name for name, path in _folders_of_stores(case).items() if path.exists()]
    there = {name: store_of(house, name) for name in (*made, *_elsewhere(case))}
    for model in house.fleet.models:
        stable = stable_of(house, model)
        if stable is None:
            continue
        missing = [name for name, store in there.items() if _serves(case, model, name) and not store.has_blob(stable.digest)]
        way_back = [found for found in once_stable(house, model) if found.digest != stable.digest][-1:]
        gone = [found for found in way_back if "origin" not in there or not there["origin"].has_blob(found.digest)]
        if missing:
            reason = f"version {stable.version} ({short(stable.digest)}) is not in the store of {', '.join(missing)}"
            yield problem(f"stored {model}", reason, f"convoy release {model} --version {stable.version} --again")
        for found in gone:
            yield warning(f"stored {model}", f"version {found.version}, the one before, is stored no more: a rollback packages it again")
        if not missing and not gone:
            back = f", and version {way_back[0].version} to go back to" if way_back else ""
            yield ok(f"stored {model}", f"version {stable.version} everywhere{back}")


def copies(case: Case) -> Iterator[Finding]:
    """How far each model's regions lag behind the first copy of a revision, and which lag by more than is allowed now."""
    from flows.lagging import lagging, lags

    for model in case.house.fleet.models:
        late = lagging(case.house, model, datetime.now(UTC))
        if late:
            yield problem(f"copies of {model}", "; ".join(late), "convoy status")
            continue
        found = lags(case.house, model)
        told = "; ".join(
            f"{region} p50 {lag.p50:.1f} s, p99 {lag.p99:.1f} s, last {lag.last:.1f} s of {lag.copies}" for region, lag in found.items()
        )
        yield ok(f"copies of {model}", f"no region lags ({told or 'nothing was copied yet'})")


def leftovers(case: Case) -> Iterator[Finding]:
    """Whether kills left folders behind that nobody will use."""
    from registry.trees import left_aside

    parents = _with_folders_aside(case.home)
    left = [folder for parent in parents for folder in left_aside(parent)]
    if left:
        yield warning("leftovers", f"{len(left)} half-built folders, {_size(left)}", f"rm -r {' '.join(map(str, left))}")
    else:
        yield ok("leftovers", "no half-built folder is left")


def scratch(case: Case) -> Iterator[Finding]:
    """Whether releases that have ended still have their scratch folders; what is no release's is nobody's to delete."""
    from flows.desires import phase_of

    done = [folder for folder in _folders(case.home.work) if phase_of(case.house.ledger, folder.name).terminal]
    if done:
        remedy = f"rm -r {' '.join(map(str, done))}"
        yield ok("scratch", f"{len(done)} folders of ended releases, {_size(done)}, may be deleted", remedy)
    else:
        yield ok("scratch", "no folder of an ended release is left")


def _elsewhere(case: Case) -> tuple[str, ...]:
    """Return the stores that lie at an address."""
    house = case.house
    origin = ("origin",) if origin_place(house.settings) is not None else ()
    return (*origin, *(region for region, declared in house.fleet.regions.items() if declared.store is not None))


def _folders_of_stores(case: Case) -> dict[str, Path]:
    found = {"origin": case.home.origin_store, **{region: case.home.region_store(region) for region in case.house.fleet.regions}}
    return {name: path for name, path in found.items() if name not in _elsewhere(case)}


def _serves(case: Case, model: str, name: str) -> bool:
    return name == "origin" or name in case.house.model(model).regions


def _with_folders_aside(home: Home) -> list[Path]:
    """Return the folders in which trees are built aside: each region's revisions, each release's scratch."""
    regions = [folder / "revisions" for folder in _folders(home.root / "regions")]
    return [folder for folder in (*regions, *_folders(home.work)) if folder.exists()]


def _folders(parent: Path) -> list[Path]:
    return sorted(folder for folder in parent.iterdir() if folder.is_dir()) if parent.exists() else []


def _size(folders: list[Path]) -> str:
    total = sum(file.lstat().st_size for folder in folders for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return f"{total / MIB:.0f} MiB"
