"""A WebSocket whose reader is slow."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from bounded import run
from fake_engine import FakeEngine

from llmserve.admission.keys import KeyRing
from llmserve.admission.limits import Limiter
from llmserve.api.native.frames import PromptFrame
from llmserve.api.socket_session import SocketSession
from llmserve.bootstrap import Container
from llmserve.domain import ModelSpec
from llmserve.observability.ignored_fields import IgnoredFields
from llmserve.observability.metrics import Metrics
from llmserve.observability.tracing import NullTracer
from llmserve.registry.loader import Loader
from llmserve.registry.registry import Registry
from llmserve.service import Limits, Recorder, Service
from llmserve.service.kept_streams import KeptStreams
from llmserve.settings import Settings


class SlowSocket:
    """Takes a frame only when the test lets it."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"request_id": "ws"}
        self.headers: dict[str, str] = {}
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.may_take = asyncio.Semaphore(0)
        self.frames: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return await self.incoming.get()

    async def send_text(self, text: str) -> None:
        await self.may_take.acquire()
        self.frames.append(json.loads(text))


def test_a_slow_reader_gets_larger_deltas_and_cancel_still_works() -> None:
    async def test() -> None:
        engine = FakeEngine()
        metrics = Metrics()
        registry = Registry([ModelSpec("fake")])
        loader = Loader(registry, lambda spec: engine)
        service = Service(registry, loader, Limits(2, 60.0, 60.0), Recorder(metrics))
        loader.start()
        await loader.loaded()
        socket = SlowSocket()
        container = Container(
            Settings(),
            metrics,
            registry,
            loader,
            Limiter(None),
            service,
            KeyRing(),
            None,
            NullTracer(),
            IgnoredFields(metrics),
            KeptStreams(0, 0),
        )  # type: ignore[arg-type]
        session = SocketSession(socket, container, PromptFrame.model_validate, None)  # type: ignore[arg-type]
        serving = asyncio.create_task(session.serve())

        await socket.incoming.put({"type": "websocket.receive", "text": '{"id":"a","prompt":"x"}'})
        while not engine.running:
            await asyncio.sleep(0)
        job = engine.running[0]
        for i in range(500):
            engine.say(job, f"{i} ")
            await asyncio.sleep(0)
        for _ in range(2):
            socket.may_take.release()
        while len(socket.frames) < 2:
            await asyncio.sleep(0)
        text = "".join(frame["token"] for frame in socket.frames)
        assert text == "".join(f"{i} " for i in range(500)), "all of it, in two frames"

        await socket.incoming.put(
            {"type": "websocket.receive", "text": '{"type":"cancel","id":"a"}'}
        )
        while not job.is_cancelled:
            await asyncio.sleep(0)
        socket.may_take.release()
        while len(socket.frames) < 3:
            await asyncio.sleep(0)
        assert (socket.frames[2]["type"], socket.frames[2]["finish_reason"]) == (
            "done",
            "cancelled",
        )
        engine.finish_all()
        await socket.incoming.put({"type": "websocket.disconnect"})
        await serving
        assert service.load(registry.models[0]) == (0, 0)
        await loader.close()

    run(test, seconds=20)
