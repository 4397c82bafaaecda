"""Commands to every replica: nobody serves the model, some do not answer, all do."""

from __future__ import annotations

from typing import Any

import pytest
from bounded import run
from needs import needs_package

needs_package("ray")

from ray.exceptions import RayActorError  # noqa: E402

from llmserve.operations.command import Command, Kind  # noqa: E402
from llmserve.operations.operations import WorkerReply  # noqa: E402
from llmserve.workers.ray import operations  # noqa: E402
from llmserve.workers.ray.deployments import Deployments  # noqa: E402
from llmserve.workers.ray.operations import RayOperations  # noqa: E402

DONE = {"event": "done", "model": "a", "seconds": 0.1}
STATUS = {"event": "done", "status": {"worker": 0, "pid": 7}}
BOTH = Deployments(("a", "b"), {"a": "a", "alias": "a", "b": "b"}, "a")


class Handle:
    """A deployment whose replicas answer so."""

    def __init__(self, answers: list[Any] | Exception) -> None:
        self._answers = answers
        self.asked: list[dict[str, Any]] = []

    def broadcast(self, method: str, fields: dict[str, Any]) -> Handle:
        assert method == "command"
        self.asked.append(fields)
        return self

    async def results_async(self, *, timeout_s: float, return_exceptions: bool) -> list[Any]:
        if isinstance(self._answers, Exception):
            raise self._answers
        return self._answers


def replies(
    monkeypatch: pytest.MonkeyPatch, command: Command, **handles: Handle
) -> list[WorkerReply]:
    monkeypatch.setattr(
        operations.serve, "get_deployment_handle", lambda name, application: handles[name]
    )
    found: list[WorkerReply] = []

    async def test() -> None:
        found.extend(await RayOperations(BOTH, "app").collect(command))

    run(test)
    return found


def test_a_model_that_no_deployment_serves_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (reply,) = replies(monkeypatch, Command(Kind.LOAD, "other"))
    assert reply.message["error"]["code"] == "model_not_found"
    assert "serve deploy" in reply.message["error"]["message"]


def test_a_command_reaches_its_models_replicas_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = Handle([("r2", DONE), ("r1", DONE)]), Handle([])
    found = replies(monkeypatch, Command(Kind.RELOAD, "alias"), a=a, b=b)
    assert [(reply.worker, reply.message["replica"]) for reply in found] == [(0, "r1"), (1, "r2")]
    assert (len(a.asked), len(b.asked)) == (1, 0)
    assert Command.from_wire(a.asked[0]) == Command(Kind.RELOAD, "alias")


def test_who_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Handle([RayActorError(), ("r1", STATUS)])
    found = replies(monkeypatch, Command(Kind.STATUS), a=a, b=Handle(TimeoutError()))
    assert [reply.message["event"] for reply in found] == ["done", "error", "error"]
    assert [reply.worker for reply in found] == [0, 1, 2]
    assert {reply.message["error"]["code"] for reply in found[1:]} == {"worker_gone"}


def test_each_status_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Handle([("r1", STATUS)]), Handle([("r2", STATUS)])
    found = [r.message["status"] for r in replies(monkeypatch, Command(Kind.STATUS), a=a, b=b)]
    assert [(s["worker"], s["replica"], s["deployment"]) for s in found] == [
        (0, "r1", "a"),
        (1, "r2", "b"),
    ]
