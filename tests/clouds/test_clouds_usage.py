"""What the meter reads becomes whole numbers per kind of traffic, and nothing is lost, doubled or negative."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clouds.local.counters import TRAFFIC, Figures
from clouds.local.samples import KEPT_HOURS, Samples, hour_of, start_of
from clouds.local.usage import IDLE, ProgramUsage, Reading, Used, fold, split

HOUR = 3_600_000
START = 1_700_000_000_000 // HOUR * HOUR
MIB = 1 << 20


def reading(seconds: float, cpu: float = 0, live: int = 0, canary: int = 0, **more: object) -> Reading:
    at = int(START + 1000 * seconds)
    figures = {"live": Figures(live, 0, 10 * live, 20 * live), "canary": Figures(canary, 1 if canary else 0, canary, canary)}
    given_ = {"program": "serve-a", "model": "employment", "revision": "sha256:a", "pid": 7, "started_ms": 1000, "born": 1}
    return Reading(
        **{
            **given_,
            "at_ms": at,
            "steady_ms": at - START + 9000,
            "cpu_us": int(cpu * 1e6),
            "memory_bytes": 100 * MIB,
            "figures": figures,
            **more,
        }  # type: ignore[arg-type]
    )


def only(readings: list[Reading]) -> ProgramUsage:
    (found,) = fold(readings)
    return found


@given(st.integers(0, 10**18), st.dictionaries(st.sampled_from(TRAFFIC), st.integers(1, 10**9)))
def test_parts_sum_to_the_whole_and_each_is_within_one_of_its_share(whole: int, weights: dict[str, int]) -> None:
    parts = split(whole, weights)
    assert sum(parts.values()) == whole
    total = sum(weights.values())
    assert all(abs(parts[name] * total - whole * weight) < total for name, weight in weights.items())
    assert weights or parts == {IDLE: whole}


def test_what_lies_between_two_readings_is_split_by_the_requests_answered_meanwhile() -> None:
    usage = only([reading(0, cpu=5, base=True), reading(10, cpu=7, live=3, canary=1), reading(20, cpu=7.5, live=3, canary=1)])
    assert usage.traffic["live"] == Used(3, 0, 30, 60, 1_500_000, 75 * MIB * 10_000)
    assert usage.traffic["canary"] == Used(1, 1, 1, 1, 500_000, 25 * MIB * 10_000)
    assert usage.traffic[IDLE] == Used(cpu_us=500_000, memory_byte_ms=100 * MIB * 10_000)
    assert (usage.from_ms, usage.to_ms) == (START, START + 20_000)


def test_a_lost_reading_loses_nothing() -> None:
    readings = [reading(5 * n, cpu=n / 10, live=n) for n in range(10)]
    whole, sparse = only(readings), only([readings[0], readings[9]])
    assert whole.traffic["live"] == sparse.traffic["live"]


def test_a_restarted_process_counts_from_its_own_start_and_nothing_is_negative() -> None:
    after = reading(20, cpu=0.3, live=4, pid=8, started_ms=25_000, memory_bytes=10 * MIB)
    usage = only([reading(0, base=True), reading(10, cpu=4, live=2), after])
    assert usage.traffic["live"].cpu_us == 4_300_000
    assert usage.traffic["live"].memory_byte_ms == 100 * MIB * 10_000 + 10 * MIB * 4_000
    assert usage.traffic["live"].requests == 4


def test_a_process_with_the_same_number_is_another_one_when_it_began_at_another_time() -> None:
    assert only([reading(0, cpu=9, base=True), reading(10, cpu=10, started_ms=15_000)]).traffic[IDLE].cpu_us == 10_000_000
    assert only([reading(0, cpu=9, base=True), reading(10, cpu=10, started_ms=1900)]).traffic[IDLE].cpu_us == 1_000_000


def test_counters_that_began_anew_count_whole() -> None:
    usage = only([reading(0, live=5, base=True), reading(10, live=7, born=2)])
    assert usage.traffic["live"].requests == 7


def test_while_no_process_runs_only_answers_given_before_are_counted() -> None:
    gone = reading(10, live=2, pid=0, started_ms=0, memory_bytes=0)
    usage = only([reading(0, cpu=3, base=True), gone, replace(gone, at_ms=gone.at_ms + 10_000)])
    assert usage.traffic == {"live": Used(2, 0, 20, 40)}


def test_an_hour_counts_on_from_the_last_readings_of_the_one_before(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    for minute in range(0, 150, 10):
        samples.append([reading(60 * minute, cpu=minute, live=minute)], START + minute * 60_000)
    hours = samples.hours()
    assert hours == tuple(hour_of(START + n * HOUR) for n in range(3))
    assert [sum(used.requests for use in samples.used(hour) for used in use.traffic.values()) for hour in hours] == [50, 60, 30]
    assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".json", ".json", ".jsonl"]
    assert start_of(hours[0]).timestamp() * 1000 == START


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    samples.append([reading(0, live=1)], START)
    with (tmp_path / f"{hour_of(START)}.jsonl").open("ab") as file:
        file.write(b'{"program": "ser')
    samples.append([reading(10, live=5)], START)
    (usage,) = samples.used(hour_of(START))
    assert usage.traffic["live"].requests == 5


def test_a_clock_that_is_set_back_counts_nothing_twice(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    for seconds, live in ((0, 1), (3600, 5), (0, 9), (3700, 12)):
        samples.append([reading(seconds, live=live)], int(START + 1000 * seconds))
    counts = [use.traffic["live"].requests for hour in samples.hours() for use in samples.used(hour)]
    assert counts == [1, 11]


def test_a_program_that_is_not_read_any_more_is_forgotten_and_old_hours_are(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    samples.append([reading(0, live=1), reading(0, live=1, program="serve-b")], START)
    samples.append([reading(3600, live=2)], START + HOUR)
    assert {use.program for use in samples.used(hour_of(START + HOUR))} == {"serve-a"}
    for n in range(KEPT_HOURS + 3):
        (tmp_path / f"{hour_of(START - (n + 1) * HOUR)}.json").write_text("[]")
    samples.append([reading(7200, live=2)], START + 2 * HOUR)
    assert len(samples.hours()) == KEPT_HOURS + 1
