"""Routing tables of a release: what they tell the edges, on a machine so busy that one runs out before an edge has taken it too."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from fleet.declared import Fleet, Model, Predictions
from fleet.errors import Busy, TooLate
from fleet.versions import Revision
from flows import routing
from flows.routing import Deal, deal
from support.stack import toy_fleet
from traffic.rules import Shadow
from traffic.table import Backend, RoutingTable

REVISION = Revision("m", "1", f"sha256:{1:064}")
HOLDER: Any = SimpleNamespace(house=None, claim=SimpleNamespace(check=lambda _: None))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tables that were sent, each by its number; the edge takes the third."""
    numbers, tables = itertools.count(1), list[int]()

    def taken(_house: object, table: int) -> tuple[str, ...]:
        tables.append(table)
        if len(tables) < 3:
            raise TooLate(f"table {table}", "has expired already")
        return (f"table {table}",)

    monkeypatch.setattr(routing, "table_of", lambda *_: next(numbers))
    monkeypatch.setattr(routing, "apply", taken)
    return tables


def test_a_table_that_ran_out_on_its_way_is_made_anew(sent: list[int]) -> None:
    assert routing.set_weight(HOLDER, None, None, 5) == ("table 3",)
    assert sent == [1, 2, 3]


def test_tables_that_run_out_again_and_again_are_an_error_that_is_tried_later(sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "TRIES_IN_TIME", 2)
    with pytest.raises(TooLate):
        routing.set_weight(HOLDER, None, None, 5)
    assert sent == [1, 2]


@pytest.mark.parametrize("tables", [0, 1])
def test_a_controller_that_lost_the_model_while_it_made_a_table_sends_it_to_nobody(sent: list[int], tables: int) -> None:
    asked = itertools.count()

    def check(_house: object) -> None:
        if next(asked) >= tables:
            raise Busy("model 'm'", "its lease was lost to another controller")

    with pytest.raises(Busy):
        routing.set_weight(SimpleNamespace(house=None, claim=SimpleNamespace(check=check)), None, None, 5)
    assert len(sent) == tables


STABLE = Revision("m", "0", "sha256:" + "2" * 64)


def work_on(model: Model) -> Any:
    """Return as much of a release's work as a table is made from."""
    return SimpleNamespace(
        model="m",
        epoch=1,
        claim=SimpleNamespace(versions=itertools.count(1), check=lambda _: None),
        house=SimpleNamespace(settings=SimpleNamespace(table_seconds=20), fleet=Fleet.model_validate(toy_fleet(("m",)))),
        regions=model.quorum,
        declared=model,
    )


@pytest.mark.parametrize(
    ("dealt", "shares", "safe", "served", "copies"),
    [
        (Deal(0), {STABLE: 100}, STABLE, {STABLE}, None),
        (Deal(0, copies=30), {STABLE: 100}, STABLE, {STABLE, REVISION}, 30),
        (Deal(20), {STABLE: 80, REVISION: 20}, STABLE, {STABLE, REVISION}, None),
        (Deal(100, baking=True), {REVISION: 100}, STABLE, {STABLE, REVISION}, None),
        (Deal(100), {REVISION: 100}, REVISION, {REVISION}, None),
    ],
    ids=["nothing", "copies alone", "a share", "baking", "promoted"],
)
def test_until_it_is_promoted_a_revisions_way_back_is_stable(
    dealt: Deal, shares: dict[Revision, int], safe: Revision, served: set[Revision], copies: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "backends", lambda _, each, *__, **___: (Backend(each.digest, "us-east-1", "127.0.0.1", 1001),))
    sent = list[RoutingTable]()
    monkeypatch.setattr(routing, "apply", lambda _, table: sent.append(table))
    deal(work_on(Model.model_validate(toy_fleet(("m",))["models"]["m"])), REVISION, STABLE, dealt)
    (table,) = sent
    assert {share.revision: share.weight for share in table.shares} == {revision.digest: weight for revision, weight in shares.items()}
    assert table.stable == safe.digest
    assert {backend.revision for backend in table.backends} == {revision.digest for revision in served}
    assert table.shadow == (Shadow(REVISION.digest, copies) if copies else None)


@pytest.mark.parametrize(
    ("declared", "told"),
    [(None, (None, 0.0)), (Predictions(low=-1, high=3, shift=0.1, tolerance=0.02), ((-1.0, 3.0), 0.02))],
    ids=["not judged", "judged"],
)
def test_a_table_tells_the_edges_what_the_models_scores_may_be(
    declared: Predictions | None, told: tuple[object, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.model_validate(toy_fleet(("m",))["models"]["m"]).model_copy(update={"predictions": declared})
    work = work_on(model)
    monkeypatch.setattr(routing, "backends", lambda *_, **__: (Backend(REVISION.digest, "us-east-1", "127.0.0.1", 1001),))
    sent = list[object]()
    monkeypatch.setattr(routing, "apply", lambda _, table: sent.append((table.score_range, table.score_tolerance)))
    routing.set_weight(work, REVISION, None, 100)
    assert sent == [told]
