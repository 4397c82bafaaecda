"""The status page in a real browser, in front of two real workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from box import pids, wait_until
from browser import PHONE, SECONDS, running_browser, violations, visiting
from playwright.sync_api import Browser, Locator, Page, expect
from server import Server, idle_server, running_server

expect.set_options(timeout=SECONDS * 1000)

SEEN = """(selector) => {
    window.seen = new Set();
    const look = () => {
        const text = document.querySelector(selector)?.innerText;
        if (text) window.seen.add(text);
    };
    new MutationObserver(look).observe(document.body, {
        subtree: true, childList: true, characterData: true, attributes: true,
    });
}"""
"""Keeps each text that an element has had."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser, pair: Server) -> Iterator[Page]:
    with visiting(browser, pair.url, "/status") as opened:
        expect(worker(opened, 1)).to_contain_text("serving")
        yield opened


@pytest.fixture
def spawning(tmp_path: Path, tiny_model: Path) -> Iterator[Server]:
    """Two workers that import torch when they start, which takes seconds."""
    with running_server(tmp_path, tiny_model, workers=2, is_fork=False) as server:
        wait_until(lambda: len(pids(server)) == 2, "two workers serve")
        yield server


def worker(page: Page, number: int) -> Locator:
    return page.locator(f"#workers tr[data-id='{number}']")


def model(page: Page, name: str) -> Locator:
    return page.locator(f"#models tr[data-id='{name}']")


def test_a_worker_that_was_killed_is_seen_to_go_and_come_back(
    browser: Browser, spawning: Server
) -> None:
    with visiting(browser, spawning.url, "/status") as page:
        expect(worker(page, 1)).to_contain_text("serving")
        see_it_go_and_come_back(page, pids(spawning)[1])


def see_it_go_and_come_back(page: Page, victim: int) -> None:
    expect(worker(page, 1)).to_contain_text(str(victim))
    os.kill(victim, signal.SIGKILL)
    expect(worker(page, 1)).to_contain_text("gone")
    expect(worker(page, 0)).to_contain_text("serving")
    expect(worker(page, 1)).to_contain_text("loading")
    # Torch is imported.
    expect(model(page, "tiny")).to_contain_text(re.compile(r"loading.*[0-9]%"))
    expect(worker(page, 1)).to_contain_text("serving")
    expect(model(page, "tiny")).to_contain_text("ready")
    expect(worker(page, 1)).not_to_contain_text(str(victim))
    expect(page.locator(".events")).to_contain_text(f"Worker 1 (process {victim}) is gone.")
    expect(page.locator(".events")).to_contain_text("Worker 1 is there again")


def test_a_model_is_loaded_before_your_eyes_and_unloaded(
    browser: Browser, tmp_path: Path, tiny_model: Path
) -> None:
    # Torch is imported with the first model, which takes tinys.
    with (
        idle_server(tmp_path, tiny_model, is_fork=False) as server,
        visiting(browser, server.url, "/status") as page,
    ):
        see_it_load_and_unload(page)


def see_it_load_and_unload(page: Page) -> None:
    tiny = model(page, "tiny")
    expect(tiny).to_contain_text("not loaded")
    page.evaluate(SEEN, "#models tr[data-id='tiny'] .state")
    tiny.get_by_role("button", name="Load", exact=True).click()
    expect(page.locator(".toast")).to_contain_text("tiny is loaded.")
    expect(tiny).to_contain_text("ready")
    assert any("loading" in text for text in page.evaluate("[...window.seen]"))
    tiny.get_by_role("button", name="Warm").click()
    expect(page.locator(".toast").last).to_contain_text("tiny is warm.")
    tiny.get_by_role("button", name="Unload").click()
    expect(tiny).to_contain_text("not loaded")


def test_the_charts_move(page: Page, pair: Server) -> None:
    charts = page.locator(".chart")
    expect(charts).to_have_count(6)
    body = {"prompt": "hi", "max_tokens": 200, "ignore_eos": True, "model": "first"}
    assert httpx.post(pair.url + "/generate", json=body, timeout=60).status_code == 200
    refused = httpx.post(pair.url + "/generate", json=body | {"model": "nobody"})
    assert refused.status_code == 404
    ttft = charts.filter(has_text="Time to first token")
    expect(ttft.locator("strong").first).to_contain_text("s")
    page.wait_for_function(
        """() => [...document.querySelectorAll('.chart path.line')]
            .some((path) => new Set(path.getAttribute('d').match(/ [\\d.]+/g)).size > 1)"""
    )


def test_who_is_no_operator_sees_less_and_is_asked_for_a_key(
    browser: Browser, pair: Server
) -> None:
    # A request that came through a proxy is not one from this machine.
    proxied = {"X-Forwarded-For": "192.0.2.1"}
    with visiting(browser, pair.url, "/status", extra_http_headers=proxied) as page:
        expect(page.locator(".notice")).to_contain_text("are for operators")
        expect(model(page, "first")).to_contain_text("ready")
        expect(worker(page, 0)).to_contain_text("ready")
        assert model(page, "first").get_by_role("button").count() == 0
        page.get_by_role("button", name="Enter a key").click()
        page.get_by_role("dialog").get_by_label("Key", exact=True).fill("wrong")
        page.get_by_role("dialog").get_by_role("button", name="Use").click()
        expect(page.locator(".notice")).to_contain_text("not an operator's")


def test_gpus_are_there_where_the_server_tells_of_them(browser: Browser, pair: Server) -> None:
    series = {
        "memory_used_bytes": 2**30,
        "memory_total_bytes": 80 * 2**30,
        "utilization_ratio": 0.5,
    }
    text = "".join(f'llmserve_gpu_{name}{{gpu="0"}} {value}\n' for name, value in series.items())
    with visiting(browser, pair.url, "/status") as page:
        expect(page.locator("#gpus")).to_be_hidden()
        page.route("**/metrics", lambda route: route.fulfill(body=text))
        expect(page.locator("#gpus tr[data-id='0'] td")).to_have_text(
            ["0", "1 GiB", "80 GiB", "50%"]
        )


def test_a_server_that_is_gone_is_told_and_found_again(page: Page) -> None:
    page.route("**/metrics", lambda route: route.abort())
    page.route("**/health/ready", lambda route: route.abort())
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute_all()
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_it(browser: Browser, pair: Server, scheme: str) -> None:
    with visiting(
        browser, pair.url, "/status", color_scheme=scheme, viewport=PHONE, is_mobile=True
    ) as page:
        expect(worker(page, 1)).to_contain_text("serving")
        assert violations(page) == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
