"""Which cluster of an edge gets which weight: a pure function of a table, a lane, and where the edge stands and prefers to send."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from traffic.lanes import EVERYBODY, Lane, cluster_name, places
from traffic.placement import Placement
from traffic.table import Backend, RoutingTable, Share


def cluster_weights(table: RoutingTable, own: str | None = None, placed: Placement | None = None) -> list[tuple[str, int]]:
    """Return each cluster's weight, as `cluster_shares` splits them."""
    return [(name, weight) for _, name, weight in cluster_shares(table, own, placed)]


def cluster_shares(table: RoutingTable, own: str | None = None, placed: Placement | None = None) -> list[tuple[str, str, int]]:
    """Return revision, cluster and weight of each share of everybody's requests, as `split` divides them."""
    return [
        (place.revision, cluster_name(table.model, place.revision, place.region), weight)
        for place, weight in shares_in(table, EVERYBODY, own, placed)
    ]


def shares_in(table: RoutingTable, lane: Lane, own: str | None = None, placed: Placement | None = None) -> list[tuple[Backend, int]]:
    """Return the places of a lane with their weights, as `split` divides the table's shares.

    A revision that the lane has no place for leaves its share to stable; where stable has none either, nothing is
    given, for a canary must not get more than its share. Where the table's shares differ by region, an edge that stands
    in one deals out that region's; one that stands in none gives each region of stable an equal part of the requests, to
    be dealt out there as that region's shares say. So does one that places its requests, with the parts that it chose: what
    it sends to another region is dealt out as there, so that no canary gets more there than its wave lets it.
    """
    allowed = places(table, lane)
    if not table.regional or (placed is None and own in {place.region for place in allowed}):
        return split(_at_home(table, table.shares_in(own), allowed), allowed, own, placed)
    found = []
    regions = list(dict.fromkeys(place.region for place in allowed if place.revision == table.stable))
    parts = placed.parts(regions, own) if placed and regions else dict.fromkeys(regions, 1)
    for region in regions:
        there = [place for place in allowed if place.region == region]
        found += [(place, weight * parts[region]) for place, weight in split(_at_home(table, table.shares_in(region), there), there)]
    return found


def _at_home(table: RoutingTable, shares: Iterable[Share], allowed: Sequence[Backend]) -> list[Share]:
    """Return the shares among the revisions that have one of some places; nothing where a share would have no taker."""
    at_home = {place.revision for place in allowed}
    given = [share for share in shares if share.weight]
    if table.stable not in at_home and any(share.revision not in at_home for share in given):
        return []
    weights: dict[str, int] = {}
    for share in given:
        answers = share.revision if share.revision in at_home else table.stable
        weights[answers] = weights.get(answers, 0) + share.weight
    return [Share(revision, weight) for revision, weight in weights.items()]


def split(
    shares: Iterable[Share], among: Iterable[Backend], own: str | None = None, placed: Placement | None = None
) -> list[tuple[Backend, int]]:
    """Return each place's weight, in whole numbers without loss.

    An edge that stands in a region (`own`) gives a revision's whole share to that region's cluster, which holds the
    ways out when the region is lost (`clusters`), and 0 to its clusters elsewhere. Where the revision is not in that
    region, or the edge stands in none, the share is split evenly over the revision's places. A placement splits each
    revision's share alike, over those of its places that may answer.
    """
    known = list(among)
    live = [(share, [place for place in known if place.revision == share.revision]) for share in shares if share.weight > 0]
    if placed is not None:
        parts = [placed.parts([place.region for place in there], own) for _, there in live]
        return [(place, share.weight * part[place.region]) for (share, there), part in zip(live, parts, strict=True) for place in there]
    preferred = [[place for place in there if place.region == own] or there for _, there in live]
    unit = math.lcm(*map(len, preferred))
    return [
        (place, share.weight * unit // len(first) if place in first else 0)
        for (share, there), first in zip(live, preferred, strict=True)
        for place in there
    ]
