"""The gate of what a model needs: nothing that is known to be badly broken, and everything pinned by its hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from fleet.components import Component, Needs
from fleet.declared import Model
from fleet.declared_rights import Dependencies
from fleet.errors import InputError
from fleet.evidence import GateChart, GateResult, GateTable
from fleet.pins import Pin, read_pins
from policies.candidate import Candidate, Figures, Gate, failed, first_of, inconclusive, not_applicable, passed
from policies.dependencies.feed import Scan, scan
from policies.dependencies.osv import Match
from policies.dependencies.severity import Severity
from policies.waived import Waivers

NO_FEED = "Set CONVOY_ADVISORIES to the advisories of the site (OSV)"
SERVERS = "Update it where the model is logged and served"


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One flaw of one component, whatever names its advisories give it: the worst that any of them says."""

    names: tuple[str, ...]
    component: Component
    severity: Severity
    summary: str
    fixed: tuple[str, ...]
    unclear: str

    @property
    def things(self) -> tuple[str, ...]:
        """What a waiver may call it; the first is what the gate calls it."""
        return tuple(f"{name} in {self.component.name} {self.component.version}" for name in self.names)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a model needs (None: nobody told), what the advisories say of it (None: there are none), and its lock's pins."""

    needs: Needs | None
    scan: Scan | None
    now: datetime | None
    pins: Mapping[str, Pin] | None
    waivers: Waivers


class DependenciesSound(Gate[Looked]):
    """Passes a model that needs nothing with a vulnerability as bad as declared, by advisories that are not too old.

    Not applicable where neither the setting CONVOY_ADVISORIES nor fleet.yaml (`gates.dependencies`) asks for it. Inconclusive
    where fleet.yaml asks and there are no advisories, where they are old or cannot be read, and where it cannot be told what
    the model needs or whether an advisory is about it.
    """

    name = "dependencies"

    def gather(self, candidate: Candidate) -> Looked:
        """Return what is known of what the model needs; raises InputError for a lock that is none."""
        declared, needs, now = candidate.declared.gates.dependencies, candidate.needs, candidate.now
        found = None
        if candidate.advisories is not None and needs is not None and now is not None:
            named = {component.name: component for component in needs.components}
            found = scan(candidate.advisories, named, candidate.work, now)
        return Looked(needs, found, now, _pins(declared, candidate), candidate.waivers)

    def judge(self, declared: Model, evidence: Looked) -> GateResult:
        """Return what is wrong with what the model needs, the worst first."""
        wanted, scanned, needs = declared.gates.dependencies, evidence.scan, evidence.needs
        if wanted is None and scanned is None:
            return not_applicable(self, "neither CONVOY_ADVISORIES nor fleet.yaml asks for it")
        rules = wanted or Dependencies()
        if needs is None:
            return inconclusive(self, "nobody told what the model needs")
        refused = list(_unpinned(needs, evidence.pins))
        open_ = [f"what the model needs cannot be told: {problem}" for problem in needs.problems]
        open_ += [] if needs.components else ["it is not known to need anything at all"]
        found = vulnerabilities(scanned.matches) if scanned else ()
        if scanned is None:
            open_.append(f"fleet.yaml asks for it, and there are no advisories. {NO_FEED}")
        else:
            open_ += _unusable(scanned, rules, evidence.now)
            failing, unknown = _weighed(found, rules, evidence.waivers)
            refused += failing
            open_ += unknown
        result = self._result(refused, open_, needs, _figures(needs, scanned, evidence.waivers))
        return replace(result, tables=_tables(found, evidence.waivers), charts=_charts(found))

    def _result(self, refused: list[str], open_: list[str], needs: Needs, figures: Figures) -> GateResult:
        if refused:
            return failed(self, *first_of([*refused, *open_]), figures=figures)
        if open_:
            return inconclusive(self, *first_of(open_), figures=figures)
        return passed(self, f"nothing that bad is known of the {len(needs.components)} packages that it needs", figures)


def vulnerabilities(found: tuple[Match, ...]) -> tuple[Vulnerability, ...]:
    """Join what several advisories say of one flaw, told by their aliases; the worst first."""
    groups: list[tuple[Component, set[str], list[Match]]] = []
    for match in found:
        names = {match.advisory.id, *match.advisory.aliases}
        same = [group for group in groups if group[0] == match.component and group[1] & names]
        joined = (match.component, names.union(*(group[1] for group in same)), [match, *(each for group in same for each in group[2])])
        groups = [group for group in groups if not any(group is each for each in same)] + [joined]
    return tuple(sorted((_joined(*group) for group in groups), key=lambda each: (-_rank(each), each.component.name, each.names)))


