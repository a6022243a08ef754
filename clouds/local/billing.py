"""The bills of local regions: what was measured, at the prices that fleet.yaml declares, in the columns of FOCUS 1.2.

One CSV file per region and hour (https://focus.finops.org/focus-specification/v1-2/):

    <hour>.open.csv                     the hour goes on: written anew each time
    <hour>.v<version>.<digest>.csv      the hour is over: never written again; the digest is that of its bytes

A quantity is rounded once, for the whole of a program's hour (memory to a millionth of a GiB-second, bytes to a billionth
of a GiB), and then split over the kinds of traffic without a remainder; a cost is quantity times unit price, never rounded.
When other quantities are found measured in a closed hour, a new version restates it. All that fleet.yaml said when the
hour was closed stays: account, currency, place and prices.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, Inexact, localcontext
from pathlib import Path
from typing import NamedTuple

from clouds.billing import Bill
from clouds.local.files import exclusive, private_folder, write_durably
from clouds.local.samples import Samples, start_of
from clouds.local.usage import ProgramUsage, Used, split
from fleet.canonical import digest_of, short
from fleet.declared_region import Region
from fleet.errors import IntegrityError, NotSupported
from fleet.home import Home

PROVIDER = "Convoy local"
SETTLED = timedelta(seconds=60)
"""How long after an hour's end its last readings may still come."""
LOCK_SECONDS = 30.0
RESTORE = "Restore it from a backup."
CLOSED = re.compile(r"(?P<hour>[0-9TZ-]{14})\.v(?P<version>[1-9][0-9]*)\.(?P<digest>[0-9a-f]{12})\.csv")
GIB = 1 << 30


class Sku(NamedTuple):
    """Something that is charged: its field in `Prices`, its unit, and decimals of its quantity with the whole they count."""

    name: str
    price: str
    unit: str
    decimals: int
    per_unit: int
    says: str


SKUS = {
    sku.name: sku
    for sku in (
        Sku("cpu", "cpu_second", "CPU-Seconds", 6, 1_000_000, "CPU time of the serving process"),
        Sku("memory", "memory_gib_second", "GiB-Seconds", 6, 1000 * GIB, "Memory of the serving process"),
        Sku("prediction", "request", "Requests", 0, 1, "Requests answered with a prediction"),
        Sku("bytes-in", "gib_in", "GiB", 9, GIB, "Bytes of requests"),
        Sku("bytes-out", "gib_out", "GiB", 9, GIB, "Bytes of answers"),
    )
}


@dataclass(frozen=True, slots=True)
class Line:
    """One charge: a program's quantity of one SKU for one kind of traffic."""

    usage: ProgramUsage
    traffic: str
    sku: Sku
    quantity: Decimal
    price: Decimal

    @property
    def cost(self) -> Decimal:
        """Quantity times price, to the last digit."""
        with localcontext(prec=60) as exact:
            exact.traps[Inexact] = True
            return self.quantity * self.price


class LocalBills:
    """Writes and lists the bills of one home's regions; `account` is who is billed."""

    def __init__(self, home: Home, account: str) -> None:
        self.home = home
        self.account = account

    def bills(self, name: str, region: Region, now: datetime, after: str = "") -> tuple[Bill, ...]:
        """Bring a region's bills of the hours after one up to date, and return them, oldest first; again, it changes nothing.

        Raises NotSupported for a region without prices, IntegrityError for a closed bill whose bytes were changed.
        """
        if region.prices is None:
            raise NotSupported(
                f"region '{name}'", "declares no prices, so it writes no bill", f"Declare regions.{name}.prices in fleet.yaml."
            )
        prices = {sku.name: Decimal(getattr(region.prices, sku.price)) for sku in SKUS.values()}
        samples, folder = Samples(self.home.usage(name)), private_folder(self.home.bills(name))
        place, found = f"{region.provider} {region.place}", []
        with exclusive(folder.with_suffix(".lock"), LOCK_SECONDS):
            for hour in (hour for hour in samples.hours() if hour > after):
                statement = _Statement(name, place, self.account, region.prices.currency, hour, samples.used(hour))
                over = start_of(hour) + timedelta(hours=1) + SETTLED <= now
                found.append(_closed(folder, statement, prices) if over else _open(folder, statement, prices))
        return tuple(found)

    def kept(self, name: str, hour: str, version: int, digest: str) -> Bill:
        """Return a closed bill as it was reconciled; raises IntegrityError where its file is gone or holds something else."""
        file = self.home.bills(name) / _closed_name(hour, version, digest)
        if not file.exists():
            raise IntegrityError(str(file), "is gone, and it was reconciled", RESTORE)
        content = file.read_bytes()
        if digest_of(content) != digest:
            raise _changed(file, content)
        return Bill(name, hour, version, file, digest, not _charges(content))


