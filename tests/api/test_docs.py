"""The page of all routes, on a box without the internet."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from llmserve.api.docs import ASSETS
from llmserve.api.examples import EXAMPLES, PARAMETERS


@pytest.mark.parametrize("root", ["", "/llm"])
def test_all_that_the_page_loads_comes_from_here(client: TestClient, root: str) -> None:
    client.app.root_path = root  # type: ignore[attr-defined]
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url: ["']([^"']+)""", page.text)
    addresses = [first or second for first, second in loaded]
    assert len(addresses) == len(ASSETS) + 1
    assert all(address.startswith(f"{root}/") for address in addresses)
    for address in addresses:
        answer = client.get(address.removeprefix(root))
        assert answer.status_code == 200, address
        assert len(answer.content) > 500
    kinds = {client.get(f"/docs/{name}").headers["content-type"] for name in ASSETS}
    assert kinds == {"text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/png"}


def test_nothing_else_can_be_read_there(client: TestClient) -> None:
    for name in ("main.py", "..%2fmain.py", "__init__.py"):
        answer = client.get(f"/docs/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "/docs/{name}" not in client.get("/openapi.json").json()["paths"]


def test_many_may_ask_for_the_document_before_it_is_made(client: TestClient) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.get("/openapi.json"), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


def test_every_body_has_an_example_and_no_other_route_has(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    bodies = {
        path: operation["requestBody"]["content"]["application/json"]
        for path, operations in paths.items()
        for operation in operations.values()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert {path: body["example"] for path, body in bodies.items()} == EXAMPLES
    told = {
        p["name"]: p["example"] for p in paths["/stream"]["get"]["parameters"] if "example" in p
    }
    assert told == PARAMETERS
