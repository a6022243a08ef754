"""Which cluster of an edge gets which weight: a pure function of a table and of the region that the edge stands in."""

from __future__ import annotations

import math

from traffic.clusters import cluster_name
from traffic.table import RoutingTable


def cluster_weights(table: RoutingTable, own: str | None = None) -> list[tuple[str, int]]:
    """Return each cluster's weight, as `cluster_shares` splits them."""
    return [(name, weight) for _, name, weight in cluster_shares(table, own)]


def cluster_shares(table: RoutingTable, own: str | None = None) -> list[tuple[str, str, int]]:
    """Return revision, cluster and weight of each share, in whole numbers without loss.

    An edge that stands in a region (`own`) gives a revision's whole share to that region's cluster, which holds the
    ways out when the region is lost (`clusters`), and 0 to its clusters elsewhere. Where the revision is not in that
    region, or the edge stands in none, the share is split evenly over the revision's regions.
    """
    regions = {share.revision: table.regions_of(share.revision) for share in table.shares if share.weight > 0}
    preferred = {revision: (own,) if own in places else places for revision, places in regions.items()}
    unit = math.lcm(*map(len, preferred.values()))
    return [
        (share.revision, cluster_name(table.model, share.revision, region), share.weight * unit // len(preferred[share.revision]))
        if region in preferred[share.revision]
        else (share.revision, cluster_name(table.model, share.revision, region), 0)
        for share in table.shares
        for region in regions.get(share.revision, ())
    ]
