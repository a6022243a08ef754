"""One file: recognised by its content, compared with its name, and looked into."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO

from policies.files import archives, onnx, second, tensors
from policies.files.allowlist import skops_nodes
from policies.files.archives import Broken, Member
from policies.files.machine import imports_and_acts, is_pickle, walk
from policies.files.seen import Bounds, FileSeen, Import, Kind
from policies.files.skops_schema import SCHEMA, Schema, read_schema
from policies.files.texts import PLAIN_NAMES, text_problems
from policies.files.values import BUFFER_CHECKED

HEAD = 1 << 14
DEEPEST = 3
MOST_TEXT = 16 << 20
NAMES: dict[Kind, tuple[str, ...]] = {
    Kind.PICKLE: (".pkl", ".pickle"),
    Kind.SKOPS: (".skops",),
    Kind.SAFETENSORS: (".safetensors",),
    Kind.ONNX: (".onnx",),
    Kind.LIGHTGBM: (".lgb", ".txt"),
    Kind.XGBOOST: (".ubj", ".json", ".xgb"),
    Kind.NUMPY: (".npy", ".npz"),
    Kind.PARQUET: (".parquet",),
    Kind.TEXT: (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".yml", ".sig", ""),
    Kind.CODE: (".py",),
}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"Rar!", "rar"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x7fELF", "machine code"),
    (b"MZ", "machine code"),
    (b"\xa7\r\r\n", "compiled Python"),
)
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_HDF5 = "HDF5 files are not taken: a Keras model in one may hold a Lambda layer, which is code"


@dataclass(frozen=True, slots=True)
class Content:
    """The name and size of what is looked at, the bounds, and how many archives it lies in."""

    name: str
    size: int
    bounds: Bounds
    depth: int = 0

    @property
    def ending(self) -> str:
        """The last ending of its name, in small letters."""
        return PurePosixPath(self.name).suffix.lower()

    def seen(self, kind: Kind, detail: str = "", *problems: str, imports: tuple[Import, ...] = ()) -> FileSeen:
        """Return the file as seen."""
        return FileSeen(self.name, kind, self.size, detail, imports, tuple(problem for problem in problems if problem))

    def inner(self, name: str, size: int) -> Content:
        """Return what lies within it."""
        return Content(name, size, self.bounds, self.depth + 1)


def look(file: IO[bytes], content: Content) -> FileSeen:
    """Recognise a file and look into it; the name must be one that such a file has."""
    head = file.read(HEAD)
    file.seek(0)
    if content.depth > DEEPEST:
        return content.seen(Kind.ARCHIVE, "", f"is packed more than {DEEPEST} archives deep")
    seen = _recognised(file, head, content)
    return replace(seen, problems=(*seen.problems, *_misnamed(seen)))


def _misnamed(seen: FileSeen) -> tuple[str, ...]:
    """Return what is wrong with the name of a file of a known kind."""
    name = PurePosixPath(seen.path)
    endings = NAMES.get(seen.kind)
    if endings is None or name.suffix.lower() in endings:
        plain = seen.kind is not Kind.TEXT or name.suffix or name.name in PLAIN_NAMES
        return () if plain else ("is text without an ending that says of what",)
    return (f"is {seen.detail or seen.kind} by its content and something else by its name (such files end in {', '.join(endings)})",)


def _recognised(file: IO[bytes], head: bytes, content: Content) -> FileSeen:
    if content.size == 0:
        return content.seen(Kind.TEXT, "empty")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return _zip(file, content)
    if head.startswith(tensors.NUMPY):
        return _numpy(file, head, content)
    if tensors.is_safetensors(head, content.size):
        return content.seen(Kind.SAFETENSORS, "", tensors.safetensors(file, content.size))
    if head.startswith(b"PAR1"):
        return content.seen(Kind.PARQUET)
    if library := tensors.booster(head):
        return content.seen(Kind(library))
    if head[257:262] == b"ustar":
        return _members(archives.tar_members, "tar", file, content)
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return _packed(file, name, content)
    if head[:1] == b"\x80" and is_pickle(head[:2]):
        return _pickle(file, content)
    return _without_magic(file, head, content)


def _without_magic(file: IO[bytes], head: bytes, content: Content) -> FileSeen:
    """Tell apart what does not begin with a sign of its own: older pickles, ONNX, zlib, and text."""
    data = file.read(MOST_TEXT)
    file.seek(0)
    if is_pickle(data) or content.ending in NAMES[Kind.PICKLE]:
        return _pickle(file, content)
    if head.startswith(_ZLIB):
        return _packed(file, "zlib", content)
    if content.ending in NAMES[Kind.ONNX]:
        return content.seen(Kind.ONNX, "", *onnx.problems(file.read()))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return content.seen(Kind.UNKNOWN)
    if len(data) < content.size:
        return content.seen(Kind.UNKNOWN, "text", f"is a text of more than {MOST_TEXT} bytes")
    return _text(text, data, content)


def _text(text: str, data: bytes, content: Content) -> FileSeen:
    if "\0" in text:
        return content.seen(Kind.UNKNOWN)
    if content.ending == ".py":
        return content.seen(Kind.CODE, "Python")
    if content.ending not in NAMES[Kind.TEXT]:
        return content.seen(Kind.UNKNOWN, "text")
    return content.seen(Kind.TEXT, "", *text_problems(content.name, data))


def _pickle(file: IO[bytes], content: Content) -> FileSeen:
    """Walk every pickle of a file, those carried inside as bytes, and ask picklescan."""
    found = walk(file)
    imports, problems = dict.fromkeys(found.imports), list(found.problems)
    if found.end and found.end < content.size:
        problems.append(f"has {content.size - found.end} bytes behind its end, where another pickle may stand")
        file.seek(found.end)
        imports |= dict.fromkeys(walk(file).imports)
    for carried in found.carried:
        if imports_and_acts(carried):
            problems.append("carries another pickle as bytes")
            imports |= dict.fromkeys(walk(io.BytesIO(carried)).imports)
    ours = frozenset((each.module, each.name) for each in found.imports)
    file.seek(0)
    if not problems:
        problems += second.second_opinion(file, content.name, ours)
    return content.seen(Kind.PICKLE, "", *problems, imports=tuple(imports))


def _numpy(file: IO[bytes], head: bytes, content: Content) -> FileSeen:
    problem, begin = tensors.numpy_array(head)
    imports: tuple[Import, ...] = ()
    if problem and begin:
        file.seek(begin)
        imports = walk(file).imports
    return content.seen(Kind.NUMPY, "", problem, imports=imports)


def _packed(file: IO[bytes], name: str, content: Content) -> FileSeen:
    """Look into a compressed stream, to say what it hides; it is refused whatever that is."""
    if name not in archives.UNPACKERS:
        return content.seen(Kind.ARCHIVE if name != "machine code" else Kind.UNKNOWN, name, _HDF5 if name == "HDF5" else "")
    try:
        data = archives.unpacked(file, name, content.bounds)
    except Broken as problem:
        return content.seen(Kind.ARCHIVE, name, str(problem))
    inner = look(io.BytesIO(data), content.inner(content.name, len(data)))
    return content.seen(Kind.ARCHIVE, f"{inner.kind} packed by {name}", *inner.problems, imports=inner.imports)


def _members(read: Callable[[IO[bytes], Bounds], Iterable[Member]], name: str, file: IO[bytes], content: Content) -> FileSeen:
    problems: list[str] = []
    imports: dict[Import, None] = {}
    try:
        for member in read(file, content.bounds):
            _member(member, content, problems, imports)
    except Broken as problem:
        problems.append(str(problem))
    return content.seen(Kind.ARCHIVE, name, *problems[:5], imports=tuple(imports))


def _member(member: Member, content: Content, problems: list[str], imports: dict[Import, None]) -> FileSeen:
    seen = look(io.BytesIO(member.data), content.inner(member.name, len(member.data)))
    imports |= dict.fromkeys(seen.imports)
    problems += [f"'{member.name}' {problem}" for problem in seen.problems]
    return seen


def _zip(file: IO[bytes], content: Content) -> FileSeen:
    """Look into a zip: a skops file and numpy's .npz are known by what they hold, every other is an archive."""
    problems: list[str] = []
    imports: dict[Import, None] = {}
    kinds: dict[str, Kind] = {}
    schema = None
    try:
        for member in archives.zip_members(file, content.bounds):
            if member.name == SCHEMA and member.whole:
                schema = read_schema(member.data)
                kinds[member.name] = Kind.TEXT
            elif member.name.endswith(".bin"):
                # The bytes of a skops file (trees of XGBoost): whatever they are, skops does not unpickle them
                kinds[member.name] = Kind.UNKNOWN
                if imports_and_acts(member.data[:BUFFER_CHECKED]):
                    kinds[member.name] = _member(member, content, problems, imports).kind
            else:
                kinds[member.name] = _member(member, content, problems, imports).kind
    except Broken as problem:
        problems.append(str(problem))
    if schema is not None:
        return _skops(file, schema, kinds, content, problems, imports)
    arrays = bool(kinds) and all(kind is Kind.NUMPY for kind in kinds.values())
    kind, detail = (Kind.NUMPY, "npz") if arrays else (Kind.ARCHIVE, "zip")
    return content.seen(kind, detail, *problems[:5], imports=tuple(imports))


