"""What a scan of a model's folder found: the values that cross from the sandbox to the gate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What a file is by its content."""

    PICKLE = "pickle"
    SKOPS = "skops"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    LIGHTGBM = "lightgbm"
    XGBOOST = "xgboost"
    NUMPY = "numpy"
    PARQUET = "parquet"
    TEXT = "text"
    CODE = "code"
    ARCHIVE = "archive"
    UNKNOWN = "unknown"


class Use(StrEnum):
    """What a file does with something that it imports.

    It is `named` when it is imported, `kept` when it stays in what is loaded, and `held` is an instance of it that does.
    `made` is an instance without arguments (what a class's state is then written into), `called` a call with arguments of
    the file's choice.
    """

    NAMED = "named"
    KEPT = "kept"
    HELD = "held"
    MADE = "made"
    CALLED = "called"


@dataclass(frozen=True, slots=True)
class Import:
    """Something that a file imports by module and qualified name, and what it does with it.

    `given` are the imports among the arguments of a call, each as `module:name`; `holder` is the class in whose attribute
    it is kept or held, also as `module:name` (empty: in no object's).
    """

    module: str
    name: str
    use: Use
    given: tuple[str, ...] = ()
    holder: str = ""
    attribute: str = ""

    @property
    def path(self) -> str:
        """Where it is imported from, as fleet.yaml names it."""
        return f"{self.module}:{self.name}"

    @property
    def dotted(self) -> str:
        """The same as people write it."""
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class FileSeen:
    """One file: its path in the model, what it is, what it imports, and what is wrong with it whatever is allowed.

    `detail` says more of what it is (a tar archive, an XGBoost model in UBJSON). `milliseconds` is how long the scan of it took.
    """

    path: str
    kind: Kind
    size: int
    detail: str = ""
    imports: tuple[Import, ...] = ()
    problems: tuple[str, ...] = ()
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Described:
    """What the MLmodel file says of the others.

    `trusted` are the types that it asks to trust, `loaded` which file is loaded as what, `code` the folders and files of
    code that come along.
    """

    flavours: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    loaded: tuple[tuple[str, Kind], ...] = ()
    code: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a scan takes on: bytes of a file, files, and by how much an archive may grow when it is unpacked."""

    file_bytes: int
    files: int
    ratio: int


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """Scan a model's folder."""

    folder: Path
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Everything that lies in the folder, each file once; `modules` are the names that the model's own code is imported under."""

    files: tuple[FileSeen, ...]
    described: Described
    modules: tuple[str, ...] = ()
