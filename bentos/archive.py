"""A Bento as one file, as `bentoml export` writes it and `bentoml import` takes it: an xz-compressed tar."""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path

from bentos.oci.layers import tree, write_layer
from fleet.errors import InputError

SUFFIX = ".bento"
FASTEST = 0
"""Models hardly get smaller with more effort, which is ten times the time."""


def write_archive(bento: Path, file: Path) -> None:
    """Write a Bento's folder as a file that is not there yet; raises InputError where one is."""
    if file.exists():
        raise InputError(str(file), "is there already", "Give a new name.")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as scratch:
        aside = Path(scratch) / file.name
        with lzma.open(aside, "wb", preset=FASTEST) as sink:
            write_layer(tree(bento, ""), sink)
        aside.rename(file)
