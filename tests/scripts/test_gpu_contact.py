"""First contact with a GPU, on machines without one: a step that fails stops no other."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from measure.gpu.contact import __main__ as module
from measure.gpu.contact import restricted, turnover
from measure.gpu.contact.__main__ import contact, main, rows
from measure.gpu.contact.step import Outcome, Step, Verdict, run
from measure.gpu.contact.steps import all_steps
from measure.gpu.contact.workload import Affine, plan_of, rows_of

from llmserve.domain import FinishReason


def python(name: str, code: str, limit: float = 30.0, *, is_alone: bool = False) -> Step:
    return Step(name, ("-c", code), limit, is_alone)


@pytest.mark.parametrize(
    ("code", "verdict", "findings"),
    [
        ("print('=> 3 ms'); print('noise'); print('=> 4 ms')", Verdict.OK, ("3 ms", "4 ms")),
        ("print('=> 3 ms'); raise ValueError('no')", Verdict.FAILED, ("3 ms", "ValueError: no")),
        ("import sys; print('=> no device'); sys.exit(1)", Verdict.FAILED, ("no device",)),
        ("import os; os.abort()", Verdict.FAILED, ("no output",)),
    ],
)
def test_a_step_is_told_by_its_exit_and_its_findings(
    tmp_path: Path, code: str, verdict: Verdict, findings: tuple[str, ...]
) -> None:
    outcome = run(python("step", code), tmp_path, 60)
    assert (outcome.verdict, outcome.findings) == (verdict, findings)
    assert (tmp_path / "step.log").exists()


def test_a_step_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; print('=> begun', flush=True);"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    )
    begun = time.monotonic()
    outcome = run(python("hangs", code, limit=2), tmp_path, 60)
    assert outcome.verdict is Verdict.TIMED_OUT
    assert outcome.findings == ("begun",)
    assert time.monotonic() - begun < 30


def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    steps = [
        python("machine", "", is_alone=True),
        python("fails", "1/0"),
        python("beside", "print('=> fine')"),
        python("after", "print('=> fine, too')", is_alone=True),
    ]
    outcomes = contact(steps, tmp_path, time.monotonic() + 60)
    assert [outcome.step.name for outcome in outcomes] == ["machine", "fails", "beside", "after"]
    verdicts = [outcome.verdict for outcome in outcomes]
    assert verdicts == [Verdict.OK, Verdict.FAILED, Verdict.OK, Verdict.OK]


def test_where_no_device_works_nothing_else_is_tried(tmp_path: Path) -> None:
    steps = [python("machine", "1/0", is_alone=True), python("other", "print('=> never')")]
    outcomes = contact(steps, tmp_path, time.monotonic() + 60)
    assert outcomes[1] == Outcome.not_run(steps[1], "no device works here")


def test_what_there_is_no_time_for_is_told(tmp_path: Path) -> None:
    outcomes = contact([python("late", "")], tmp_path, time.monotonic() - 1)
    assert outcomes == [Outcome.not_run(python("late", ""), "no time was left")]


def test_the_table_has_a_line_for_each_finding() -> None:
    step = python("costs", "")
    table = rows([Outcome(step, Verdict.OK, 2.4, ("a | b", "c")), Outcome.not_run(step, "why")])
    assert table[2:] == [
        "| costs | ok | 2 | a / b |",
        "| | | | c |",
        "| costs | not run | 0 | why |",
    ]


def test_the_exit_tells_whether_there_is_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code, expected in (("", 0), ("1/0", 2)):
        monkeypatch.setattr(
            module, "all_steps", lambda code=code: [python("machine", code, is_alone=True)]
        )
        assert main(["--out", str(tmp_path)]) == expected
    assert "ZeroDivisionError" in (tmp_path / "table.md").read_text()
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "there is no step nonsense" in capsys.readouterr().err


def test_steps_that_measure_are_alone_and_modules_exist() -> None:
    steps = all_steps()
    assert len({step.name for step in steps}) == len(steps)
    assert all(step.is_alone for step in steps if step.name.startswith(("costs", "profile")))
    scripts = Path(module.__file__).parents[3]
    for step in steps:
        if step.arguments[1].startswith("measure.gpu.contact."):
            assert (scripts / f"{step.arguments[1].replace('.', '/')}.py").is_file()
        else:
            assert (scripts.parent / step.arguments[-1]).is_file()


@pytest.mark.slow
def test_models_come_and_go_on_a_cpu_as_they_will_on_a_device(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert turnover.main(["cpu"]) == 0
    told = capsys.readouterr().out
    assert told.count("all equal") == turnover.ROUNDS
    assert "DIFFER" not in told


@pytest.mark.slow
def test_answers_in_a_form_are_compared_on_a_cpu_as_they_will_be_on_a_device(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert restricted.main(["cpu"]) == 0
    told = capsys.readouterr().out
    assert told.count(": equal (") == len(restricted.ASKED) - 1
    assert told.count(": of its form (") == 1
    assert "0 scored, stop" in told
    assert "332 scored" in told


def test_answers_that_differ_or_break_their_form_are_told() -> None:
    one = restricted.Answer("Rome", (1, 2), FinishReason.STOP, (-1.0,))
    assert restricted.difference(one, one) is None
    assert "NOT EQUAL" in str(restricted.difference(one, replace(one, token_ids=(1, 3))))
    assert restricted.difference(one, replace(one, scores=(-1.0001,))) is None
    assert "scores differ" in str(restricted.difference(one, replace(one, scores=(-1.1,))))
    assert restricted.breach(restricted.CITY, one) is None
    assert "NOT A CHOICE" in str(restricted.breach(restricted.CITY, replace(one, text="Rom")))
    short = replace(one, text="Rom", reason=FinishReason.LENGTH)
    assert restricted.breach(restricted.CITY, short) is None
    assert "SCHEMA" in str(restricted.breach(restricted.SCHEMA, replace(one, text='{"age": 1}')))


def test_plans_have_their_rows_first_and_blocks_of_their_own() -> None:
    plan = plan_of(2, 33, 16, [5, 1])
    assert [part.length for part in plan.slices] == [1, 1, 1, 5]
    blocks = [block for part in plan.slices for block in part.sequence.blocks]
    assert len(set(blocks)) == len(blocks) == 3 + 3 + 1 + 1
    assert 0 not in blocks
    assert len(rows_of(plan, torch.device("cpu"), 100)) == 4


def test_a_line_goes_through_its_points() -> None:
    cost = Affine.through([(10.0, 1.2), (20.0, 1.4), (40.0, 1.8)])
    assert cost.fixed == pytest.approx(1.0)
    assert cost.per_token == pytest.approx(0.02)
