"""What runs by hand may be adopted where a release proved it once: it is kept from then on, until the next promotion."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.serving import RevisionStatus, State
from fleet.errors import InputError, Refused, UnknownName
from flows.adopting import adopt
from flows.desires import model_stream, observe_candidate
from flows.house import House
from flows.wanting import ADOPTED, wanted_of, wanted_of_all
from registry.ledger import NewEvent
from support.stack import REGIONS, house_without_servers

OLD, STABLE, STRANGER = (f"sha256:{number:064}" for number in (1, 2, 3))
REGION = REGIONS[0]


class Servers:
    """What runs, in every region the same."""

    def __init__(self, *running: str) -> None:
        self.running = running

    def status(self, model: str, region: str) -> tuple[RevisionStatus, ...]:
        return tuple(RevisionStatus(model, region, digest, State.READY) for digest in self.running)


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = house_without_servers(tmp_path)
    for version, digest in (("1", OLD), ("2", STABLE)):
        promoted(found, version, digest)
    return found


def promoted(house: House, version: str, digest: str) -> None:
    stable = {"version": version, "digest": digest, "release": f"toy-{version}"}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))


def runs(monkeypatch: pytest.MonkeyPatch, *digests: str) -> None:
    monkeypatch.setattr(House, "target", lambda *_: Servers(*digests))


def test_what_was_adopted_is_wanted_where_it_runs_until_the_next_promotion(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, STABLE, OLD)
    event = adopt(house, "toy", REGION, None, "warm while we look", "test")
    assert (event.payload["digest"], event.payload["version"], event.payload["reason"]) == (OLD, "1", "warm while we look")
    wanted = wanted_of(house, "toy")
    assert wanted.may_run(REGION, OLD)
    assert not wanted.may_run(REGIONS[1], OLD)
    assert wanted_of_all(house, ("toy",)) == {"toy": wanted}
    promoted(house, "3", STRANGER)
    assert not wanted_of(house, "toy").may_run(REGION, OLD)


def test_what_no_release_proved_is_not_adopted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, STABLE, STRANGER)
    with pytest.raises(Refused, match="never the stable one"):
        adopt(house, "toy", REGION, None, "it looks good", "test")
    assert house.ledger.last(model_stream("toy"), ADOPTED) is None


@pytest.mark.parametrize(
    ("running", "digest", "says"),
    [
        ((STABLE,), None, "runs nothing that nobody wants"),
        ((STABLE, OLD, STRANGER), None, "say which"),
        ((STABLE, OLD), STABLE, "that nobody wants"),
        ((STABLE, OLD), "sha256:ffff", "that nobody wants"),
    ],
    ids=["nothing", "two, and none is named", "the stable one", "one that does not run"],
)
def test_only_what_runs_and_nobody_wants_is_adopted(
    house: House, monkeypatch: pytest.MonkeyPatch, running: tuple[str, ...], digest: str | None, says: str
) -> None:
    runs(monkeypatch, *running)
    with pytest.raises(InputError, match=says):
        adopt(house, "toy", REGION, digest, "why", "test")
    assert house.ledger.last(model_stream("toy"), ADOPTED) is None


def test_one_of_several_is_named_by_the_beginning_of_its_digest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, STABLE, OLD, STRANGER)
    assert adopt(house, "toy", REGION, OLD[:-1] + "1", "why", "test").payload["digest"] == OLD


def test_nothing_is_adopted_while_a_release_is_under_way_nor_elsewhere_nor_without_a_reason(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, STABLE, OLD)
    with pytest.raises(InputError, match="is none of model"):
        adopt(house, "toy", "mars", None, "why", "test")
    with pytest.raises(InputError, match="is empty"):
        adopt(house, "toy", REGION, None, " ", "test")
    with pytest.raises(UnknownName):
        adopt(house, "nobody", REGION, None, "why", "test")
    observe_candidate(house.ledger, "toy", "3", "test")
    with pytest.raises(Refused, match="under way"):
        adopt(house, "toy", REGION, None, "why", "test")
    assert wanted_of(house, "toy").adopted == ()
