"""`/docs` in a real browser, which cannot reach any other host; its examples, sent."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from needs import needs
from server import Server

from llmserve.api.examples import EXAMPLES, PARAMETERS

ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
ELSEWHERE = ("/admin", "/v1/batches", "/classify", "/predict")
"""What changes the server, what asks about a file that was uploaded before, and what wants a
classifier."""
PATH = re.compile(r'class="opblock-summary-path[^"]*" data-path="([^"]+)"')


def rendered(url: str, folder: Path) -> tuple[str, list[str]]:
    """The page after its scripts ran, and the URLs that it requested."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            needs("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", ONLY_HERE,
            f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
            "--virtual-time-budget=20000", "--dump-dom", url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )  # fmt: skip
    record = json.loads(log.read_text())
    start = record["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [event.get("params", {}) for event in record["events"] if event["type"] == start]
    # The browser's own requests have no origin as their initiator.
    return done.stdout, [p["url"] for p in begun if "://" in p.get("initiator", "")]


def test_the_page_shows_every_route_and_asks_no_other_host(demo: Server, tmp_path: Path) -> None:
    page, requested = rendered(f"{demo.url}/docs", tmp_path)
    routes = httpx.get(f"{demo.url}/openapi.json").json()["paths"]
    assert set(PATH.findall(page)) == set(routes)
    assert f"{demo.url}/openapi.json" in requested
    assert [url for url in requested if not url.startswith(f"{demo.url}/")] == []


@pytest.mark.parametrize("path", [path for path in EXAMPLES if not path.startswith(ELSEWHERE)])
def test_the_demo_answers_every_example(demo: Server, path: str) -> None:
    answer = httpx.post(demo.url + path, json=EXAMPLES[path], timeout=60)
    assert answer.status_code == 200, answer.text
    assert "x-ignored-fields" not in answer.headers
    assert len(answer.content) > 10


@pytest.mark.parametrize("path", ["/classify", "/predict"])
def test_without_a_classifier_nothing_is_classified(demo: Server, path: str) -> None:
    answer = httpx.post(demo.url + path, json=EXAMPLES[path], timeout=60)
    assert answer.status_code == 400
    assert "no model that is served here is for this (classification)" in answer.text


def test_the_demo_answers_what_stands_in_addresses(demo: Server) -> None:
    told = httpx.get(demo.url + "/stream", params=PARAMETERS | {"max_tokens": "5"}, timeout=60)
    assert "event: done" in told.text
    assert httpx.get(f"{demo.url}/v1/models/{PARAMETERS['model']}").status_code == 200