def _joined(component: Component, names: set[str], matches: list[Match]) -> Vulnerability:
    # CVE first: the name that others will know it by
    ordered = tuple(sorted(names, key=lambda name: (not name.startswith("CVE-"), name)))
    told = sorted(matches, key=lambda match: match.advisory.id)
    return Vulnerability(
        ordered,
        component,
        max(match.severity for match in told),
        next((match.advisory.summary for match in told if match.advisory.summary), ""),
        tuple(sorted({version for match in told for version in match.fixed})),
        "" if any(not match.unclear for match in told) else told[0].unclear,
    )


def _rank(found: Vulnerability) -> int:
    return Severity.CRITICAL if found.severity is Severity.UNKNOWN else found.severity


def _pins(declared: Dependencies | None, candidate: Candidate) -> Mapping[str, Pin] | None:
    if declared is None or declared.lock is None:
        return None
    if candidate.fleet_folder is None:
        raise InputError(str(declared.lock), "lies beside fleet.yaml, and nobody told where that is")
    return read_pins(candidate.fleet_folder / declared.lock)


def _unpinned(needs: Needs, pins: Mapping[str, Pin] | None) -> Iterator[str]:
    if pins is None:
        return
    for component in needs.components:
        pin = pins.get(component.name)
        if pin is None or pin.version != component.version:
            there = "not at all" if pin is None else f"at {pin.version}"
            yield f"{component.name} {component.version} (needed by {component.brought_by}) is pinned {there} by gates.dependencies.lock"


def _unusable(scanned: Scan, rules: Dependencies, now: datetime | None) -> Iterator[str]:
    yield from (f"advisories: {problem}" for problem in scanned.problems)
    if scanned.newest is None or now is None:
        yield f"advisories: there is none that counts. {NO_FEED}"
    elif (days := (now - scanned.newest).days) >= rules.advisory_days:
        yield f"advisories: the newest is {days} days old, and {rules.advisory_days} is the limit (advisory_days). Fetch them again"


def _weighed(found: tuple[Vulnerability, ...], rules: Dependencies, waivers: Waivers) -> tuple[list[str], list[str]]:
    """Return what fails, and what cannot be told; what is waived is neither."""
    limit, refused, unknown = Severity.of_word(rules.fail_at), [], []
    waived = waivers.things(DependenciesSound.name)
    for each in found:
        if waived & set(each.things):
            continue
        unrated = each.severity is Severity.UNKNOWN
        if each.unclear:
            unknown.append(f"{_told(each)}: whether this version is affected cannot be told, {each.unclear}")
        elif unrated and rules.unknown == "inconclusive":
            unknown.append(f"{_told(each)}: nobody rated it, or nobody can read how")
        elif unrated or each.severity >= limit:
            known = f"fixed in {', '.join(each.fixed)}" if each.fixed else "no fixed version is known"
            refused.append(f"{_told(each)}; {known}. {SERVERS}{_waivable(each, waivers)}")
    return refused, unknown


def _told(found: Vulnerability) -> str:
    summary = f": {found.summary}" if found.summary else ""
    return f"{found.things[0]} ({found.severity.word}), needed by {found.component.brought_by}{summary}"


def _waivable(found: Vulnerability, waivers: Waivers) -> str:
    not_held = next((why for why in (waivers.why_not(DependenciesSound.name, thing) for thing in found.things) if why), "")
    return f", or have two people waive '{found.things[0]}'{not_held}"


def _figures(needs: Needs, scanned: Scan | None, waivers: Waivers) -> Figures:
    read: Figures = ()
    if scanned is not None:
        newest = scanned.newest.isoformat() if scanned.newest else "none"
        read = (("advisories", str(scanned.advisories)), ("newest advisory", newest))
    return (("packages", str(len(needs.components))), *read, *waivers.figures(DependenciesSound.name))


def _tables(found: tuple[Vulnerability, ...], waivers: Waivers) -> tuple[GateTable, ...]:
    waived = waivers.things(DependenciesSound.name)
    rows = tuple(
        (
            " ".join(each.names),
            f"{each.component.name} {each.component.version}",
            each.severity.word,
            ", ".join(each.fixed),
            each.component.brought_by,
            "yes" if waived & set(each.things) else "",
        )
        for each in found
    )
    return (GateTable("Vulnerabilities", ("advisories", "package", "severity", "fixed in", "needed by", "waived"), rows),) if rows else ()


def _charts(found: tuple[Vulnerability, ...]) -> tuple[GateChart, ...]:
    count = Counter(each.severity for each in found)
    bars = tuple((severity.word, Decimal(count[severity])) for severity in sorted(count, reverse=True))
    return (GateChart("Vulnerabilities by severity", bars),) if bars else ()
