"""What `gates.contract` may say: which rows the data contract is held against beside those of training and evaluation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet.declaring import Declared


class PinnedRows(Declared):
    """Rows that DVC pins: Git repository, Parquet file and Git revision."""

    repository: Annotated[str, Field(min_length=1)]
    path: Annotated[str, Field(pattern=r"\.parquet$")]
    revision: Annotated[str, Field(min_length=1)] = "HEAD"


class ContractSets(Declared):
    """Further rows that must meet the model's contract: those it was tuned on. Golden rows, where declared, must too."""

    validation: PinnedRows | None = None
