"""The routes of one model at an edge, as Envoy reads them: from the first match on, nothing else is looked at.

A request's residency mark comes first, for nothing may leave it; then whether it is a drill's; then whether it chose
its revision; whoever is left is dealt out by the table's shares. What cannot be kept is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fleet.canonical import short
from fleet.headers import DRILL_HEADER, NOT_READY, RESIDENCY_HEADER, SHADOW_HEADER, TRAFFIC_HEADER
from traffic.attempts.formats import PAIR_HEADER, PAIR_VALUE
from traffic.clusters import TYPE, Timeouts, seconds
from traffic.lanes import CANARY, DRILL, LIVE, PINNED, SHADOW, Lane, cluster_name, places
from traffic.placement import Placement
from traffic.rules import Shadow, Sticky
from traffic.table import Backend, RoutingTable, Share
from traffic.weights import shares_in, split

MILLION: Final = 1_000_000
"""Envoy draws once per request, for the cluster and for the copy: in millionths the two do not depend on one another."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """The requests of one residency at one edge: by which headers they are told, and the mark that they must keep to.

    `own` is the region that the edge stands in, if any, `placed` what its choice among the regions came to.
    """

    table: RoutingTable
    own: str | None = None
    headers: tuple[Json, ...] = ()
    mark: str | None = None
    placed: Placement | None = None

    def lane(self, traffic: str = LIVE) -> Lane:
        """Return the scope's lane for a class of traffic."""
        return Lane(traffic, self.mark)

    def name(self, kind: str = "") -> str:
        """Return a route's name; that of the requests without a mark and without a wish is the model's."""
        marked = f"/in-{self.mark}" if self.mark and self.headers else ""
        return f"{self.table.model}{f'/{kind}' if kind else ''}{marked}"

    def match(self, *more: Json) -> Json:
        """Return what a request of the scope must look like, with some more headers."""
        headers = [*self.headers, *more]
        return {"path_separated_prefix": self.table.entry.rstrip("/"), **({"headers": headers} if headers else {})}


def routes_of(table: RoutingTable, drills: str, own: str | None = None, placed: Placement | None = None) -> list[Json]:
    """Return a model's routes in the order in which they are tried.

    `drills` is the key of `drill_key`, `own` the region that the edge stands in, if any.
    """
    marked = [Scope(table, own, (_marked(residency.mark),), residency.mark, placed) for residency in table.rules.residency]
    routes = [route for scope in marked for route in _routes_in(scope, drills)]
    unmarked = _routes_in(Scope(table, own, mark=table.rules.unmarked, placed=placed), drills)
    return [*routes, _unknown_mark(table), *unmarked]


def nothing_here() -> Json:
    """Return the answer to whoever asks for no model."""
    return _refusal("nothing-here", {"prefix": "/"}, 404, "no model is served at this path")


def _marked(mark: str) -> Json:
    return {"name": RESIDENCY_HEADER, "string_match": {"exact": mark, "ignore_case": True}}


def _unknown_mark(table: RoutingTable) -> Json:
    marks = ", ".join(residency.mark for residency in table.rules.residency)
    known = f"one of {marks}" if marks else "none, for this model has no residency"
    says = f"{RESIDENCY_HEADER} names no residency that is known here ({known}); the request was answered nowhere"
    scope = Scope(table, headers=(_present(RESIDENCY_HEADER),))
    return _refusal(scope.name("unknown-residency"), scope.match(), 400, says)


def _routes_in(scope: Scope, drills: str) -> list[Json]:
    """Return the routes of one residency; none of its places being left, one that refuses."""
    shares = shares_in(scope.table, scope.lane(), scope.own, scope.placed)
    if not shares:
        says = f"no region of residency '{scope.mark}' has this model now; the request was answered nowhere"
        return [_refusal(scope.name(), scope.match(), 503, says)]
    live = [_share(scope, place, weight, LIVE if place.revision == scope.table.stable else CANARY) for place, weight in shares]
    drill = [_share(scope, place, weight, DRILL) for place, weight in shares]
    knows_the_key: Json = {"name": DRILL_HEADER, "string_match": {"exact": drills}}
    return [
        *([_route(scope.table, scope.name(DRILL), scope.match(knows_the_key), drill)] if drills else []),
        *_pinned(scope),
        _everybodys(scope, live),
    ]


