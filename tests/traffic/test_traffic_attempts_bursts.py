"""One caller's burst is one event, for a revision that it hit: whichever, in whatever order and at whatever speed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_traffic_attempts_lines import CANARY, SLOW_MS, STABLE, START, attempt_line, request_line

from traffic.attempts.bursts import Lot
from traffic.attempts.fold import Fold
from traffic.attempts.lines import Series
from traffic.attempts.pending import Pending
from traffic.attempts.tallies import Tally
from traffic.attempts.terms import Terms

DELAY_MS = 1000
SECOND = START // 1000
TERMS = Terms(SLOW_MS)
REVISIONS = {CANARY: "r1", STABLE: "r2"}
AT_CANARY, AT_STABLE = Series("employment", CANARY, "r1", "live"), Series("employment", STABLE, "r2", "live")
CALLERS = ("192.0.2.1", "192.0.2.2", None)
Bursts = dict[tuple[int, Series], Counter[str]]


@dataclass(frozen=True)
class Told:
    """An attempt that was bad, slow or both; as an unclear one it comes with the request that was timed out."""

    key: str
    end: int
    took: int
    series: Series
    caller: str | None
    code: int

    @property
    def lines(self) -> list[tuple[bytes, bool]]:
        """The lines, each with whether it is a request's."""
        place = {"cluster_revision": self.series.revision, "cluster_region": self.series.region, "caller": self.caller}
        place |= {"host_revision": self.series.revision, "host_region": self.series.region, "duration_ms": self.took, "code": self.code}
        place |= {"cluster_model": self.series.model, "traffic": None if self.series.traffic == "live" else self.series.traffic}
        attempt = attempt_line(self.key, self.end - self.took, **place), False
        return [attempt, (request_line(self.key, self.end - self.took, **place | {"flags": "UT"}), True)] if not self.code else [attempt]

    @property
    def met(self) -> list[str]:
        """What the caller met."""
        return ["bad"] * (self.code == 0 or self.code >= 500) + ["slow"] * (self.code > 0 and self.took > SLOW_MS)


@st.composite
def told(draw: st.DrawFn) -> list[Told]:
    """Attempts of few callers within two seconds, many of them ending in the same millisecond."""
    found = []
    for number in range(draw(st.integers(0, 25))):
        revision = draw(st.sampled_from([CANARY, STABLE]))
        traffic, model = draw(st.sampled_from(["live", "live", "shadow"])), draw(st.sampled_from(["employment", "employment", "churn"]))
        code = draw(st.sampled_from([200, 500, 503] + [0] * (traffic == "live")))
        end = START + draw(st.one_of(st.sampled_from([10, 990]), st.integers(0, 1999)))
        series = Series(model, revision, REVISIONS[revision], traffic)
        found.append(Told(f"request-{number}", end, draw(st.sampled_from([3, 200])), series, draw(st.sampled_from(CALLERS)), code))
    return found