@dataclass(frozen=True, slots=True)
class _Statement:
    """All that one bill says, but for the prices; `place` is what FOCUS calls the name of the region."""

    name: str
    place: str
    account: str
    currency: str
    hour: str
    used: tuple[ProgramUsage, ...]

    def to_bytes(self, prices: Mapping[str, Decimal]) -> bytes:
        """Return the bill as CSV; the same usage at the same prices gives the same bytes."""
        text = io.StringIO()
        rows = [_row(self, line) for line in lines(self.used, prices)]
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def quantities(self, prices: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Return the quantity of each charge by its id."""
        return {self.charge_id(line): line.quantity for line in lines(self.used, prices)}

    def charge_id(self, line: Line) -> str:
        """Return what a charge is called in every version of the bill."""
        return f"{self.name}/{self.hour}/{line.usage.program}/{line.sku.name}/{line.traffic}"


def lines(used: Iterable[ProgramUsage], prices: Mapping[str, Decimal]) -> Iterator[Line]:
    """Yield the charges of an hour, those without a quantity left out."""
    for usage in used:
        for sku in SKUS.values():
            for traffic, quantity in quantities(usage, sku).items():
                if quantity:
                    yield Line(usage, traffic, sku, quantity, prices[sku.name])


def quantities(usage: ProgramUsage, sku: Sku) -> dict[str, Decimal]:
    """Return the quantity of each kind of traffic; they sum to the whole, rounded once (half to even)."""
    raw = {traffic: _raw(used, sku.name) for traffic, used in usage.traffic.items()}
    whole = Decimal(sum(raw.values()) * 10**sku.decimals)
    with localcontext(prec=60):
        rounded = int((whole / sku.per_unit).to_integral_value())
    parts = split(rounded, {traffic: amount for traffic, amount in raw.items() if amount})
    return {traffic: Decimal(part).scaleb(-sku.decimals) for traffic, part in parts.items()}


def _raw(used: Used, sku: str) -> int:
    """Return the measured amount of a SKU; what was answered with an error costs time, and is no prediction."""
    amounts = {
        "cpu": used.cpu_us,
        "memory": used.memory_byte_ms,
        "prediction": used.requests - used.failed,
        "bytes-in": used.bytes_in,
        "bytes-out": used.bytes_out,
    }
    return amounts[sku]


def _open(folder: Path, statement: _Statement, prices: Mapping[str, Decimal]) -> Bill:
    file = folder / f"{statement.hour}.open.csv"
    content = statement.to_bytes(prices)
    if not file.exists() or file.read_bytes() != content:
        write_durably(file, content)
    return Bill(statement.name, statement.hour, 0, file, digest_of(content), not _charges(content))


def _closed(folder: Path, statement: _Statement, prices: Mapping[str, Decimal]) -> Bill:
    """Return the newest version of a closed bill, made where there is none or where other quantities were measured."""
    newest = _newest(folder, statement)
    if newest is not None:
        charged = _charges(newest.file.read_bytes())
        if {row["x_ChargeId"]: Decimal(row["ConsumedQuantity"]) for row in charged} == statement.quantities(prices):
            return newest
        for row in charged[:1]:
            statement = replace(statement, account=row["BillingAccountId"], currency=row["BillingCurrency"], place=row["RegionName"])
        prices = {**prices, **{row["SkuId"]: Decimal(row["ListUnitPrice"]) for row in charged}}
    version, content = (newest.version if newest else 0) + 1, statement.to_bytes(prices)
    file = folder / _closed_name(statement.hour, version, digest_of(content))
    write_durably(file, content)
    (folder / f"{statement.hour}.open.csv").unlink(missing_ok=True)
    return Bill(statement.name, statement.hour, version, file, digest_of(content), not _charges(content))


def _newest(folder: Path, statement: _Statement) -> Bill | None:
    """Return the newest closed bill of an hour; raises IntegrityError where its bytes are not those of its name."""
    matches = [match for file in folder.glob(f"{statement.hour}.v*.csv") if (match := CLOSED.fullmatch(file.name))]
    if not matches:
        return None
    last = max(matches, key=lambda match: int(match["version"]))
    file = folder / last.string
    content = file.read_bytes()
    digest = digest_of(content)
    if short(digest) != last["digest"]:
        raise _changed(file, content)
    return Bill(statement.name, statement.hour, int(last["version"]), file, digest, not _charges(content))


def _closed_name(hour: str, version: int, digest: str) -> str:
    return f"{hour}.v{version}.{short(digest)}.csv"


def _changed(file: Path, content: bytes) -> IntegrityError:
    return IntegrityError(str(file), f"holds {short(digest_of(content))}: it was changed after it was closed", RESTORE)


def _charges(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a bill."""
    return list(csv.DictReader(io.StringIO(content.decode())))


def _row(statement: _Statement, line: Line) -> dict[str, str]:
    """Return a charge as FOCUS has it; an absent column of a row is empty, which is null."""
    usage, sku, cost = line.usage, line.sku, format(line.cost, "f")
    begins = start_of(statement.hour)
    month = begins.replace(day=1, hour=0)
    quantity, price = format(line.quantity, "f"), format(line.price, "f")
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), cost),
        "BillingAccountId": statement.account,
        "BillingAccountName": statement.account,
        "BillingCurrency": statement.currency,
        "BillingPeriodStart": _stamp(month),
        "BillingPeriodEnd": _stamp((month + timedelta(days=32)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{sku.says}, {line.traffic} traffic of {usage.model}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _stamp(begins),
        "ChargePeriodEnd": _stamp(begins + timedelta(hours=1)),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), quantity),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), sku.unit),
        **dict.fromkeys(("ListUnitPrice", "ContractedUnitPrice"), price),
        **dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), PROVIDER),
        "PricingCategory": "Standard",
        "RegionId": statement.name,
        "RegionName": statement.place,
        "ResourceId": usage.program,
        "ResourceName": usage.model,
        "ResourceType": "Serving process",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Model serving",
        "SkuId": sku.name,
        "SkuPriceId": f"{statement.name}/{sku.name}",
        "Tags": json.dumps({"model": usage.model, "revision": usage.revision, "traffic": line.traffic}, sort_keys=True),
        "x_ChargeId": statement.charge_id(line),
        "x_MeasuredFrom": _stamp(datetime.fromtimestamp(usage.from_ms // 1000, UTC)),
        "x_MeasuredTo": _stamp(datetime.fromtimestamp(-(-usage.to_ms // 1000), UTC)),
    }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


COLUMNS = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart"),
    *("ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName"),
    *("ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName"),
    *("RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId"),
    *("SkuPriceId", "Tags", "x_ChargeId", "x_MeasuredFrom", "x_MeasuredTo"),
)
