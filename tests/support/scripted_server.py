"""The whole application on a port of this process, over an engine that a test scripts. (Not a
test.)"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import uvicorn
from fake_encoder import FakeEncoder
from fake_engine import FakeEngine

from llmserve.api.app import create_app
from llmserve.bootstrap import models, server
from llmserve.domain import (
    Caller,
    Conversation,
    Delta,
    GenerationRequest,
    Message,
    ModelSpec,
)
from llmserve.engines.engine import Hold
from llmserve.engines.job import Job
from llmserve.engines.task import TokenTask
from llmserve.registry.registry import Registry
from llmserve.settings import Settings

Script = Callable[[Sequence[Message]], Delta]
"""From the messages of a conversation to what the model says."""


class ScriptedEngine(FakeEngine):
    """Answers as soon as it is asked, and keeps what it was asked."""

    capacity = 4

    def __init__(self, script: Script) -> None:
        super().__init__(capacity=4)
        self.asked: list[tuple[Message, ...]] = []
        self._script = script

    async def prepare(
        self, requests: Sequence[GenerationRequest], caller: Caller, deadline: float, hold: Hold
    ) -> Sequence[TokenTask]:
        for request in requests:
            assert isinstance(request.prompt, Conversation)
            self.asked.append(request.prompt.messages)
        return await super().prepare(requests, caller, deadline, hold)

    def start(self, job: Job) -> None:
        super().start(job)
        job.mailbox.post(self._script(self.asked[-1]))
        asyncio.get_running_loop().call_soon(self.finish, job)


@dataclass
class ScriptedServer:
    url: str
    engine: ScriptedEngine


@contextlib.contextmanager
def scripted_server(
    script: Script, encoder: FakeEncoder | None = None, **settings: object
) -> Iterator[ScriptedServer]:
    """Listening on a free loopback port; with an encoder, as `fake-embedding`."""
    engine = ScriptedEngine(script)
    engines = {"fake": engine} | ({} if encoder is None else {"fake-embedding": encoder})
    registry = Registry([ModelSpec(name) for name in engines])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "build_registry", lambda *_, **__: registry)
        patch.setattr(models, "build_engine", lambda spec, *_: engines[spec.name])
        app = create_app(Settings(drain_timeout_seconds=1, **settings))  # type: ignore[arg-type]
        running = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
        with contextlib.closing(running.config.bind_socket()) as listening:
            thread = threading.Thread(target=running.run, args=([listening],))
            thread.start()
            try:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                yield ScriptedServer(url, engine)
            finally:
                running.should_exit = True
                thread.join()
