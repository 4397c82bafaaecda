"""What a real nginx does to streams, configured well and badly."""

from __future__ import annotations

from pathlib import Path

import pytest
from doctor.conftest import Examine
from doctor.fake_llmserve import Behaviour
from doctor.nginx import GOOD, nginx
from server import free_port

from llmserve.doctor import Finding, Verdict

GZIP = "gzip on; gzip_types text/event-stream; gzip_proxied any; "
BUFFER = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; "


def bad(*pairs: tuple[str, str]) -> str:
    """The good configuration with some of it replaced."""
    location = GOOD
    for good, worse in pairs:
        assert good in location
        location = location.replace(good, worse)
    return location


def directives(finding: Finding) -> str:
    return next(line for line in finding.change if line.startswith("nginx: "))


def problems(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.verdict is Verdict.PROBLEM}


@pytest.fixture
def through(tmp_path: Path, fake: int, examined: Examine):
    """Examine the fake through an nginx of this configuration."""

    def ask(location: str, server: str = "", **options: object) -> dict[str, Finding]:
        with nginx(tmp_path / "nginx", fake, location, server) as port:
            return examined(port, **options)

    return ask


def test_a_server_that_is_down_behind_a_proxy_is_one_clear_finding(
    tmp_path: Path, examined: Examine
) -> None:
    with nginx(tmp_path, free_port()) as port:
        found = examined(port)
    assert set(found) == {"reachability"}
    assert "502" in found["reachability"].seen
    assert "proxy_pass" in found["reachability"].change[0]


def test_a_redirect_is_told_with_the_url_to_use(through) -> None:
    found = through(GOOD, "return 301 https://elsewhere.example$request_uri;")
    assert problems(found) == {"reachability"}
    assert "https://elsewhere.example" in found["reachability"].change[0]


def test_buffering_with_gzip_is_a_problem(through) -> None:
    found = through(bad(("proxy_buffering off;", BUFFER + GZIP)))
    assert problems(found) == {"compressed stream"}
    assert "held back" in found["compressed stream"].seen
    assert "gzip_types" in directives(found["compressed stream"])


def test_gzip_of_streams_is_a_problem_even_where_it_is_flushed(through) -> None:
    assert problems(through(GOOD + GZIP)) == {"compressed stream"}


def test_without_the_upgrade_headers_there_is_no_websocket(through) -> None:
    found = through(
        bad(("proxy_set_header Upgrade $http_upgrade;", ""), ("$connection_upgrade", '""')),
        idle_seconds=0.2,
    )
    assert problems(found) == {"WebSocket"}
    assert "$http_upgrade" in directives(found["WebSocket"])
    assert found["idle cut-off"].verdict is Verdict.SKIPPED


def test_a_short_read_timeout_cuts_a_silent_websocket(through) -> None:
    finding = through(bad(("600s", "1s")), idle_seconds=8)["idle cut-off"]
    assert finding.verdict is Verdict.PROBLEM
    assert "proxy_read_timeout" in directives(finding)


def test_a_short_read_timeout_cuts_a_silent_stream(through, behaviour: Behaviour) -> None:
    behaviour.silence_seconds = 30
    finding = through(bad(("600s", "1s")))["token arrival"]
    assert finding.verdict is Verdict.PROBLEM
    assert "cut" in finding.seen
    assert "proxy_read_timeout" in directives(finding)


def test_a_small_body_limit_is_the_proxys_own_413(through) -> None:
    found = through(bad(("client_max_body_size 8m", "client_max_body_size 1k")))
    assert problems(found) == {"request size"}
    assert "client_max_body_size" in directives(found["request size"])


def test_what_nginx_does_unless_told_otherwise_refuses_long_prompts(through) -> None:
    assert "request size" in problems(through(bad(("client_max_body_size 8m;", ""))))


def test_a_stripped_key_is_not_called_a_wrong_one(through, behaviour: Behaviour) -> None:
    behaviour.api_key = "right"
    found = through(GOOD + 'proxy_set_header Authorization "";', api_key="right")
    assert problems(found) == {"authorization"}
    assert "proxy_set_header Authorization" in directives(found["authorization"])


def test_an_error_page_of_the_proxys_is_a_problem(through) -> None:
    found = through(GOOD + "proxy_intercept_errors on; error_page 404 /missing.html;")
    assert problems(found) == {"error shape"}
    assert "proxy_intercept_errors" in directives(found["error shape"])


def test_a_replaced_request_id_is_a_warning(through) -> None:
    found = through(GOOD + "proxy_set_header X-Request-ID $request_id;")
    assert problems(found) == set()
    assert found["request id"].verdict is Verdict.WARNING


def test_a_hidden_request_id_is_a_warning(through) -> None:
    found = through(GOOD + "proxy_hide_header X-Request-ID;")
    assert found["request id"].verdict is Verdict.WARNING
    assert "proxy_hide_header" in directives(found["request id"])


def test_streams_that_may_be_cached_are_a_warning(through) -> None:
    found = through(GOOD + "proxy_hide_header Cache-Control;")
    assert found["stream headers"].verdict is Verdict.WARNING


def test_a_good_nginx_has_nothing_to_change(through) -> None:
    found = through(GOOD, idle_seconds=0.5)
    assert {name: f.seen for name, f in found.items() if f.verdict is not Verdict.OK} == {}
    assert "nginx" in found["reachability"].seen
