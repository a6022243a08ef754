"""Reads FOCUS bills (1.0 to 1.4; CSV, gzipped CSV, Parquet) into one table of exact decimals.

https://focus.finops.org/focus-specification/ : NULL is a bare, unquoted word or nothing; times without a zone are UTC;
`ProviderName` became `ServiceProviderName` in 1.3; columns whose names begin with `x_` are the provider's own. A bill may be
larger than memory: DuckDB reads it in one pass and spills what it sorts and groups.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import InputError

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "512MB"
THREADS = 2
DECIMALS = 18
MONEY = f"DECIMAL(38, {DECIMALS})"
AT_ONCE = 10_000
REMEDY = "Nothing was reconciled; correct the bill or have it issued again."

REQUIRED = ("BilledCost", "EffectiveCost", "BillingCurrency", "BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd")
OPTIONAL = ("RegionId", "Tags", "SkuId", "ConsumedQuantity", "ServiceProviderName", "ProviderName")
OPTIONAL_OURS = ("Id", "x_ChargeId", "x_MeasuredFrom", "x_MeasuredTo")
NUMBERS = ("BilledCost", "EffectiveCost", "ConsumedQuantity")
TIMES = ("BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "x_MeasuredFrom", "x_MeasuredTo")
NULLABLE = frozenset({*OPTIONAL, *OPTIONAL_OURS})
BINARY = ("FLOAT", "DOUBLE")


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """A bill's totals for one billing period and currency.

    `row_digest` is the SHA-256 (hex) of the sorted lines `key TAB BilledCost TAB EffectiveCost LF`, both as the bill writes
    them; the key is `Id`, else `x_ChargeId`, else the row's number.
    """

    period: str
    currency: str
    rows: int
    billed: Decimal
    effective: Decimal
    row_digest: str


@contextmanager
def charges(files: Sequence[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database whose table `charges` holds every row of some bills.

    Raises InputError that names the file with the column, and the row by its line, for what cannot be read exactly:
    a required column that is missing or empty, a number with more than 18 decimals, a time that is none.
    """
    import duckdb

    if not files:
        raise InputError("bills", "there is none to read", "Name a file.")
    with tempfile.TemporaryDirectory(prefix="convoy-bills-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(":memory:", config=settings) as database:
            database.execute("SET TimeZone = 'UTC'")
            database.execute(TABLE)
            for file in files:
                _load(database, file)
            yield database


def control_totals(database: duckdb.DuckDBPyConnection) -> tuple[ControlTotal, ...]:
    """Return the totals of each billing period and currency, the digest of their rows streamed in order."""
    found = database.execute(
        "SELECT period, currency, count(*), sum(billed), sum(effective) FROM charges GROUP BY period, currency ORDER BY period, currency"
    ).fetchall()
    lines = database.execute(
        "SELECT period, currency, concat(key, chr(9), billed_text, chr(9), effective_text, chr(10)) AS text FROM charges"
        " ORDER BY period, currency, text"
    )
    digests = {(period, currency): hashlib.sha256() for period, currency, *_ in found}
    while batch := lines.fetchmany(AT_ONCE):
        for period, currency, text in batch:
            digests[period, currency].update(text.encode())
    return tuple(
        ControlTotal(period, currency, rows, billed, effective, digests[period, currency].hexdigest())
        for period, currency, rows, billed, effective in found
    )


TABLE = f"""
CREATE TABLE charges (
    file VARCHAR, line BIGINT, wrong VARCHAR, key VARCHAR, period VARCHAR, currency VARCHAR, provider VARCHAR,
    begins TIMESTAMP, ends TIMESTAMP, billed {MONEY}, billed_text VARCHAR, effective {MONEY}, effective_text VARCHAR,
    consumed {MONEY}, region VARCHAR, sku VARCHAR, tags VARCHAR
)"""


def _load(database: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Append a bill's rows to the table."""
    import duckdb

    try:
        types, source = _parquet(database, file) if file.suffix == ".parquet" else _csv(file)
        missing = [name for name in REQUIRED if name not in types]
        if missing:
            raise InputError(str(file), f"is no FOCUS bill: the column {missing[0]} is missing", REMEDY)
        database.execute(_insertion(types, source), [str(file), str(file)])
    except (duckdb.Error, OSError, ValueError) as problem:
        raise InputError(str(file), f"cannot be read: {' '.join(str(problem).split())[:400]}", REMEDY) from problem
    wrong = database.execute("SELECT line, wrong FROM charges WHERE file = ? AND wrong IS NOT NULL LIMIT 1", [str(file)]).fetchone()
    if wrong is not None:
        raise InputError(str(file), f"line {wrong[0]}: {wrong[1]}", REMEDY)


def _parquet(database: duckdb.DuckDBPyConnection, file: Path) -> tuple[dict[str, str], str]:
    """Return the columns of a Parquet file with their types, and what reads it."""
    described = database.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file)]).fetchall()
    return {str(name): str(kind) for name, kind, *_ in described}, "read_parquet(?)"


