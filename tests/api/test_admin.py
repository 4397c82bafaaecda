"""/admin: who is let in, wrong commands, what workers report; over a fake engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine
from fastapi.testclient import TestClient

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import ModelSpec
from llmserve.errors import ConfigurationError, ModelBroken
from llmserve.registry.catalog import Catalog
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

ADMIN = {"Authorization": "Bearer admin-secret"}
USER = {"Authorization": "Bearer user-secret"}
HERE = ("127.0.0.1", 50000)
ELSEWHERE = ("192.0.2.7", 50000)

Start = Callable[..., TestClient]


@pytest.fixture
def engines() -> dict[str, FakeEngine]:
    """What is built for a model, if not a new one."""
    return {}


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, engines: dict[str, FakeEngine]) -> Iterator[Start]:
    """Starts the application with these settings and a client at this address."""
    running: list[TestClient] = []

    def resolve(self: Catalog, argument: str) -> ModelSpec:
        if argument in ("fake", "other"):
            return ModelSpec(argument, argument=argument)
        raise ConfigurationError(f"there is no model {argument!r}")

    monkeypatch.setattr(server, "build_registry", lambda *_, **__: Registry([ModelSpec("fake")]))
    monkeypatch.setattr(
        models, "build_engine", lambda spec, *_: engines.get(spec.name) or FakeEngine()
    )
    monkeypatch.setattr(Catalog, "resolve", resolve)

    def start(client: tuple[str, int] = HERE, **settings: Any) -> TestClient:
        app = create_app(Settings(drain_timeout_seconds=1, **settings))
        made = TestClient(
            app, base_url="http://127.0.0.1:8000", client=client, raise_server_exceptions=False
        )
        made.__enter__()
        running.append(made)
        return made

    yield start
    for client in running:
        client.__exit__(None, None, None)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_without_an_admin_key_only_this_machine_is_let_in(start: Start) -> None:
    assert code(start(ELSEWHERE).get("/admin/status")) == (403, "forbidden")
    assert code(start(HERE, host="0.0.0.0").get("/admin/status")) == (403, "forbidden")
    local = start()
    assert local.get("/admin/status").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        through_a_proxy = local.get("/admin/status", headers={header: "127.0.0.1"})
        assert code(through_a_proxy) == (403, "forbidden"), header
    rebound = local.get("/admin/status", headers={"Host": "evil.example:8000"})
    assert code(rebound) == (403, "forbidden")


def test_with_an_admin_key_nothing_else_opens(start: Start) -> None:
    client = start(
        ELSEWHERE, host="0.0.0.0", admin_keys=("admin-secret",), api_keys=("user-secret",)
    )
    assert code(client.get("/admin/status")) == (401, "invalid_api_key")
    assert code(client.get("/admin/status", headers=USER)) == (403, "forbidden")
    wrong = client.get("/admin/status", headers={"Authorization": "Bearer nobody"})
    assert wrong.status_code in (401, 403)
    assert client.get("/admin/status", headers=ADMIN).status_code == 200
    for path in ("load", "unload", "reload", "warm"):
        assert client.post(f"/admin/{path}", json={}).status_code == 401, path


def test_a_wrong_command_names_its_field(start: Start) -> None:
    client = start()
    answer = client.post("/admin/unload", json={"timeout": -1})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "timeout")
    answer = client.post("/admin/load", json={"modle": "fake"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "modle")
    assert code(client.post("/admin/unload", json={"model": "nobody"})) == (404, "model_not_found")
    assert code(client.post("/admin/load", json={"model": "nobody"})) == (400, "invalid_request")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "~root", "./demo"])
def test_a_path_is_no_name(start: Start, name: str) -> None:
    answer = start().post("/admin/load", json={"model": name})
    assert code(answer) == (400, "invalid_request")
    assert "is a path" in answer.json()["error"]["message"]


def test_a_model_that_does_not_load_is_told_with_its_status(
    start: Start, engines: dict[str, FakeEngine]
) -> None:
    engines["other"] = FakeEngine(load_error=ModelBroken("torn weights"))
    answer = start().post("/admin/load", json={"model": "other"})
    assert code(answer) == (503, "model_broken")
    body = answer.json()
    assert (body["ok"], body["workers"][0]["ok"]) == (False, False)
    assert body["workers"][0]["error"]["message"] == "torn weights"


def test_models_come_and_go(start: Start) -> None:
    client = start()
    answer = client.post("/admin/load", json={"model": "other"})
    assert answer.status_code == 200
    assert answer.json()["workers"][0]["model"] == "other"
    names = [m["id"] for m in client.get("/v1/models").json()["data"]]
    assert names == ["fake", "other"]
    assert client.post("/admin/unload", json={"model": "fake"}).json()["ok"]
    refused = client.post("/generate", json={"prompt": "x"})
    assert code(refused) == (503, "model_unloaded")
    assert client.post("/admin/load", json={}).json()["ok"]
    statuses = client.get("/admin/status").json()["workers"][0]["models"]
    assert [m["status"] for m in statuses] == ["ready", "ready"]
    assert client.post("/admin/reload", json={"model": "other"}).json()["ok"]


def test_progress_and_the_report_come_as_events(start: Start) -> None:
    client = start()
    with client.stream("POST", "/admin/load", json={"model": "other", "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    assert lines.count("event: done") == 1
    report = json.loads(lines[lines.index("event: done") + 1].removeprefix("data: "))
    assert (report["command"], report["ok"]) == ("load", True)
    with client.stream("POST", "/admin/unload", json={"model": "no", "stream": True}) as answer:
        lines = list(answer.iter_lines())
    assert lines.count("event: error") == 1


def test_the_status_comes_as_events(start: Start) -> None:
    with start().stream("GET", "/admin/events?follow=false") as answer:
        lines = list(answer.iter_lines())
    assert lines.count("event: status") == lines.count("event: done") == 1


def test_warming_reports_what_was_done(start: Start) -> None:
    answer = start().post("/admin/warm", json={"prompts": ["a", "b"], "prefixes": ["c"]})
    assert answer.status_code == 200
    assert answer.json()["workers"][0]["report"]


def test_only_a_model_that_is_elsewhere_has_upstreams_to_drain(start: Start) -> None:
    client = start()
    answer = client.post("/admin/drain", json={"upstream": "http://box-a:8000/v1"})
    assert code(answer) == (400, "invalid_request")
    assert "has no upstreams" in answer.json()["error"]["message"]
    for body in ({}, {"upstream": "box-a"}, {"upstream": ""}):
        answer = client.post("/admin/undrain", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "upstream")
