"""What the time of a start goes into, by a clock of the test's."""

from __future__ import annotations

from llmserve.observability.stages import Stages


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_stage_lasts_until_the_next_and_goes_on_when_it_comes_again() -> None:
    clock = Clock()
    stages = Stages(clock=clock)
    assert str(stages) == ""
    for stage, seconds in (("imports", 2.0), ("weights", 0.25), ("weights", 0.5), ("imports", 1)):
        stages.enter(stage)
        clock.now += seconds
    assert str(stages) == "imports 3.00 s, weights 0.75 s"
    assert stages.total_seconds == 3.75
    clock.now += 1.0
    assert str(stages) == "imports 4.00 s, weights 0.75 s", "telling of it ends nothing"


def test_what_went_before_belongs_to_no_stage_unless_it_began_with_one() -> None:
    clock = Clock()
    stages = Stages(begun_at=98.0, clock=clock)
    stages.enter("settings")
    clock.now += 1.0
    assert str(stages) == "settings 1.00 s"
    assert stages.total_seconds == 3.0
    assert str(Stages("imports", begun_at=98.0, clock=clock)) == "imports 3.00 s"
