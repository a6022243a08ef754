"""The rows that a region answered, read back from its store: `captured/<model>/<revision>/<Unix ms>-<pid>-<number>.parquet`.

`bentos/service/capture.py` writes them. A file's name tells when it was written, so a window is found by listing; its
rows tell when each was answered.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions
from obstore.store import LocalStore, ObjectStore

from fleet.errors import Denied, OperationFailed

if TYPE_CHECKING:
    import pandas as pd

OURS = "convoy."
ANSWERED_AT = OURS + "answered_at"
MOST_ROWS = 200_000
_FILE = re.compile(r"(\d{13})-\d+-\d+\.parquet")


@dataclass(frozen=True, slots=True)
class Window:
    """The rows of one region that were answered in a window; `columns` are the model's own, without ours.

    `since` is where the rows begin when there were more than could be read. `dropped` counts answers that were too many
    to be captured, `unreadable` names files that are damaged.
    """

    rows: pd.DataFrame
    columns: tuple[str, ...]
    files: int
    dropped: int
    since: datetime
    unreadable: tuple[str, ...]


class _Damaged(Exception):
    """A file's bytes are not what the service writes."""


@dataclass(frozen=True, slots=True)
class Captures:
    """The captured rows of one region's store; nothing is ever written."""

    store: ObjectStore
    name: str

    @classmethod
    def at(cls, path: Path) -> Captures:
        """Return the captures in a local store, which is made when it is missing."""
        try:
            return cls(LocalStore(path, mkdir=True), str(path))
        except (OSError, exceptions.BaseError) as problem:
            raise OperationFailed(f"store {path}", f"the folder cannot be used ({problem})", "Check the path and its owner.") from problem

    def window(self, model: str, since: datetime, until: datetime, most_rows: int = MOST_ROWS) -> Window:
        """Return what was answered in since <= time < until, newest files first until there are `most_rows` rows.

        Both times are aware. Raises Denied or OperationFailed when the store cannot be read.
        """
        import pandas as pd

        frames: list[pd.DataFrame] = []
        columns: dict[str, None] = {}
        rows = files = dropped = 0
        unreadable = []
        for path in reversed(self._files(model, since)):
            if rows >= most_rows:
                since = min(frame[ANSWERED_AT].min() for frame in frames).to_pydatetime()
                break
            try:
                found = self._read(path)
            except _Damaged:
                unreadable.append(path)
                continue
            if found is None:
                continue
            frame, missed = found
            inside = frame[(frame[ANSWERED_AT] >= since) & (frame[ANSWERED_AT] < until)]
            if not inside.empty:
                columns |= dict.fromkeys(name for name in frame.columns if not name.startswith(OURS))
                frames.append(inside)
                rows, files, dropped = rows + len(inside), files + 1, dropped + missed
        whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        return Window(whole, tuple(columns), files, dropped, since, tuple(unreadable))

    def _files(self, model: str, since: datetime) -> list[str]:
        """Return the files that may hold rows since a time, oldest first."""
        earliest = int(since.timestamp() * 1000)
        found: list[tuple[str, str]] = []
        with suppress(FileNotFoundError, exceptions.NotFoundError):
            for path in self._listed(f"captured/{model}/"):
                name = path.rsplit("/", 1)[-1]
                match = _FILE.fullmatch(name)
                if match and int(match[1]) >= earliest:
                    found.append((name, path))
        return [path for _, path in sorted(found)]

    def _listed(self, prefix: str) -> Iterator[str]:
        try:
            for several in obstore.list(self.store, prefix=prefix):
                yield from (str(each["path"]) for each in several)
        except exceptions.PermissionDeniedError as problem:
            raise Denied(f"store {self.name}", "the captured rows may not be listed", "Check the store's credentials.") from problem

    def _read(self, path: str) -> tuple[pd.DataFrame, int] | None:
        """Return a file's rows and the answers dropped before it; None when it was deleted for its age meanwhile.

        Raises _Damaged for bytes that cannot be read as captured rows.
        """
        try:
            data = obstore.get(self.store, path).bytes().to_bytes()
        except (FileNotFoundError, exceptions.NotFoundError):
            return None
        except exceptions.BaseError as problem:
            says = str(problem).splitlines()[0]
            raise OperationFailed(f"store {self.name}", f"'{path}' cannot be read ({says})", "Look at the store.") from problem
        try:
            return _decoded(data)
        except Exception as problem:  # the bytes are here already, so whatever is raised is about them
            raise _Damaged(path) from problem


def _decoded(data: bytes) -> tuple[pd.DataFrame, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    moments = table.schema.field(ANSWERED_AT).type
    if not pa.types.is_timestamp(moments) or moments.tz is None:
        raise TypeError(f"{ANSWERED_AT} is {moments}")
    metadata: dict[bytes, Any] = table.schema.metadata or {}
    return table.to_pandas(), int(metadata.get(b"convoy.dropped_since_last_file", b"0"))