def _csv(file: Path) -> tuple[dict[str, str], str]:
    """Return the columns of a CSV file, all of them text, and what reads it; DuckDB is left nothing to guess."""
    with gzip.open(file, "rt", encoding="utf-8-sig") if file.suffix == ".gz" else file.open(encoding="utf-8-sig") as text:
        names = next(csv.reader(text), [])
    if len(set(names)) != len(names):
        raise ValueError("two columns have the same name")
    columns = ", ".join("'" + name.replace("'", "''") + "': 'VARCHAR'" for name in names)
    return dict.fromkeys(names, "VARCHAR"), f"read_csv(?, columns = {{{columns}}}, {CSV})"


CSV = (
    "auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', nullstr = ['NULL', ''],"
    " allow_quoted_nulls = false, strict_mode = true"
)


def _insertion(types: Mapping[str, str], source: str) -> str:
    """Return the statement that reads a bill in one pass: every column as text, then as what it means, or why not."""
    texts = ", ".join(f"{_as_text(name, types)} AS {name}" for name in (*REQUIRED, *OPTIONAL, *OPTIONAL_OURS))
    checks = [_number_check(name, types.get(name, "")) for name in NUMBERS] + [_time_check(name) for name in TIMES]
    checks += [f"WHEN {name} IS NULL THEN '{name} is empty'" for name in REQUIRED if name not in (*NUMBERS, *TIMES)]
    return f"""
INSERT INTO charges
SELECT ?, line, CASE {" ".join(checks)} END, coalesce(Id, x_ChargeId, CAST(line AS VARCHAR)),
    strftime({_time("BillingPeriodStart")}, '%Y-%m-%d'), BillingCurrency, coalesce(ServiceProviderName, ProviderName),
    coalesce({_time("x_MeasuredFrom")}, {_time("ChargePeriodStart")}), coalesce({_time("x_MeasuredTo")}, {_time("ChargePeriodEnd")}),
    {_number("BilledCost")}, BilledCost, {_number("EffectiveCost")}, EffectiveCost, {_number("ConsumedQuantity")},
    RegionId, SkuId, CASE WHEN json_valid(Tags) THEN Tags END
FROM (SELECT row_number() OVER () + 1 AS line, {texts} FROM {source})"""  # noqa: S608 - made of the constants above alone


def _as_text(name: str, types: Mapping[str, str]) -> str:
    kind = types.get(name)
    if kind is None:
        return "CAST(NULL AS VARCHAR)"
    nested = kind.startswith(("MAP", "STRUCT"))
    return f"CAST(to_json({name}) AS VARCHAR)" if nested else f"CAST({name} AS VARCHAR)"


def _number(name: str) -> str:
    return f"TRY_CAST({name} AS {MONEY})"


def _time(name: str) -> str:
    return f"coalesce(TRY_CAST({name} AS TIMESTAMP), TRY_STRPTIME({name}, ['%m/%d/%y', '%m/%d/%Y']))"


def _number_check(name: str, kind: str) -> str:
    """Tell of what is no number or would be rounded; a binary number was rounded before it came, and its shortest text counts."""
    absent = "" if name in NULLABLE else f"WHEN {name} IS NULL THEN '{name} is empty' "
    wrong = f"{absent}WHEN {name} IS NOT NULL AND {_number(name)} IS NULL THEN concat('{name} is no decimal number: ', {name})"
    if kind in BINARY:
        return wrong
    decimals = f"length(regexp_extract({name}, '\\.([0-9]*?)0*([eE]|$)', 1))"
    exponent = f"coalesce(TRY_CAST(nullif(regexp_extract({name}, '[eE]([+-]?[0-9]+)', 1), '') AS INTEGER), 0)"
    return f"{wrong} WHEN {decimals} - {exponent} > {DECIMALS} THEN concat('{name} has more than {DECIMALS} decimals: ', {name})"


def _time_check(name: str) -> str:
    absent = "" if name in NULLABLE else f"WHEN {name} IS NULL THEN '{name} is empty' "
    return f"{absent}WHEN {name} IS NOT NULL AND {_time(name)} IS NULL THEN concat('{name} is no time: ', {name})"
