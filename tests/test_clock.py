"""A process that sleeps; then what its clock and others' readings come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from loguru import logger
from manual_clock import ManualClock

from llmserve.clock import MAX_SLEEPS, AwakeClock

PATIENCE = 1.0


def sleep(machine: ManualClock, clock: AwakeClock, seconds: float) -> float:
    """All processes stop; the first thing that this one does is tick."""
    machine.now += seconds
    return clock.tick()


def test_a_clock_that_nobody_ticks_is_the_machines() -> None:
    machine = ManualClock(100.0)
    clock = AwakeClock(machine)
    begun = clock()
    machine.now += 3600
    assert clock() - begun == 3600
    assert clock.since(100.0) == 3600


def test_time_asleep_counts_for_nothing_before_and_after_the_tick_that_notices() -> None:
    machine = ManualClock()
    clock = AwakeClock(machine, PATIENCE)
    with clock.ticking():
        begun, reading = clock(), machine.now
        machine.now += 600
        # Whoever reads it first after waking, before the tick.
        assert clock() - begun == clock.since(reading) == PATIENCE
        assert clock.tick() == 599
        assert clock() - begun == clock.since(reading) == PATIENCE
        machine.now += 0.5
        assert clock() - begun == clock.since(reading) == PATIENCE + 0.5
    machine.now += 600
    assert clock() - begun == PATIENCE + 600.5, "nobody ticks any more"


def test_a_reading_that_another_process_took_since_the_pause_is_no_time_ago() -> None:
    machine = ManualClock()
    clock = AwakeClock(machine, PATIENCE)
    with clock.ticking():
        machine.now += 600
        beat = machine.now  # the other one was woken first
        assert clock.since(beat) == 0
        clock.tick()
        machine.now += 0.5
        assert clock.since(beat) == 0.5


def test_sleep_after_sleep_without_a_word_in_between() -> None:
    machine = ManualClock()
    clock = AwakeClock(machine, PATIENCE)
    with clock.ticking():
        reading = machine.now
        for _ in range(MAX_SLEEPS):
            sleep(machine, clock, 600)
        assert clock.since(reading) == MAX_SLEEPS * PATIENCE


eighths = st.integers(0, 7).map(lambda number: number / 8)  # exact, however they are added


@given(st.lists(st.tuples(eighths, st.integers(0, 10**6)), max_size=MAX_SLEEPS))
def test_it_never_goes_back_and_counts_what_it_was_awake(script: list[tuple[float, int]]) -> None:
    machine = ManualClock(0.0)
    clock = AwakeClock(machine, PATIENCE)
    with clock.ticking():
        awake, last = 0.0, clock()
        for worked, slept in script:
            machine.now += worked
            clock.tick()
            machine.now += slept
            readings = [clock(), (clock.tick(), clock())[1]]
            assert [last, *readings] == sorted([last, *readings])
            last = readings[-1]
            awake += worked + min(slept, PATIENCE)
        assert clock() == clock.since(0.0) == awake


def test_a_long_sleep_is_told_and_a_short_one_only_to_who_debugs() -> None:
    machine = ManualClock()
    clock = AwakeClock(machine, PATIENCE)
    log: list[str] = []
    sink = logger.add(log.append, format="{level} {message}")
    try:
        with clock.ticking():
            sleep(machine, clock, 0.9)
            sleep(machine, clock, 2.0)
            sleep(machine, clock, 61.0)
    finally:
        logger.remove(sink)
    assert [line.split()[0] for line in log] == ["DEBUG", "WARNING"]
    assert "did not run for 60.0 s" in log[1]
