"""A file tree that holds only what was named: the stronger way to hide files, with a mount namespace."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from fleet.kernel import call, numbered_call

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = tuple(f"/etc/{name}" for name in ("passwd", "group", "nsswitch.conf", "localtime", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"))
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE, _RELATIME = 1, 2, 4, 32, 4096, 16384, 1 << 18, 1 << 21
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def enter(scratch: Path, reads: Iterable[str], size: int) -> None:
    """Make a tree in memory the root: the system and `reads`, read-only, and an empty scratch folder at its old path.

    All that is written fits in `size` bytes. Needs a mount and a process namespace; raises OSError where the kernel
    refuses a step.
    """
    if platform.machine() not in _PIVOT_ROOT:
        raise OSError(f"no pivot_root known on {platform.machine()}")
    _mount("none", Path("/"), _REC | _PRIVATE)
    _mount("tmpfs", scratch, _NOSUID | _NODEV, "tmpfs", f"size={size},mode=755")
    # Shortest first: what lies below a path that is shown already is left alone
    for path in sorted({*SYSTEM, *ETC, *reads}, key=len):
        _show(scratch, path)
    (scratch / "dev" / "shm").mkdir(parents=True)
    for device in DEVICES:
        _below(scratch, device).touch()
        _mount(device, _below(scratch, device), _BIND)
    (scratch / "proc").mkdir()
    _mount("proc", scratch / "proc", _NOSUID | _NODEV, "proc")
    _below(scratch, str(scratch)).mkdir(parents=True, exist_ok=True)
    (scratch / "tmp").mkdir(exist_ok=True)
    os.chdir(scratch)
    numbered_call("pivot_root", _PIVOT_ROOT[platform.machine()], b".", b".")
    call("umount2", b".", _DETACH)
    # No further namespaces inside, where a process could regain capabilities
    with contextlib.suppress(OSError):
        Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _show(root: Path, path: str) -> None:
    """Show a path read-only at the same place below a new root; what does not exist, or is seen already, is left."""
    source, target = Path(path), _below(root, path)
    if not source.exists() or os.path.lexists(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and path in SYSTEM:
        target.symlink_to(source.readlink())
        return
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(path, target, _BIND | _REC)
    _mount("none", target, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _locked(target))


def _locked(target: Path) -> int:
    """Return the flags that a remount must not drop: the kernel locks them in a user namespace."""
    held = os.statvfs(target).f_flag
    return held & (os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME) | (_RELATIME if held & os.ST_RELATIME else 0)


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _mount(source: str, target: Path, flags: int, kind: str = "", data: str = "") -> None:
    call("mount", source.encode(), str(target).encode(), kind.encode() or None, flags, data.encode() or None)
