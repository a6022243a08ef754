"""Whether a model's revisions may lie in a region, by what fleet.yaml declares: decided before any byte is written."""

from __future__ import annotations

from datetime import datetime

from fleet.declared import Fleet
from fleet.errors import Refused


def grants_for(fleet: Fleet, model: str, region: str, now: datetime) -> tuple[str, ...]:
    """Return the grants by which a model's revisions may lie in a region, none where no border is crossed.

    Raises Refused where the region's jurisdiction is none of `within`, or a class of data lacks a grant that holds.
    """
    replication, place = fleet.models[model].replication, fleet.regions[region].jurisdiction
    if replication.within and place not in replication.within:
        raise Refused(
            f"model '{model}' in region '{region}'",
            f"must not lie in {place}: models.{model}.replication.within has {', '.join(replication.within)}",
            "Take the region out of the model's regions, or the jurisdiction into within.",
        )
    if replication.home in (None, place):
        return ()
    found, missing = [], []
    for kind in replication.classes:
        fitting = [name for name, grant in fleet.transfers.items() if kind in grant.classes and grant.home == replication.home]
        valid = [name for name in fitting if place in fleet.transfers[name].to and fleet.transfers[name].holds(now)]
        found += valid[:1]
        missing += [] if valid else [kind]
    if missing:
        raise Refused(
            f"model '{model}' in region '{region}'",
            f"lacks a grant that holds for {', '.join(missing)} data from {replication.home} to {place}",
            "Declare the transfer in fleet.yaml (transfers), with its basis, approver and expiry, or take the region out.",
        )
    return tuple(dict.fromkeys(found))
