from __future__ import annotations

from doctor.conftest import Examine
from doctor.fake_llmserve import Behaviour

from llmserve.doctor import Verdict
from llmserve.doctor.hang_up import ServerLoad


def test_metrics_of_somebody_else_are_no_load() -> None:
    assert ServerLoad.read("<html>") is None
    assert ServerLoad.read("go_goroutines 12\n") is None


def test_a_load_is_the_sum_over_models() -> None:
    text = (
        "# HELP llmserve_num_requests_running Requests holding a slot.\n"
        'llmserve_num_requests_running{model="a"} 2.0\n'
        'llmserve_num_requests_running{model="b"} 1.0\n'
        'llmserve_request_cancelled_total{model="a"} 1e+03\n'
        "llmserve_request_cancelled_created 5.0\n"
    )
    assert ServerLoad.read(text) == ServerLoad(3, 1000)


def test_a_server_that_goes_on_for_nobody_is_a_problem(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.notices_hang_up = False
    finding = examined(fake)["hang-up"]
    assert finding.verdict is Verdict.PROBLEM
    assert any("proxy_ignore_client_abort" in line for line in finding.change)


def test_without_metrics_nobody_can_tell(
    behaviour: Behaviour, fake: int, examined: Examine
) -> None:
    behaviour.has_metrics = False
    assert examined(fake)["hang-up"].verdict is Verdict.SKIPPED
