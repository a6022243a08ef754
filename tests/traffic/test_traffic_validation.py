"""Envoy checks each shape of a configuration once; weights alone make no new shape."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.errors import InputError
from traffic import validation
from traffic.clusters import Cluster, clusters_of
from traffic.envoy import EdgePorts
from traffic.table import Backend, RoutingTable, Share
from traffic.validation import Validator, shape_of

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PORTS = EdgePorts(listener=19081, admin=19082)


def table(*weights: int) -> RoutingTable:
    shares = tuple(Share(revision, weight) for revision, weight in zip((OLD, NEW), weights, strict=True))
    backends = tuple(Backend(revision, "here", "127.0.0.1", 20000 + number) for number, revision in enumerate((OLD, NEW)))
    return RoutingTable("toy", 1, 1, 2e9, shares, (Share(OLD, 100),), backends, 500)


def shape(found: RoutingTable) -> str:
    return shape_of(PORTS, clusters_of(found), [found])


def test_weights_alone_make_no_new_shape() -> None:
    assert shape(table(95, 5)) == shape(table(50, 50))


@pytest.mark.parametrize("other", [table(100, 0), replace(table(95, 5), latency_ms=400)], ids=["a cluster less", "another timeout"])
def test_anything_else_does(other: RoutingTable) -> None:
    assert shape(table(95, 5)) != shape(other)


def test_envoy_is_asked_once_for_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(validation, "validate", lambda *arguments: asked.append(arguments))
    validator = Validator(PORTS)
    for weight in (5, 25, 50):
        validator.check(clusters_of(table(100 - weight, weight)), [table(100 - weight, weight)])
    assert len(asked) == 1


def test_what_envoy_refuses_is_refused_each_time() -> None:
    validator, broken = Validator(PORTS), Cluster("toy", b'{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":7}')
    for _ in range(2):
        with pytest.raises(InputError):
            validator.check([broken], [])
