"""Adapters come and go beside jobs that have them; a host that fails leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from adapter_files import LAYERS, write_adapter
from bounded import run

from llmserve.domain import AdapterSpec, Failed, GenerationRequest, SamplingParams
from llmserve.engines.adapters.adapter import Adapter, Layers
from llmserve.engines.adapters.adapter_set import AdapterSet
from llmserve.engines.adapters.pace import Pace, Pause
from llmserve.engines.job import Job
from llmserve.engines.mailbox import Mailbox
from llmserve.engines.task import TokenTask
from llmserve.errors import InvalidRequest, ModelUnloaded, OutOfMemory

pytestmark = pytest.mark.usefixtures("no_thread_left")


@dataclass
class Sized:
    num_bytes: int = 100


class Host:
    def __init__(self) -> None:
        self.attached: set[int] = set()
        self.may_attach = asyncio.Event()
        self.may_attach.set()
        self.waits = asyncio.Event()
        self.error: Exception | None = None

    def layers(self) -> Layers:
        return LAYERS

    def prepare(self, adapter: Adapter, pause: Pause) -> Sized:
        return Sized()

    async def attach(self, adapter_id: int, prepared: Sized) -> None:
        self.waits.set()
        await self.may_attach.wait()
        self.attached.add(adapter_id)
        if self.error is not None:
            raise self.error

    async def detach(self, adapter_id: int) -> None:
        self.attached.discard(adapter_id)


@pytest.fixture
def adapters() -> AdapterSet:
    return AdapterSet("tiny", "base", most=2, max_rank=8)


def job(adapter: str | None, on_done: Callable[[], None] = lambda: None) -> Job:
    task = TokenTask(
        request_id="id", prompt_ids=(1,), sampling=SamplingParams(), max_tokens=1, adapter=adapter
    )
    return Job(task, Mailbox(asyncio.get_running_loop()), on_done=on_done)


def spec(name: str, folder: Path) -> tuple[AdapterSpec, Path]:
    return AdapterSpec(name, path=folder), folder


def test_what_is_not_loaded_is_refused(adapters: AdapterSet, tmp_path: Path) -> None:
    async def test() -> None:
        request = GenerationRequest("id", "text", adapter="a")
        with pytest.raises(InvalidRequest, match="'a' loaded; loaded are: none") as caught:
            adapters.check([GenerationRequest("id", "text"), request])
        assert caught.value.param == "model"
        await adapters.load(*spec("a", write_adapter(tmp_path)), Host())
        adapters.check([request])

    run(test)


def test_a_folder_that_cannot_be_served_leaves_its_name_free(
    adapters: AdapterSet, tmp_path: Path
) -> None:
    async def test() -> None:
        with pytest.raises(InvalidRequest, match=r"adapter .a. cannot be served: .*use_dora"):
            await adapters.load(*spec("a", write_adapter(tmp_path, use_dora=True)), Host())
        assert adapters.infos == ()
        info = await adapters.load(*spec("a", write_adapter(tmp_path)), Host())
        assert adapters.infos == (info,)
        assert (info.rank, info.num_bytes, len(info.modules)) == (2, 100, 2)
        assert adapters.num_bytes == 100

    run(test)


def test_a_name_is_loaded_once_and_there_is_room_for_so_many(
    adapters: AdapterSet, tmp_path: Path
) -> None:
    async def test() -> None:
        folder, host = write_adapter(tmp_path), Host()
        host.may_attach.clear()
        loading = asyncio.create_task(adapters.load(*spec("a", folder), host))
        await host.waits.wait()
        with pytest.raises(InvalidRequest, match="already"):
            await adapters.load(*spec("a", folder), host)
        host.may_attach.set()
        await loading
        await adapters.load(*spec("b", folder), host)
        with pytest.raises(OutOfMemory, match="max_adapters"):
            await adapters.load(*spec("c", folder), host)
        await adapters.unload("a", host)
        await adapters.load(*spec("c", folder), host)
        assert [info.name for info in adapters.infos] == ["b", "c"]
        assert len(host.attached) == 2

    run(test)


def test_a_host_without_room_keeps_nothing(adapters: AdapterSet, tmp_path: Path) -> None:
    async def test() -> None:
        host = Host()
        host.error = OutOfMemory("no room")
        with pytest.raises(OutOfMemory, match="no room"):
            await adapters.load(*spec("a", write_adapter(tmp_path)), host)
        assert not host.attached
        assert adapters.infos == ()

    run(test)


def test_a_load_that_is_cancelled_keeps_nothing(adapters: AdapterSet, tmp_path: Path) -> None:
    async def test() -> None:
        host = Host()
        host.may_attach.clear()
        loading = asyncio.create_task(adapters.load(*spec("a", write_adapter(tmp_path)), host))
        await host.waits.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert not host.attached
        host.may_attach.set()
        await adapters.load(*spec("a", tmp_path), host)

    run(test)


def test_a_model_that_is_closed_takes_what_comes_no_more(
    adapters: AdapterSet, tmp_path: Path
) -> None:
    async def test() -> None:
        host = Host()
        host.may_attach.clear()
        loading = asyncio.create_task(adapters.load(*spec("a", write_adapter(tmp_path)), host))
        await host.waits.wait()
        adapters.close()
        host.may_attach.set()
        with pytest.raises(ModelUnloaded):
            await loading
        assert not host.attached
        assert adapters.infos == ()

    run(test)


def test_unloading_waits_for_those_that_run_and_takes_no_more(
    adapters: AdapterSet, tmp_path: Path
) -> None:
    async def test() -> None:
        host, folder = Host(), write_adapter(tmp_path)
        await adapters.load(*spec("a", folder), host)
        first, second, plain = job("a"), job("a"), job(None)
        assert adapters.begin(first)
        assert adapters.begin(second)
        assert adapters.begin(plain)
        assert first.adapter_id in host.attached
        assert plain.adapter_id == 0
        waiting = [asyncio.create_task(adapters.unload("a", host)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # who asked is gone; the other still waits
        done = asyncio.Event()
        late = job("a", on_done=done.set)
        assert not adapters.begin(late)
        await done.wait()
        assert isinstance(late.mailbox.terminal, Failed)
        assert isinstance(late.mailbox.terminal.error, ModelUnloaded)
        with pytest.raises(InvalidRequest):
            adapters.check([GenerationRequest("id", "text", adapter="a")])
        adapters.end(plain)
        adapters.end(first)
        await asyncio.sleep(0)
        assert host.attached
        assert not waiting[1].done()
        adapters.end(second)
        await waiting[1]
        assert not host.attached
        await adapters.unload("a", host)
        info = await adapters.load(*spec("a", folder), host)
        assert adapters.infos == (info,)
        anew = job("a")
        assert adapters.begin(anew)
        assert anew.adapter_id != first.adapter_id, "the same name, another adapter"

    run(test)


def test_a_pace_rests_longer_than_it_works() -> None:
    now, slept = [0.0], list[float]()
    pace = Pace(lambda: now[0], slept.append)
    for worked in (0.25, 0.0, 1.0):
        now[0] += worked
        pace()
    assert slept == [0.75, 0.0, 3.0]