def wanted(every: list[Told]) -> Bursts:
    """Count the lowest checksum of each caller in each second, and everything of callers whom nobody knows."""
    found: Bursts = {}
    drawn: dict[tuple[object, ...], tuple[int, Series]] = {}
    for each in every:
        for metric in each.met:
            if each.caller is None:
                found.setdefault((each.end // 1000, each.series), Counter())[metric] += 1
                continue
            who = each.end // 1000, metric, each.series.model, each.series.traffic, each.caller
            this = crc32(f"7/{each.key}".encode()), each.series
            drawn[who] = min(drawn.get(who, this), this)
    for (second, metric, *_), (_, series) in drawn.items():
        found.setdefault((second, series), Counter())[str(metric)] += 1  # type: ignore[index]
    return found


def bursts_in(tallies: list[Tally]) -> Bursts:
    found: Bursts = {}
    for tally in tallies:
        for place, cell in tally.items():
            found.setdefault(place, Counter()).update({"bad": cell.bad_bursts, "slow": cell.slow_bursts})
    return {place: +counts for place, counts in found.items() if +counts}


def counted(tallies: list[Tally]) -> dict[tuple[int, Series], tuple[int, int]]:
    found: dict[tuple[int, Series], tuple[int, int]] = {}
    for tally in tallies:
        for place, cell in tally.items():
            bad, slow = found.get(place, (0, 0))
            found[place] = bad + cell.bad, slow + cell.slow
    return found


def new_fold(saved: Fold | None = None) -> Fold:
    if saved is None:
        return Fold(lambda model: TERMS, str)
    return Fold(lambda model: TERMS, str, saved.complete_to, saved.troubles, Pending.from_json(saved.pending.to_json()))


@settings(max_examples=300, deadline=None)
@given(told(), st.randoms(use_true_random=False), st.integers(1, 8), st.booleans())
def test_any_order_any_split_and_any_restart_within_the_delay_draws_the_same(
    every: list[Told], chance: random.Random, turns: int, restart: bool
) -> None:
    waiting = [(each.end + chance.randrange(DELAY_MS - 20), line) for each in every for line in each.lines]
    fold, tallies = new_fold(), []
    for now in [*sorted(chance.randrange(START, START + 4000) for _ in range(turns)), START + 60_000]:
        arrived = [line for ready, line in waiting if ready <= now]
        waiting = [(ready, line) for ready, line in waiting if ready > now]
        chance.shuffle(arrived)
        fold.read_attempts([line for line, is_request in arrived if not is_request], now)
        fold.read_requests([line for line, is_request in arrived if is_request], now)
        tallies.append(fold.close(now - DELAY_MS, now))
        fold = new_fold(fold) if restart else fold
    assert bursts_in(tallies) == wanted(every)
    for place, counts in bursts_in(tallies).items():
        bad, slow = counted(tallies)[place]
        assert counts["bad"] <= bad
        assert counts["slow"] <= slow
    assert len(fold.pending) == 0


def bad(key: str, end: int, revision: str = CANARY, **more: object) -> bytes:
    place = {
        "cluster_revision": revision,
        "host_revision": revision,
        "cluster_region": REVISIONS[revision],
        "host_region": REVISIONS[revision],
    }
    return attempt_line(key, end - 3, code=500, **place, **more)


def closed(*lines: bytes, requests: tuple[bytes, ...] = (), seconds: int = 5) -> Bursts:
    fold, now = new_fold(), START + 1000 * seconds
    fold.read_attempts(lines, now)
    fold.read_requests(requests, now)
    return bursts_in([fold.close(now + 60_000, now + 61_000)])


def test_one_over_all_revisions_counts_and_not_one_of_each() -> None:
    found = closed(bad("one", START + 500), bad("two", START + 200, STABLE), bad("three", START + 700), bad("four", START + 1200))
    assert found.pop((SECOND + 1, AT_CANARY)) == Counter(bad=1)
    assert list(found.values()) == [Counter(bad=1)]


def test_callers_models_and_classes_of_traffic_have_bursts_of_their_own() -> None:
    lines = [bad("one", START, caller="192.0.2.1"), bad("two", START, caller="192.0.2.2"), bad("three", START, caller="192.0.2.2")]
    lines += [bad("four", START, traffic="shadow", caller="192.0.2.1"), bad("five", START, cluster_model="churn", caller="192.0.2.1")]
    assert closed(*lines) == {
        (SECOND, AT_CANARY): Counter(bad=2),
        (SECOND, AT_CANARY._replace(traffic="shadow")): Counter(bad=1),
        (SECOND, AT_CANARY._replace(model="churn")): Counter(bad=1),
    }


def test_callers_whom_nobody_knows_are_never_taken_for_one() -> None:
    assert closed(*(bad(str(number), START, caller=None) for number in range(5))) == {(SECOND, AT_CANARY): Counter(bad=5)}


def test_what_only_the_request_tells_belongs_to_the_same_burst() -> None:
    nowhere: dict[str, object] = {"host_revision": None, "host_region": None, "host": None}
    no_host = request_line("no host", START, code=503, flags="UH", **nowhere)
    cut_off, answered = request_line("cut off", START + 40, flags="UT"), attempt_line("cut off", START + 40)
    assert closed(bad("five hundred", START + 900), answered, requests=(no_host, cut_off)) == {(SECOND, AT_CANARY): Counter(bad=1)}


def test_whoever_left_has_met_nothing() -> None:
    assert closed(attempt_line("left", code=0), requests=(request_line("left", code=0, flags="DC"),)) == {}


def test_tries_of_one_request_in_one_millisecond_count_where_it_was_routed() -> None:
    elsewhere = {"code": 0, "flags": "UF", "host_revision": STABLE, "host_region": "r2", "duration_ms": 0}
    here = {"code": 0, "flags": "UF", "duration_ms": 0}
    for lines in ([attempt_line(**elsewhere), attempt_line(**here)], [attempt_line(**here), attempt_line(**elsewhere)]):
        assert closed(*lines, requests=(request_line(tries=2, code=503, flags="UF"),)) == {(SECOND, AT_CANARY): Counter(bad=1)}


@pytest.mark.parametrize(
    ("lead", "spread"),
    [(0, 0), (-5, 0), (5, 0), (-100, 900), (100, 900)],
    ids=["in one millisecond", "at once, the canary quicker", "at once, the canary slower", "spread, quicker", "spread, slower"],
)
def test_bursts_fall_to_a_revision_as_often_as_requests_do_however_quick_it_is(lead: int, spread: int) -> None:
    """Behind one outage identical revisions fail alike: whoever ends or starts first must not be the one that is blamed."""
    chance, share, seconds = random.Random(11), 0.1, 3000
    lines, hit = [], Counter[str]()
    for second in range(seconds):
        for _ in range(5):
            revision = CANARY if chance.random() < share else STABLE
            end = START + 1000 * second + 10 + chance.randrange(spread + 1) + (max(lead, 0) if revision == CANARY else max(-lead, 0))
            lines.append(bad(f"{chance.getrandbits(64):x}", end, revision, connection=second))
            hit[revision] += 1
    found = Counter[str]()
    for (_, series), counts in closed(*lines, seconds=seconds).items():
        found[series.revision] += counts["bad"]
    assert sum(found.values()) in range(seconds, seconds + 2)
    # Four standard errors of a fair draw; the first to end would give 0.41 where the canary is quicker
    assert abs(found[CANARY] / seconds - hit[CANARY] / hit.total()) < 0.022


def test_a_second_try_elsewhere_stands_in_and_is_not_what_the_burst_hit() -> None:
    fold, here = new_fold(), attempt_line("one", code=0, flags="UF", duration_ms=2)
    elsewhere = attempt_line("one", START + 5, code=500, host_revision=STABLE, host_region="r2")
    fold.read_attempts([elsewhere, here, attempt_line("two", caller="192.0.2.9")], START + 100)
    fold.read_requests([request_line("one", code=500, tries=2, host_revision=STABLE, host_region="r2", duration_ms=8)], START + 100)
    tally = fold.close(START + 60_000, START + 61_000)
    found = {place: (cell.attempts, cell.stand_ins, cell.bad, cell.bad_bursts) for place, cell in tally.items()}
    assert found == {(SECOND, AT_CANARY): (2, 0, 1, 1), (SECOND, AT_STABLE): (1, 1, 1, 0)}


def test_what_stood_in_for_a_revision_never_touched_does_not_take_its_burst() -> None:
    elsewhere: dict[str, object] = {"host_revision": STABLE, "host_region": "r2", "code": 500}
    found = closed(attempt_line("one", **elsewhere), requests=(request_line("one", **elsewhere),))
    assert found == {(SECOND, AT_CANARY): Counter(bad=1)}


def test_a_burst_of_a_second_that_is_complete_counts_where_its_attempts_do() -> None:
    fold = new_fold()
    fold.close(START + 10_000, START + 11_000)
    fold.read_attempts([bad("one", START), bad("two", START), bad("three", START + 10_100)], START + 11_000)
    tally = fold.close(START + 60_000, START + 61_000)
    assert {place: (cell.bad, cell.bad_bursts) for place, cell in tally.items()} == {(SECOND + 10, AT_CANARY): (3, 1)}


def test_what_is_held_of_callers_is_bounded() -> None:
    fold = new_fold()
    fold.most_pending = 100
    fold.read_attempts([bad(str(number), START, caller=f"caller-{number}") for number in range(500)], START + 10)
    assert bursts_in([fold.close(START - 1000, START + 10)]) == {(SECOND, AT_CANARY): Counter(bad=500)}
    assert len(fold.pending) == 0


@pytest.mark.parametrize("older", [b"[{}, {}, {}]", b'[{}, {}, {"7/one": [1795374306000]}]'])
def test_what_an_older_convoy_held_is_read(older: bytes) -> None:
    assert len(Pending.from_json(older).bursts) == 0


def test_a_lot_knows_neither_revision_nor_time_before_the_request() -> None:
    routed, stood_in = Lot.of("7/one", AT_STABLE, AT_STABLE), Lot.of("7/one", AT_STABLE, AT_CANARY)
    assert routed < stood_in
    assert (routed.checksum, routed.stand_in, stood_in.stand_in) == (stood_in.checksum, False, True)
    assert Lot.of("7/two", AT_CANARY, AT_CANARY).checksum == Lot.of("7/two", AT_STABLE, AT_STABLE).checksum != routed.checksum
