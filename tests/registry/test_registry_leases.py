from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.errors import Busy, InputError
from registry.leases import Leases
from registry.ledger import Ledger


@pytest.fixture
def leases(ledger: Ledger) -> Leases:
    return Leases(ledger)


def test_a_lease_excludes_others_until_it_expires(leases: Leases, clock):
    first = leases.take("employment", "a", 15)
    assert first is not None
    assert first.epoch == 1
    assert first.expires_at == clock.at + timedelta(seconds=15)
    assert leases.take("employment", "b", 15) is None
    assert leases.current("employment") == first
    clock.forward(14.9)
    assert leases.take("employment", "b", 15) is None
    clock.forward(0.1)
    assert leases.current("employment") is None
    second = leases.take("employment", "b", 15)
    assert second is not None
    assert (second.holder, second.epoch) == ("b", 2)


def test_models_do_not_exclude_one_another(leases: Leases):
    assert leases.take("employment", "a", 15)
    assert leases.take("income", "b", 15)
    assert leases.current("nothing of that name") is None


def test_taking_again_raises_the_epoch(leases: Leases):
    first = leases.take("employment", "a", 15)
    again = leases.take("employment", "a", 15)
    assert first is not None
    assert again is not None
    assert again.epoch == first.epoch + 1
    with pytest.raises(Busy, match="epoch 1 is lost"):
        leases.renew(first)


def test_a_renewed_lease_lasts_from_now(leases: Leases, clock):
    lease = leases.take("employment", "a", 15)
    assert lease is not None
    clock.forward(10)
    renewed = leases.renew(lease)
    assert renewed.epoch == lease.epoch
    clock.forward(10)
    assert leases.current("employment") == renewed
    assert leases.take("employment", "b", 15) is None


def test_an_expired_lease_is_renewed_only_while_nobody_took_it(leases: Leases, clock):
    lease = leases.take("employment", "a", 15)
    assert lease is not None
    clock.forward(20)
    lease = leases.renew(lease)
    assert leases.current("employment") == lease
    clock.forward(20)
    assert leases.take("employment", "b", 15)
    with pytest.raises(Busy):
        leases.renew(lease)


def test_a_lease_given_back_is_free_and_its_epoch_is_never_used_again(leases: Leases):
    lease = leases.take("employment", "a", 15)
    assert lease is not None
    leases.give_back(lease)
    leases.give_back(lease)
    assert leases.current("employment") is None
    with pytest.raises(Busy):
        leases.renew(lease)
    following = leases.take("employment", "b", 15)
    assert following is not None
    assert following.epoch == 2
    leases.give_back(lease)
    assert leases.current("employment") == following


def test_a_clock_set_back_an_hour_keeps_a_dead_holders_lease_no_longer_than_its_length(leases: Leases, clock):
    dead = leases.take("employment", "a", 15)
    assert dead is not None
    clock.forward(-3600)
    seen = leases.current("employment")
    assert seen is not None
    assert seen.expires_at == clock.at + timedelta(seconds=15)
    assert leases.take("employment", "b", 15) is None
    clock.forward(14.9)
    assert leases.take("employment", "b", 15) is None
    clock.forward(0.1)
    assert leases.current("employment") is None
    following = leases.take("employment", "b", 15)
    assert following is not None
    assert following.epoch == dead.epoch + 1


def test_a_clock_set_back_takes_nothing_from_a_living_holder(leases: Leases, clock):
    lease = leases.take("employment", "a", 15)
    assert lease is not None
    clock.forward(-3600)
    assert leases.take("employment", "b", 15) is None
    clock.forward(10)
    lease = leases.renew(lease)
    clock.forward(10)
    assert leases.take("employment", "b", 15) is None
    assert leases.current("employment") == lease


def test_a_holder_that_cannot_renew_stops_believing_although_the_clock_was_set_back(tmp_path, clock):
    import sqlite3

    from registry import database

    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db", now=clock)
    ledger.migrate()
    patch = pytest.MonkeyPatch()
    patch.setattr(database, "BUSY_SECONDS", 0.05)
    impatient = Leases(Ledger(f"sqlite:///{tmp_path}/ledger.db", now=clock))
    patch.undo()
    lease = impatient.take("employment", "a", 0.3)
    assert lease is not None
    blocker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    with impatient.held(lease) as held:
        blocker.execute("BEGIN IMMEDIATE")
        clock.forward(-3600)
        assert held.lost.wait(10)
    blocker.execute("ROLLBACK")


def test_a_lease_needs_a_length_and_a_holder(leases: Leases):
    with pytest.raises(InputError):
        leases.take("employment", "a", 0)
    with pytest.raises(InputError):
        leases.take("employment", "", 15)


def test_held_renews_by_itself_and_gives_back(ledger_url: str, ledger: Ledger, wait_until):
    leases = Leases(Ledger(ledger_url))
    lease = leases.take("employment", "a", 0.6)
    assert lease is not None
    with leases.held(lease) as held:
        wait_until(lambda: held.lease.expires_at > lease.expires_at + timedelta(seconds=0.6), 10)
        assert not held.lost.is_set()
        assert leases.take("employment", "b", 1) is None
    assert not held.lost.is_set()
    assert leases.take("employment", "b", 1)


def test_held_tells_when_the_lease_is_lost(ledger_url: str, leases: Leases, clock):
    mine = Leases(Ledger(ledger_url, now=clock))
    lease = mine.take("employment", "a", 0.3)
    assert lease is not None
    with mine.held(lease) as held:
        # An operator ends it by force: the next renewal finds another epoch.
        assert leases.take("employment", "a", 60)
        assert held.lost.wait(10)
    still = leases.current("employment")
    assert still is not None
    assert still.epoch == 2


def test_held_is_lost_when_the_database_stays_locked_past_the_expiry(tmp_path, wait_until):
    import sqlite3

    from registry import database

    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    ledger.migrate()
    patch = pytest.MonkeyPatch()
    patch.setattr(database, "BUSY_SECONDS", 0.05)
    impatient = Leases(Ledger(f"sqlite:///{tmp_path}/ledger.db"))
    patch.undo()
    lease = impatient.take("employment", "a", 0.3)
    assert lease is not None
    blocker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    with impatient.held(lease) as held:
        blocker.execute("BEGIN IMMEDIATE")
        assert held.lost.wait(10)
    blocker.execute("ROLLBACK")


def test_four_processes_that_take_at_once_get_one_lease(ledger: Ledger, ledger_url: str, start_python):
    script = """
import sys
from registry.leases import Leases
from registry.ledger import Ledger
print(bool(Leases(Ledger(sys.argv[1])).take("employment", sys.argv[2], 60)))
"""
    takers = [start_python(script, ledger_url, f"taker-{number}") for number in range(4)]
    answers = [taker.communicate(timeout=60)[0].strip() for taker in takers]
    assert sorted(answers) == ["False", "False", "False", "True"]
