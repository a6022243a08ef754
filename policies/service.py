"""What is said of the real service, started once and measured, against the budgets that fleet.yaml declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from fleet.declared_service import Odd, Service
from fleet.evidence import GateChart, GateOutcome, GateResult, GateTable

NAME = "service"
HELD = Decimal("0.99")
"""A load that sent a smaller part of its requests than this did not hold its rate."""
NAMED = 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load at a constant rate came to: requests due, sent and failed, latencies and the generator's own lag in ms.

    Latencies count from when a request was due (`traffic/load.py`), percentiles are by the nearest rank.
    """

    scheduled: int
    sent: int
    failed: int
    p50_ms: Decimal
    p99_ms: Decimal
    lag_p99_ms: Decimal
    first_failure: str = ""

    @property
    def held(self) -> bool:
        """Whether the generator sent what it should have sent."""
        return self.scheduled > 0 and self.sent >= HELD * self.scheduled


@dataclass(frozen=True, slots=True)
class OddAnswer:
    """How an odd request ended; `trouble` is empty where it was answered or refused as it should."""

    kind: Odd
    what: str
    trouble: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one start of the service came to; `problem` says why there is nothing to judge. Times are in milliseconds."""

    problem: str = ""
    cold_start_ms: Decimal = Decimal(0)
    load_ms: Decimal | None = Decimal(0)
    warm_up_ms: Decimal | None = Decimal(0)
    peak_mib: Decimal | None = None
    load: Loaded | None = None
    odd: tuple[OddAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class _Budget:
    name: str
    measured: Decimal | None
    most: int | None
    unit: str
    lag: Decimal = Decimal(0)

    @property
    def over(self) -> bool:
        return self.most is not None and self.measured is not None and self.measured > self.most

    @property
    def of_the_machine(self) -> bool:
        """Whether what is over the budget may be the load generator's own lag."""
        return self.over and self.measured is not None and self.most is not None and self.measured - self.lag <= self.most


def judge_service(declared: Service, measured: Measured) -> GateResult:
    """Return whether the service keeps its budgets; pure.

    What could not be measured, or only on a machine too busy to tell, is inconclusive: it never passes.
    """
    if measured.problem or measured.load is None:
        return GateResult(NAME, GateOutcome.INCONCLUSIVE, (measured.problem or "nothing was measured",))
    load, budgets = measured.load, _budgets(declared, measured, measured.load)
    figures = (
        *((f"{each.name} {each.unit}", str(each.measured)) for each in budgets if each.measured is not None),
        *_told(declared, measured),
    )
    failures = (*_over(budgets), *_failed(declared, load), *_odd(measured))
    unsure = (*_unsure(declared, load, budgets), *_unmeasured(budgets))
    kept = f"ready after {measured.cold_start_ms} ms, p99 {load.p99_ms} ms at {declared.rate:g} requests a second"
    outcome = GateOutcome.FAILED if failures else GateOutcome.INCONCLUSIVE if unsure else GateOutcome.PASSED
    return GateResult(NAME, outcome, failures or unsure or (kept,), figures, _tables(measured), _charts(budgets))


def _budgets(declared: Service, measured: Measured, load: Loaded) -> tuple[_Budget, ...]:
    # Of a load that did not hold its rate no latency tells anything
    lag = load.lag_p99_ms if load.held else Decimal("Infinity")
    return (
        _Budget("cold start", measured.cold_start_ms, declared.cold_start_ms, "ms"),
        _Budget("load", measured.load_ms, declared.load_ms, "ms"),
        _Budget("warm-up", measured.warm_up_ms, declared.warm_up_ms, "ms"),
        _Budget("p50", load.p50_ms, declared.p50_ms, "ms", lag),
        _Budget("p99", load.p99_ms, declared.p99_ms, "ms", lag),
        _Budget("memory", measured.peak_mib, declared.memory_mib, "MiB"),
    )


def _told(declared: Service, measured: Measured) -> tuple[tuple[str, str], ...]:
    load = measured.load
    assert load is not None
    return (
        ("requests a second", f"{declared.rate:g}"),
        ("requests", str(load.sent)),
        ("failed requests", str(load.failed)),
        ("the load's own lag ms", str(load.lag_p99_ms)),
        ("odd requests", str(len(measured.odd))),
    )


def _over(budgets: tuple[_Budget, ...]) -> Iterator[str]:
    for each in budgets:
        if each.over and not each.of_the_machine:
            yield f"{each.name} was {each.measured} {each.unit}, above the budget of {each.most} {each.unit}"


def _failed(declared: Service, load: Loaded) -> Iterator[str]:
    if load.sent and load.failed > declared.error_rate * load.sent:
        first = f", the first with {load.first_failure}" if load.first_failure else ""
        yield f"{load.failed} of {load.sent} requests failed{first} (allowed: {declared.error_rate:.2%})"


def _odd(measured: Measured) -> Iterator[str]:
    wrong = [each for each in measured.odd if each.trouble]
    for each in wrong[:NAMED]:
        yield f"a request with {each.what} {each.trouble}"
    if len(wrong) > NAMED:
        yield f"and {len(wrong) - NAMED} more odd requests"
    if wrong:
        kinds = ", ".join(dict.fromkeys(each.kind.value for each in wrong))
        yield f"have the model answer such a row or raise for none, or leave '{kinds}' out of gates.service.odd"


def _unsure(declared: Service, load: Loaded, budgets: tuple[_Budget, ...]) -> Iterator[str]:
    if not load.held:
        yield f"the machine was too busy: {load.sent} of {load.scheduled} requests went out at {declared.rate:g} a second"
        return
    for each in budgets:
        if each.of_the_machine:
            late = f"requests went out up to {load.lag_p99_ms} ms late"
            yield f"the machine was too busy: {each.name} was {each.measured} {each.unit} and {late} (budget {each.most} {each.unit})"


def _unmeasured(budgets: tuple[_Budget, ...]) -> Iterator[str]:
    for each in budgets:
        if each.most is not None and each.measured is None:
            yield f"{each.name} could not be measured on this machine, and a budget of {each.most} {each.unit} is declared"


def _tables(measured: Measured) -> tuple[GateTable, ...]:
    rows = tuple((each.kind.value, each.what, each.trouble) for each in measured.odd if each.trouble)
    return (GateTable("odd requests that were failed on", ("kind", "what", "how"), rows),) if rows else ()


def _charts(budgets: tuple[_Budget, ...]) -> tuple[GateChart, ...]:
    shares = [(each.name, each.measured * 100 / each.most) for each in budgets if each.most and each.measured is not None]
    bars = tuple((name, share.quantize(Decimal("0.1"))) for name, share in shares)
    return (GateChart("percent of each budget", bars, Decimal(100)),) if bars else ()