def _everybodys(scope: Scope, shares: Sequence[Json]) -> Json:
    """Return the route of those who ask for nothing special; they alone are copied for a shadow, or stay where they were."""
    table, route = scope.table, _route(scope.table, scope.name(), scope.match(), shares)
    action = route["route"]
    if table.shadow is not None:
        action["request_mirror_policies"] = [_copies(table.shadow)]
        # The logs join a copy's answer to its request's by a key that the edge itself makes
        route["request_headers_to_add"] = [_header(PAIR_HEADER, PAIR_VALUE)]
    if table.rules.sticky is not None:
        action["weighted_clusters"]["use_hash_policy"] = True
        action["hash_policy"] = [_caller(table.rules.sticky)]
    return route


def _copies(shadow: Shadow) -> Json:
    """Have requests copied to the cluster that their share names, so that a copy stays in the request's own region."""
    return {
        "cluster_header": SHADOW_HEADER,
        "runtime_fraction": {"default_value": {"numerator": shadow.percent * MILLION // 100, "denominator": "MILLION"}},
        "request_headers_mutations": [{"append": _header(TRAFFIC_HEADER, SHADOW)}, {"remove": SHADOW_HEADER}],
        "disable_shadow_host_suffix_append": True,
    }


def _caller(sticky: Sticky) -> Json:
    return {"header": {"header_name": sticky.name}} if sticky.kind == "header" else {"cookie": {"name": sticky.name}}


def _pinned(scope: Scope) -> Iterator[Json]:
    """Return a route for each revision by its names, then the refusals of names that mean none."""
    table = scope.table
    header = table.rules.pin_header
    if header is None:
        return
    named = _names(table)
    for name, revision in named.items():
        its_own = [place for place in places(table, scope.lane(PINNED)) if place.revision == revision]
        there = split([Share(revision, 100)], its_own, scope.own, scope.placed)
        match = scope.match({"name": header, "string_match": {"exact": name, "ignore_case": True}})
        if there:
            yield _route(table, scope.name(f"{PINNED}-{name}"), match, [_share(scope, place, weight, PINNED) for place, weight in there])
        else:
            yield _refusal(scope.name(f"{PINNED}-{name}"), match, 503, f"no region of residency '{scope.mark}' has revision {name} now")
    if table.canary is None:
        match = scope.match({"name": header, "string_match": {"exact": CANARY, "ignore_case": True}})
        yield _refusal(scope.name(f"{PINNED}-{CANARY}"), match, 503, "no canary is under way; stable is")
    says = f"{header} names no revision that is here (one of {', '.join(named)})"
    yield _refusal(scope.name(f"{PINNED}-unknown"), scope.match(_present(header)), 400, says)


def _names(table: RoutingTable) -> dict[str, str]:
    """Return each name by which a caller may choose a revision."""
    roles = {"stable": table.stable, **({CANARY: table.canary} if table.canary else {})}
    return roles | {short(revision): revision for revision in dict.fromkeys(place.revision for place in table.backends)}


def _route(table: RoutingTable, name: str, match: Mapping[str, object], shares: Sequence[Json]) -> Json:
    timeouts = Timeouts.of(table.latency_ms)
    return {
        "name": name,
        "match": match,
        "route": {
            "weighted_clusters": {"clusters": list(shares)},
            "timeout": seconds(timeouts.whole),
            "retry_policy": {
                # An answer is never tried again; a process that says it is only starting gave none
                "retry_on": "connect-failure,refused-stream,reset,retriable-headers",
                "retriable_headers": [{"name": NOT_READY, "present_match": True}],
                "num_retries": 2,
                "per_try_timeout": seconds(timeouts.per_try),
                "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.050s"},
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                        "update_frequency": 1,
                    },
                },
            },
        },
    }


def _share(scope: Scope, place: Backend, weight: int, label: str) -> Json:
    """Return a place's share; the labels that its requests carry on are ours, whatever a caller sent."""
    traffic = PINNED if label == PINNED else LIVE
    added = [_header(TRAFFIC_HEADER, label)]
    if scope.mark is not None:
        added.append(_header(RESIDENCY_HEADER, scope.mark))
    shadow = scope.table.shadow
    if shadow and label == LIVE and place.region in scope.table.regions_of(shadow.revision):
        added.append(_header(SHADOW_HEADER, cluster_name(scope.table.model, shadow.revision, place.region, Lane(SHADOW))))
    return {
        "name": cluster_name(scope.table.model, place.revision, place.region, scope.lane(traffic)),
        "weight": weight,
        "request_headers_to_add": added,
        "request_headers_to_remove": [TRAFFIC_HEADER, DRILL_HEADER, SHADOW_HEADER, PAIR_HEADER],
    }


def _header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _present(name: str) -> Json:
    return {"name": name, "present_match": True}


def _refusal(name: str, match: Mapping[str, object], status: int, says: str) -> Json:
    return {"name": name, "match": match, "direct_response": {"status": status, "body": {"inline_string": says}}}