def _skops(
    file: IO[bytes], schema: Schema, kinds: dict[str, Kind], content: Content, problems: list[str], imports: dict[Import, None]
) -> FileSeen:
    """Hold a skops file against its schema: every array is referred to, and nothing else lies in it."""
    for name, kind in kinds.items():
        if kind not in (Kind.TEXT, Kind.NUMPY) and not (name.endswith(".bin") and kind is Kind.UNKNOWN):
            problems.append(f"holds '{name}', which is {kind} and no array")
    stray = sorted(set(kinds) - {SCHEMA} - schema.files)
    missing = sorted(schema.files - set(kinds))
    problems += [f"holds '{name}', to which its schema does not refer" for name in stray[:3]]
    problems += [f"lacks '{name}', to which its schema refers" for name in missing[:3]]
    problems += schema.problems
    if not problems:
        problems += _untrusted(file, schema, imports)
    return content.seen(Kind.SKOPS, "", *problems[:8], imports=tuple(imports | dict.fromkeys(schema.imports)))


def _untrusted(file: IO[bytes], schema: Schema, imports: dict[Import, None]) -> list[str]:
    """Ask skops itself; what it does not trust by default must be among what we have seen in the schema."""
    from skops.io import get_untrusted_types

    file.seek(0)
    try:
        untrusted = get_untrusted_types(data=file.read())
    except Exception as problem:  # noqa: BLE001 - whatever it raises: a reader that fails has not passed the file
        return [f"skops cannot read it ({type(problem).__name__}: {' '.join(str(problem).split())[:100]})"]
    known = {each.dotted for each in schema.imports} | {name for names in skops_nodes().values() for name in names}
    return [f"skops finds the type {name}, which our walk of its schema does not" for name in untrusted if name not in known]
