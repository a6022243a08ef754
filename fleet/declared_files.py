"""Which files a model may consist of: the key `gates.files` of a model in fleet.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet.declaring import Declared

Format = Literal["lightgbm", "numpy", "onnx", "parquet", "pickle", "safetensors", "skops", "xgboost"]
FORMATS: tuple[Format, ...] = ("lightgbm", "numpy", "onnx", "parquet", "pickle", "safetensors", "skops", "xgboost")
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$")]


class Files(Declared):
    """What a model's files may be, and what is looked at beyond the closed allowlist.

    `formats` may stand in production; a stricter fleet leaves `pickle` out. `code` lets a model bring Python files of its
    own, which run as they are. `allow` adds imports to the allowlist, one by one, as `module:name`. A file may have
    `file_mib`, a model `most_files`, and an archive may unpack to `unpack_ratio` times its size.
    """

    formats: tuple[Format, ...] = FORMATS
    code: bool = False
    allow: tuple[ImportPath, ...] = ()
    file_mib: Annotated[int, Field(ge=1, le=65_536)] = 2048
    most_files: Annotated[int, Field(ge=1, le=100_000)] = 1000
    unpack_ratio: Annotated[int, Field(ge=2, le=1000)] = 100
