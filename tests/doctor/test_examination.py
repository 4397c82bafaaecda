"""The whole examination of a fake llmserve without a proxy, and of the real one."""

from __future__ import annotations

import pytest
from doctor.conftest import Examine, report
from doctor.fake_llmserve import Behaviour
from server import Server, free_port

from llmserve.doctor import Verdict

EVERYTHING = {
    "reachability", "clock", "readiness", "models", "authorization", "error shape",
    "compressed JSON",
    "token arrival", "compressed stream", "stream headers", "request id", "request size",
    "hang-up", "WebSocket", "idle cut-off",
}  # fmt: skip


def test_an_unreachable_server_is_one_clear_finding() -> None:
    found = report(f"http://127.0.0.1:{free_port()}")
    assert [finding.name for finding in found.findings] == ["reachability"]
    assert found.exit_code == 1
    assert found.findings[0].change


def test_a_name_that_does_not_exist_is_one_clear_finding() -> None:
    found = report("http://no-such-host.invalid")
    assert [finding.verdict for finding in found.findings] == [Verdict.PROBLEM]


def test_a_server_that_is_still_loading_is_not_asked_for_tokens(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.status = "loading"
    found = examined(fake)
    assert found["readiness"].verdict is Verdict.PROBLEM
    assert "loading" in found["readiness"].seen
    assert found["token arrival"].verdict is Verdict.SKIPPED


def test_what_the_server_complains_of_is_told(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    assert examined(fake)["models"].verdict is Verdict.OK
    behaviour.warnings = ["it is served by the CPU, though this machine has GPUs", "no words"]
    found = examined(fake)["models"]
    assert found.verdict is Verdict.WARNING
    assert "fake: it is served by the CPU" in found.seen
    assert found.change == ("fake: no words",)


def test_a_busy_server_is_not_called_broken(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.is_busy = True
    found = examined(fake)
    assert found["token arrival"].verdict is Verdict.SKIPPED
    assert found["hang-up"].verdict is Verdict.SKIPPED


@pytest.mark.parametrize(("key", "advice"), [(None, "--api-key"), ("wrong", "accepts")])
def test_a_missing_or_wrong_key_is_told_before_any_prompt(
    behaviour: Behaviour, fake: int, examined: Examine, key: str | None, advice: str
) -> None:
    behaviour.api_key = "right"
    found = examined(fake, api_key=key)
    assert found["authorization"].verdict is Verdict.PROBLEM
    assert advice in found["authorization"].change[0]
    assert found["token arrival"].verdict is Verdict.SKIPPED


def test_a_model_that_is_not_served_is_told(fake: int, examined: Examine) -> None:
    finding = examined(fake, model="other")["authorization"]
    assert finding.verdict is Verdict.PROBLEM
    assert "fake" in finding.seen


def test_a_stream_that_is_held_to_its_end_is_a_problem(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.hold_bytes = 2**20
    finding = examined(fake)["token arrival"]
    assert finding.verdict is Verdict.PROBLEM
    assert any("proxy_buffering off" in line for line in finding.change)


def test_a_stream_in_lumps_is_a_problem(behaviour: Behaviour, fake: int, examined: Examine) -> None:
    behaviour.hold_bytes = 2000
    assert examined(fake)["token arrival"].verdict is Verdict.PROBLEM


def test_a_server_too_fast_to_judge_is_asked_for_more_and_then_left_in_peace(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.pace_seconds = 0.0
    finding = examined(fake)["token arrival"]
    # A loaded machine may well slow the fake down to where it can be judged.
    assert finding.verdict is not Verdict.PROBLEM


def test_keep_alive_comments_are_seen(behaviour: Behaviour, fake: int, examined: Examine) -> None:
    behaviour.silence_seconds, behaviour.keepalive_seconds = 0.3, 0.1
    finding = examined(fake)["token arrival"]
    assert finding.verdict is Verdict.OK
    assert "keep-alive" in finding.seen


def test_with_a_key_and_nothing_in_between_everything_is_well(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.api_key = "right"
    found = examined(fake, api_key="right", model="alias", idle_seconds=0.2)
    assert set(found) == EVERYTHING
    assert {name: f.seen for name, f in found.items() if f.verdict is not Verdict.OK} == {}
    assert behaviour.cancelled >= 1


def test_the_demo_model_without_a_proxy_has_no_problem(demo: Server) -> None:
    announced: list[str] = []
    found = report(demo.url, idle_seconds=0.5, announce=announced.append)
    problems = [f for f in found.findings if f.verdict in {Verdict.PROBLEM, Verdict.WARNING}]
    assert problems == []
    assert {finding.name for finding in found.findings} == EVERYTHING
    assert "token arrival" in announced
